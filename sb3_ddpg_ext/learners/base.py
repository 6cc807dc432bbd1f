"""The interface of learners, and the settings of their updates."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch as th

from sb3_ddpg_ext.batch import Batch, Sequences
from sb3_ddpg_ext.kinds import Kinds
from sb3_ddpg_ext.networks import Snapshot
from sb3_ddpg_ext.policies import DDPGPolicy
from sb3_ddpg_ext.validation import LARGEST, check_choice, check_integer, check_real, is_subclass


@dataclass(frozen=True)
class UpdateSettings:
    """
    The settings of an update. The defaults are DDPG's. :class:`~sb3_ddpg_ext.DDPG` has an argument for each of them.

    :param tau: coefficient of the soft target update, 0 (targets stay) to 1 (targets are copies)
    :param policy_delay: updates of the critic for each of the actor; 1 is DDPG
    :param target_policy_noise: standard deviation of the noise on the target actions; 0 is DDPG
    :param target_noise_clip: bound of that noise
    :param target_update_interval: updates of the critic for each of the targets; None for ``policy_delay``
    :param max_grad_norm: largest norm of the gradient of each network; None for no bound
    :param precision: ``"float32"``, or ``"bf16"`` for matrix products in bfloat16
    :raises ValueError: for a value outside what is allowed
    :raises TypeError: for a value of the wrong type
    """

    tau: float = 0.005
    policy_delay: int = 1
    target_policy_noise: float = 0.0
    target_noise_clip: float = 0.5
    target_update_interval: int | None = None
    max_grad_norm: float | None = None
    precision: str = "float32"

    def __post_init__(self) -> None:
        checked: dict[str, Any] = dict(
            tau=check_real("tau", self.tau, 0, 1),
            policy_delay=check_integer("policy_delay", self.policy_delay, at_least=1),
            target_policy_noise=check_real("target_policy_noise", self.target_policy_noise, 0, LARGEST),
            target_noise_clip=check_real("target_noise_clip", self.target_noise_clip, 0, LARGEST),
        )
        if self.target_update_interval is not None:
            interval = check_integer("target_update_interval", self.target_update_interval, at_least=1)
            checked["target_update_interval"] = interval
        if self.max_grad_norm is not None:
            checked["max_grad_norm"] = check_real("max_grad_norm", self.max_grad_norm, low=0, above=True)
        check_choice("precision", self.precision, ["float32", "bf16"])
        self.__dict__.update(checked)

    @classmethod
    def of(cls, owner: Any) -> "UpdateSettings":
        """:param owner: an object that has them as attributes"""
        return cls(**{name: getattr(owner, name) for name in SETTINGS})

    def are_of(self, owner: Any) -> bool:
        """:return: whether ``owner`` has these values, which takes less time than :meth:`of`"""
        return all(getattr(owner, name) == mine for name, mine in self.__dict__.items())


SETTINGS = tuple(field.name for field in fields(UpdateSettings))


class Learner(ABC):
    """
    One gradient step of critic and actor, then the soft update of both targets.

    With every learner the parameters stay in the policy's modules, and Adam's moments in its optimisers. So saving, acting and
    a change of learner need nothing from it. It is made anew at each ``learn()``: what a learner of your own counts or
    averages beside them goes on if :meth:`state` and :meth:`restore` hand it over.

    :param policy: holds actor, critic, their targets and optimisers; changed in place
    :param settings: of the updates; they may be replaced between two updates
    """

    needs_modes: ClassVar[bool] = True  # whether its networks may behave differently in training and evaluation
    n_threads: int | None = None  # of a learner with threads of its own; None for what is fastest

    def __init__(self, policy: DDPGPolicy, settings: UpdateSettings | None = None):
        self.policy = policy
        self.settings = UpdateSettings() if settings is None else settings
        self.n_updates = 0
        self.errors: th.Tensor | None = None  # of the last batch, shape (batch,), for the priorities of its transitions

    @property
    def autocast(self) -> Any:
        """A context for matrix products in bfloat16 on a GPU. On the CPU ``TorchSettings`` does it, in less time."""
        casts = self.settings.precision == "bf16" and self.policy.device.type != "cpu"
        return th.autocast(self.policy.device.type, th.bfloat16) if casts else nullcontext()

    @classmethod
    @abstractmethod
    def reason_against(cls, policy: DDPGPolicy, settings: UpdateSettings) -> str | None:
        """Say why this learner cannot train ``policy``; None if it can."""

    @abstractmethod
    def update(self, batch: Batch | Sequences) -> dict[str, Any]:
        """
        :param batch: N transitions (s_i, a_i, r_i, s_i+1), or sequences for a recurrent policy
        :return: the losses, numbers or scalar tensors; ``actor_loss`` only where the actor was updated
        """

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` takes: numbers, arrays, tensors. It is kept in checkpoints, not in the file of a model."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:  # noqa: B027  # nothing to do for most
        """
        Go on, before the first update.

        :param state: what :meth:`state` of a learner of the same kind gave
        """

    @property
    def has_own_threads(self) -> bool:
        """Whether its updates are by threads of its own, so that torch needs one."""
        return False

    @property
    def updates_actor(self) -> bool:
        """Whether the present update, the ``n_updates``-th, has the actor's step."""
        return self.n_updates % self.settings.policy_delay == 0

    @property
    def updates_targets(self) -> bool:
        """Whether it moves the targets."""
        return self.n_updates % (self.settings.target_update_interval or self.settings.policy_delay) == 0

    def clip(self, parameters: Iterable[th.Tensor]) -> None:
        """Scale the gradients of one network down to ``max_grad_norm``."""
        if self.settings.max_grad_norm is not None:
            th.nn.utils.clip_grad_norm_(parameters, self.settings.max_grad_norm)

    def smooth(self, next_actions: th.Tensor) -> th.Tensor:
        """Target policy smoothing: clipped noise on mu'(s'), Fujimoto et al. (2018), eq. 14. The identity by default."""
        noise = self.smoothing(next_actions)
        return next_actions if noise is None else (next_actions + noise).clamp_(-1, 1)

    def smoothing(self, like: th.Tensor) -> th.Tensor | None:
        """That noise, of the shape, type and device of ``like``; None for none."""
        std, bound = self.settings.target_policy_noise, self.settings.target_noise_clip
        if std == 0 or bound == 0:
            return None
        return th.empty_like(like, memory_format=th.contiguous_format).normal_(0, std).clamp_(-bound, bound)


AUTO = "auto"
LEARNERS: Kinds[Learner] = Kinds(
    '"auto", the name of a learner, or a subclass of Learner',
    accepts=lambda spec: is_subclass(spec, Learner) and not inspect.isabstract(spec),
    by_the_library=("policy", "settings"),
    reserved=(AUTO,),
)


class PolicyTensors:
    """
    The parameters and buffers of a policy's networks, and those of the targets in the same order.

    A features extractor that actor and critic share is one set of tensors: a dict keeps it once, in order. What online
    networks and targets share, such as running statistics of observations or, without targets, everything, is left out.
    """

    def __init__(self, policy: DDPGPolicy):
        online, target = (policy.critic, policy.actor), (policy.critic_target, policy.actor_target)
        self.of_actor = list(policy.actor.parameters())
        self.all_parameters: list[th.Tensor] = list(dict.fromkeys(p for net in online for p in net.parameters()))
        self.target_parameters, self.parameters = _pairs(target, online, th.nn.Module.parameters)
        self.target_buffers, self.buffers = _pairs(target, online, th.nn.Module.buffers)
        self._snapshot = Snapshot(*online, *target)
        modules = [module for net in (*online, *target) for module in net.modules()]
        self._kept = [(module._buffers, name, buffer) for module in modules for name, buffer in module._buffers.items()]

    @property
    def all_buffers(self) -> list[th.Tensor]:
        return [buffer for _, _, buffer in self._kept if buffer is not None]

    def are_current(self) -> bool:
        """Whether no module, parameter or buffer was replaced since."""
        return self._snapshot.has_the_same_modules() and all(of.get(name) is buffer for of, name, buffer in self._kept)


def _pairs(target: Iterable[Any], online: Iterable[Any], of: Callable) -> tuple[list[th.Tensor], list[th.Tensor]]:
    """The tensors of the targets, and the tensors that they follow, in the same order."""
    pairs = {mine: other for a, b in zip(target, online, strict=True) for mine, other in zip(of(a), of(b), strict=True)}
    pairs = {mine: other for mine, other in pairs.items() if mine is not other}
    return list(pairs), list(pairs.values())


def settle_optimizer(optimizer: th.optim.Optimizer) -> None:
    """Let Adam take all parameters at once (the same numbers in less time) and count its steps where it expects them."""
    for group in optimizer.param_groups:
        if type(optimizer) is th.optim.Adam and group["foreach"] is None and not group["fused"]:
            group["foreach"] = True
    for state in optimizer.state.values():
        if th.is_tensor(state.get("step")) and not optimizer.param_groups[0].get("capturable"):
            state["step"] = state["step"].cpu()  # a recorded graph leaves it on the GPU
