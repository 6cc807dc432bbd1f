"""What every learner is: one gradient step on a batch."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any, ClassVar

import torch as th

from sb3_ddpg_ext.batch import Batch
from sb3_ddpg_ext.networks import Snapshot
from sb3_ddpg_ext.policies import DDPGPolicy


class Learner(ABC):
    """
    One gradient step of critic and actor, then the soft update of both targets.

    The parameters stay in the policy's modules and Adam's moments in its optimisers, whatever the learner: saving, acting and
    a change of learner need nothing from it.

    :param policy: holds actor, critic, their targets and optimisers; changed in place
    :param tau: coefficient of the soft target update, 0 (targets stay) to 1 (targets are copies)
    :param policy_delay: updates of the critic for each of the actor; 1 is DDPG
    :param target_update_interval: updates of the critic for each of the targets; None for ``policy_delay``
    :param target_policy_noise: standard deviation of the noise on the target actions; 0 is DDPG
    :param target_noise_clip: bound of that noise
    :param max_grad_norm: largest norm of the gradient of each network; None for no bound
    :param precision: ``"float32"``, or ``"bf16"`` for matrix products in bfloat16
    """

    name: ClassVar[str]
    needs_modes: ClassVar[bool] = True  # whether its networks may behave differently in training and evaluation

    def __init__(
        self,
        policy: DDPGPolicy,
        tau: float,
        policy_delay: int = 1,
        target_policy_noise: float = 0.0,
        target_noise_clip: float = 0.5,
        target_update_interval: int | None = None,
        max_grad_norm: float | None = None,
        precision: str = "float32",
    ):
        self.policy = policy
        self.tau = tau
        self.policy_delay = policy_delay
        self.target_policy_noise = target_policy_noise
        self.target_noise_clip = target_noise_clip
        self.target_update_interval = target_update_interval
        self.max_grad_norm = max_grad_norm
        self.precision = precision
        casts = precision == "bf16" and policy.device.type != "cpu"  # where TorchSettings does it, in less time
        self.autocast: Any = th.autocast(policy.device.type, th.bfloat16) if casts else nullcontext()
        self.n_updates = 0
        self.errors: th.Tensor | None = None  # of the last batch, shape (batch,), for the priorities of its transitions

    @classmethod
    @abstractmethod
    def refusal(cls, policy: DDPGPolicy, precision: str) -> str | None:
        """Why this learner cannot train ``policy``, or None if it can."""

    @abstractmethod
    def update(self, batch: Batch) -> dict[str, th.Tensor]:
        """
        :param batch: N transitions (s_i, a_i, r_i, s_i+1)
        :return: the losses, as scalar tensors on the policy's device; ``actor_loss`` only where the actor was updated
        """

    @property
    def updates_actor(self) -> bool:
        """Whether the present update, the ``n_updates``-th, has the actor's step."""
        return self.n_updates % self.policy_delay == 0

    @property
    def updates_targets(self) -> bool:
        """Whether it moves the targets."""
        return self.n_updates % (self.target_update_interval or self.policy_delay) == 0

    def clip(self, parameters: Iterable[th.Tensor]) -> None:
        """Scale the gradients of one network down to ``max_grad_norm``."""
        if self.max_grad_norm is not None:
            th.nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)

    def smooth(self, next_actions: th.Tensor) -> th.Tensor:
        """Target policy smoothing: clipped noise on mu'(s'), Fujimoto et al. (2018), eq. 14. The identity by default."""
        if self.target_policy_noise == 0 or self.target_noise_clip == 0:
            return next_actions
        noise = th.empty_like(next_actions, memory_format=th.contiguous_format).normal_(0, self.target_policy_noise)
        return (next_actions + noise.clamp_(-self.target_noise_clip, self.target_noise_clip)).clamp_(-1, 1)


class Tensors:
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
        self.snapshot = Snapshot(*online, *target)


def _pairs(target: Iterable[Any], online: Iterable[Any], of: Callable) -> tuple[list[th.Tensor], list[th.Tensor]]:
    """Tensors of the targets, and those that they follow."""
    pairs = {mine: other for a, b in zip(target, online, strict=True) for mine, other in zip(of(a), of(b), strict=True)}
    pairs = {mine: other for mine, other in pairs.items() if mine is not other}
    return list(pairs), list(pairs.values())


def settle_optimizer(optimizer: th.optim.Optimizer) -> None:
    """Let Adam take all parameters at once (the same numbers in less time) and count its steps where it expects them."""
    for group in optimizer.param_groups:
        if type(optimizer) is th.optim.Adam and group["foreach"] is None and not group["fused"]:
            group["foreach"] = True
    for state in optimizer.state.values():
        if isinstance(state.get("step"), th.Tensor) and not optimizer.param_groups[0].get("capturable"):
            state["step"] = state["step"].cpu()  # a recorded graph leaves it on the GPU
