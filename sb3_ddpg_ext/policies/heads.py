"""What the outputs of a critic's network mean: a value, or a distribution of returns."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch as th
from torch import nn
from torch.nn import functional as F

from sb3_ddpg_ext.kinds import Kinds
from sb3_ddpg_ext.networks import PopArt
from sb3_ddpg_ext.validation import LARGEST, check_integer, check_real, naming

MAX_OUTPUTS = 10**4  # of a network
SMALLEST = 1e-30  # distance of atoms that float32 can divide by
Range = tuple[Any, Any] | None  # numbers or scalar tensors
Loss = Callable[..., th.Tensor]  # of outputs and targets of one shape, with reduction="none"; as in torch.nn.functional
LOSSES: Kinds[Loss] = Kinds(
    'a kind, or a function loss(outputs, target, reduction="none") as torch.nn.functional has them', accepts=callable
)
LOSSES.register("mse")(lambda: F.mse_loss)
LOSSES.register("huber")(lambda: F.huber_loss)


@th.enable_grad()
def check_loss(name: str, loss: Loss) -> None:
    """
    :param name: of the argument, for the error
    :param loss: is tried on two numbers
    :raises ValueError: if that fails, or what it gives is no loss of each
    :raises TypeError: if that fails because of a type
    """
    outputs, targets = th.tensor([[-1.0], [2.0]], requires_grad=True), th.tensor([[0.5], [-3.0]])
    with naming(name, loss, LOSSES.forms):
        losses = loss(outputs, targets, reduction="none")
        if losses.shape != outputs.shape or not (losses.requires_grad and losses.isfinite().all()):
            raise ValueError(f"it gave {losses} for the shape {tuple(outputs.shape)}")


class Head(nn.Module, ABC):
    """
    From a network's outputs, (batch, n_outputs), to a prediction of the return, and back to a loss.

    :param n_outputs: of the network
    """

    def __init__(self, n_outputs: int):
        super().__init__()
        self.n_outputs = n_outputs

    @abstractmethod
    def predict(self, outputs: th.Tensor) -> th.Tensor:
        """The predicted return or its distribution, of shape (batch, n_outputs)."""

    @abstractmethod
    def mean(self, prediction: th.Tensor) -> th.Tensor:
        """Its expectation, of shape (batch, 1)."""

    @abstractmethod
    def backup(self, rewards: th.Tensor, discounts: th.Tensor, prediction: th.Tensor, clamp: Range) -> th.Tensor:
        """
        The prediction from one step earlier.

        :param rewards: of shape (batch, 1)
        :param discounts: of shape (batch, 1), 0 after a termination
        :param prediction: of the next state and action
        :param clamp: the range of returns, or None
        """

    def adopt(self, target: th.Tensor) -> None:
        """Let the scale of the outputs follow the targets, where it is not fixed."""

    @abstractmethod
    def losses(self, outputs: th.Tensor, target: th.Tensor) -> th.Tensor:
        """
        Of each transition, shape (batch, 1).

        :param target: what :meth:`backup` gave
        """

    def errors(self, outputs: th.Tensor, target: th.Tensor) -> th.Tensor:
        """How surprising each transition is, for prioritised replay: shape (batch, 1), >= 0."""
        return self.losses(outputs, target)


HEADS: Kinds[Head] = Kinds(
    "the kind of a critic, a dict(kind=..., ...) with the arguments of its class, or a Head of sb3_ddpg_ext.policies.heads",
    accepts=lambda spec: isinstance(spec, Head),
    by_the_library=("loss", "popart"),
)


@HEADS.register("scalar")
class Scalar(Head):
    """
    The expected return itself.

    :param loss: of elements, such as ``F.mse_loss`` or ``F.huber_loss``, which is linear beyond 1
    :param popart: the scale of the outputs; None for that of returns
    """

    def __init__(self, loss: Loss = F.mse_loss, popart: PopArt | None = None):
        super().__init__(1)
        self.error, self.popart = loss, popart

    def predict(self, outputs: th.Tensor) -> th.Tensor:
        return outputs if self.popart is None else self.popart(outputs)

    def mean(self, prediction: th.Tensor) -> th.Tensor:
        return prediction

    def backup(self, rewards: th.Tensor, discounts: th.Tensor, prediction: th.Tensor, clamp: Range) -> th.Tensor:
        target = rewards + discounts * prediction
        return target if clamp is None else target.clamp(*clamp)

    def adopt(self, target: th.Tensor) -> None:
        if self.popart is not None:
            self.popart.update(target)

    def losses(self, outputs: th.Tensor, target: th.Tensor) -> th.Tensor:
        return self.error(outputs, target if self.popart is None else self.popart.normalise(target), reduction="none")

    def errors(self, outputs: th.Tensor, target: th.Tensor) -> th.Tensor:
        return (outputs - (target if self.popart is None else self.popart.normalise(target))).abs()


@HEADS.register("quantile")
class Quantile(Scalar):
    """
    Quantiles of the return at (2i + 1) / 2n, learnt by the quantile Huber loss, Dabney et al. (2018), "Distributional
    Reinforcement Learning with Quantile Regression", eq. 10.

    :param n_quantiles: their number n
    :param kappa: where the Huber loss becomes linear, > 0
    :param popart: as in :class:`Scalar`
    """

    taus: Any

    def __init__(self, n_quantiles: int = 32, kappa: float = 1.0, popart: PopArt | None = None):
        super().__init__(popart=popart)
        self.n_outputs = check_integer("critic: n_quantiles", n_quantiles, 1, MAX_OUTPUTS)
        self.kappa = check_real("critic: kappa", kappa, 0, LARGEST, above=True)
        self.register_buffer("taus", (th.arange(self.n_outputs) + 0.5) / self.n_outputs, persistent=False)

    def mean(self, prediction: th.Tensor) -> th.Tensor:
        return prediction.mean(dim=1, keepdim=True)

    def losses(self, outputs: th.Tensor, target: th.Tensor) -> th.Tensor:
        target = target if self.popart is None else self.popart.normalise(target)
        error = target[:, None, :] - outputs[:, :, None]  # (batch, quantile, target's quantile)
        weight = (self.taus[:, None] - (error.detach() < 0).to(error.dtype)).abs()
        huber = F.huber_loss(error, th.zeros_like(error), reduction="none", delta=self.kappa) / self.kappa
        return (weight * huber).mean(dim=2).sum(dim=1, keepdim=True)

    errors = Head.errors


@HEADS.register("categorical")
class Categorical(Head):
    """
    Probabilities of returns on a fixed grid of atoms, learnt by cross-entropy, Bellemare et al. (2017), "A Distributional
    Perspective on Reinforcement Learning", Algorithm 1.

    :param n_atoms: their number, >= 2
    :param v_min: the first atom, on the scale that the critic sees (see ``scale_returns``)
    :param v_max: the last atom
    """

    atoms: Any

    def __init__(self, n_atoms: int = 51, v_min: float = -10.0, v_max: float = 10.0):
        super().__init__(check_integer("critic: n_atoms", n_atoms, 2, MAX_OUTPUTS))
        self.v_min = check_real("critic: v_min", v_min, -LARGEST, LARGEST)
        self.v_max = check_real("critic: v_max", v_max, -LARGEST, LARGEST)
        if self.v_min >= self.v_max:
            raise ValueError(f"critic: v_min={v_min!r} must be less than v_max={v_max!r}")
        if (self.v_max - self.v_min) / self.n_outputs < SMALLEST:
            raise ValueError(f"critic: v_min={v_min!r} must be further from v_max={v_max!r} for n_atoms={n_atoms!r}")
        self.register_buffer("atoms", th.linspace(self.v_min, self.v_max, self.n_outputs), persistent=False)

    def predict(self, outputs: th.Tensor) -> th.Tensor:
        return outputs.softmax(dim=1)

    def mean(self, prediction: th.Tensor) -> th.Tensor:
        return (prediction * self.atoms).sum(dim=1, keepdim=True)

    def backup(self, rewards: th.Tensor, discounts: th.Tensor, prediction: th.Tensor, clamp: Range) -> th.Tensor:
        returns = rewards + discounts * self.atoms  # (batch, n_atoms)
        return self.project(returns if clamp is None else returns.clamp(*clamp), prediction)

    def project(self, returns: th.Tensor, probabilities: th.Tensor) -> th.Tensor:
        """
        Share each probability between the two atoms that its return lies between, by distance.

        :param returns: of shape (batch, n); those outside the atoms count as the first or the last
        :param probabilities: of the same shape
        :return: probabilities of the atoms, of shape (batch, n_atoms)
        """
        n = self.n_outputs
        position = ((returns - self.v_min) * ((n - 1) / (self.v_max - self.v_min))).clamp(0, n - 1)
        lower = position.nan_to_num()  # NaN stays in the share
        lower = lower.floor_().clamp_(max=n - 2)  # so that the last atom is an upper one, with all of the weight
        share = position - lower
        lower = lower.long()
        projected = probabilities.new_zeros(len(returns), n)
        projected.scatter_add_(1, lower, probabilities * (1 - share))
        return projected.scatter_add_(1, lower + 1, probabilities * share)

    def losses(self, outputs: th.Tensor, target: th.Tensor) -> th.Tensor:
        return -(target * outputs.log_softmax(dim=1)).sum(dim=1, keepdim=True)

    def errors(self, outputs: th.Tensor, target: th.Tensor) -> th.Tensor:
        """The divergence KL(target || prediction), Hessel et al. (2018), "Rainbow", section 3."""
        return (self.losses(outputs, target) - th.special.entr(target).sum(dim=1, keepdim=True)).clamp_(min=0)


def make_head(spec: Any, loss: Any = "mse", popart: PopArt | None = None) -> Head:
    """
    :param spec: a kind of critic, a dict with a kind and its arguments, or a :class:`Head`, of which a copy is made
    :param loss: of a head that takes one: a kind of :data:`LOSSES`, or a function
    :param popart: the scale of the outputs of a head that takes it
    """
    loss = LOSSES.make("policy_kwargs['critic_loss']", loss)
    head = HEADS.make("policy_kwargs['critic']", spec, loss=loss, popart=popart)
    return copy.deepcopy(head) if head is spec else head


def head_takes(spec: Any, argument: str) -> bool:
    """
    :param spec: a kind of critic, or a dict with a kind; never an object, which has all that it needs
    :param argument: ``"loss"`` or ``"popart"``
    """
    kind = HEADS.kind_of(spec)
    return kind is not None and argument in HEADS.all_arguments_of(kind)
