"""Layers that torch does not have, and torch's own by the names that a YAML file can hold."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch as th
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from sb3_ddpg_ext.kinds import Kinds
from sb3_ddpg_ext.validation import LARGEST, check_real

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
}

MakeNorm = Callable[[int], nn.Module]  # from a number of features to the module that normalises them
NORMS: Kinds[MakeNorm | None] = Kinds(
    'a kind, dict(kind="layer", eps=1e-3) with the arguments of torch\'s class, or a function from a number of features to a '
    "module, such as a class of torch",
    accepts=callable,
)


@NORMS.register("none")
def no_norm() -> None:
    """No normalisation."""


@NORMS.register("layer")
def layer_norm(eps: float = 1e-5) -> MakeNorm:
    """LayerNorm, Ba et al. (2016)."""
    check_real("eps", eps, 0, LARGEST)
    return partial(nn.LayerNorm, eps=eps)


@NORMS.register("batch")
def batch_norm(eps: float = 1e-5, momentum: float | None = 0.1) -> MakeNorm:
    """BatchNorm, Ioffe & Szegedy (2015)."""
    check_real("eps", eps, 0, LARGEST)
    if momentum is not None:  # None for the mean over all batches
        check_real("momentum", momentum, 0, 1)
    return partial(nn.BatchNorm1d, eps=eps, momentum=momentum)


@NORMS.register("batch-renorm")
def batch_renorm() -> MakeNorm:
    """sb3-contrib's ``BatchRenorm1d`` (Ioffe 2017), as CrossQ uses it: momentum 0.01, plain BatchNorm for 100,000 updates."""
    from sb3_contrib.common.torch_layers import BatchRenorm1d

    return BatchRenorm1d


def make_norm(name: str, spec: Any) -> MakeNorm | None:
    """
    :param name: of the argument, for errors
    :param spec: what :data:`NORMS` takes
    :return: makes modules that :func:`is_norm` knows, whatever their class is; None for no normalisation
    """
    norm = NORMS.make(name, spec)
    return None if norm is None else partial(_marked, norm)


def _marked(norm: MakeNorm, n_features: int) -> nn.Module:
    module = norm(n_features)
    module.normalises = True  # type: ignore[assignment]
    return module


class ResidualBlock(nn.Module):
    """
    x + W2 relu(W1 norm(x)), the block of SimBa, Lee et al. (2025), "SimBa: Simplicity Bias for Scaling Up Parameters in Deep
    Reinforcement Learning", section 4.

    :param n_units: of input and output; four times as many are between
    :param activation_fn: class of the activation
    :param norm: makes the normalisation of a number of units
    :param dropout: share of the units between that are left out in training
    """

    def __init__(
        self,
        n_units: int,
        activation_fn: type[nn.Module] = nn.ReLU,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
        dropout: float = 0.0,
    ):
        super().__init__()
        between = [activation_fn(), *([nn.Dropout(dropout)] if dropout else [])]
        self.inside = nn.Sequential(norm(n_units), nn.Linear(n_units, 4 * n_units), *between, nn.Linear(4 * n_units, n_units))

    def forward(self, x: th.Tensor) -> th.Tensor:
        return x + self.inside(x)


class LateAction(nn.Module):
    """
    A critic's network into which the actions enter behind the first layers, Lillicrap et al. (2016), section 7.

    Its parts are the children ``0``, before the action, ``1``, from there on, and, where it has one, ``2``, the action's own
    branch.

    :param before: from the observations' features (batch, n_features) to (batch, h)
    :param after: from (batch, h + a), or (batch, h) of the sum, to the output
    :param branch: from the actions (batch, action_dim) to (batch, a); None for the actions themselves
    :param action_dim: number of action dimensions
    :param sums: add both, h = a, in place of putting them side by side
    """

    def __init__(self, before: nn.Module, after: nn.Module, branch: nn.Module | None, action_dim: int, sums: bool = False):
        super().__init__()
        self.action_dim, self.sums = action_dim, sums
        parts = [before, after] if branch is None else [before, after, branch]
        for i, part in enumerate(parts):
            self.add_module(str(i), part)

    def forward(self, x: th.Tensor) -> th.Tensor:
        """From features and actions side by side, (batch, n_features + action_dim)."""
        before, after, *branch = self.children()
        features, actions = x[:, : -self.action_dim], x[:, -self.action_dim :]
        features, actions = before(features), branch[0](actions) if branch else actions
        return after(features + actions if self.sums else th.cat([features, actions], dim=1))


def output_layer(network: nn.Module) -> nn.Linear:
    """The linear layer whose units are the outputs of a network that :class:`~sb3_ddpg_ext.networks.MLP` has built."""
    after = network.get_submodule("1") if isinstance(network, LateAction) else network
    return linear_layers(after)[-1]


def linear_layers(*networks: nn.Module) -> list[nn.Linear]:
    """:return: the linear layers in these networks, in order"""
    return [module for network in networks for module in network.modules() if isinstance(module, nn.Linear)]


class OutputNormalisation(nn.Module):
    """
    Scales down what goes into the actor's tanh, Wang et al. (2020), "Striving for Simplicity and Performance in Off-Policy
    DRL: Output Normalization and Non-Uniform Sampling", section 3.2: with G = mean over dimensions of abs(mu), mu beta / G
    where G > beta.

    :param beta: the mean magnitude it lets through, > 0
    """

    def __init__(self, beta: float = 1.0):
        super().__init__()
        self.beta = beta

    def forward(self, x: th.Tensor) -> th.Tensor:
        return x * (self.beta / x.abs().mean(dim=-1, keepdim=True).clamp(min=self.beta))

    def extra_repr(self) -> str:
        return f"beta={self.beta}"


class _InvertingGradients(th.autograd.Function):
    @staticmethod
    def forward(ctx: Any, p: th.Tensor) -> th.Tensor:
        ctx.save_for_backward(p)
        return p.clamp(-1, 1)

    @staticmethod
    def backward(ctx: Any, grad: th.Tensor) -> th.Tensor:  # type: ignore[override]
        (p,) = ctx.saved_tensors
        return grad * th.where(grad < 0, 1 - p, p + 1) / 2  # descending along a negative gradient increases p


class InvertingGradients(nn.Module):
    """
    The actor's last layer in place of tanh, Hausknecht & Stone (2016), "Deep Reinforcement Learning in Parameterized Action
    Space", section 5, eq. 11.

    The action is p clamped to [-1, 1]. The gradient that would increase p is multiplied by (1 - p) / 2, the one that would
    decrease it by (p + 1) / 2: it vanishes at the bound that it points to, and is inverted beyond. Unlike tanh's it never
    vanishes towards the inside.
    """

    def forward(self, p: th.Tensor) -> th.Tensor:
        return _InvertingGradients.apply(p) if p.requires_grad else p.clamp(-1, 1)


class _ActionGradientClip(th.autograd.Function):
    @staticmethod
    def forward(ctx: Any, actions: th.Tensor, max_norm: float) -> th.Tensor:
        ctx.max_norm = max_norm
        return actions.view_as(actions)

    @staticmethod
    def backward(ctx: Any, grad: th.Tensor) -> tuple[th.Tensor, None]:  # type: ignore[override]
        max_norm = ctx.max_norm / len(grad)  # the loss is a mean over the batch
        return grad * (max_norm / grad.norm(dim=1, keepdim=True).clamp(min=max_norm)), None


class ActionGradientClip(nn.Module):
    """
    The identity, whose gradient dQ/da is scaled down to a norm in each sample, as in D4PG's code by its authors (Acme).

    :param max_norm: of the gradient of one sample's Q, > 0
    """

    def __init__(self, max_norm: float):
        super().__init__()
        self.max_norm = max_norm

    def forward(self, actions: th.Tensor) -> th.Tensor:
        return _ActionGradientClip.apply(actions, self.max_norm)


def is_norm(module: nn.Module) -> bool:
    """
    Whether it was made as a normalisation. Otherwise, as in networks of a user's own, whether it is one of torch, or is named
    so and scales and shifts each feature.
    """
    if getattr(module, "normalises", False) or isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.RMSNorm | _NormBase):
        return True
    is_named_so = "norm" in type(module).__name__.lower()
    return is_named_so and all(parameter.ndim <= 1 for parameter in module.parameters(recurse=False))


def uses_batch_statistics(network: nn.Module) -> bool:
    """Whether there is BatchNorm or BatchRenorm in it."""
    return any(isinstance(module, _NormBase) or "BatchRenorm" in type(module).__name__ for module in network.modules())


@th.no_grad()
def check_network(network: nn.Module, n_inputs: int, n_outputs: int) -> None:
    """
    Try a network on one input and on two, without leaving a trace in its statistics.

    :raises ValueError: if it does not give finite numbers of shape (batch, n_outputs)
    """
    for n in (1, 2):
        with evaluating(network):
            outputs = network(th.linspace(-1, 1, n * n_inputs, dtype=next(network.parameters()).dtype).view(n, n_inputs))
        if outputs.shape != (n, n_outputs) or not outputs.isfinite().all():
            raise ValueError(f"it gave {outputs}, of which the shape must be {(n, n_outputs)}")


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """A context in which these networks use BatchNorm's running statistics, without changing them, and no dropout."""
    modules = [module for network in networks for module in network.modules() if module.training]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module in modules:
            module.training = True
