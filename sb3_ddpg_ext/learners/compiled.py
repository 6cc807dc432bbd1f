"""The same update in one call of a C library, for plain multilayer perceptrons on the CPU; see ``native/source/update.c``."""

import weakref
from typing import Any

import numpy as np
import torch as th
from torch import nn
from torch.nn import functional as F

from sb3_ddpg_ext import native
from sb3_ddpg_ext.batch import Batch
from sb3_ddpg_ext.learners.base import LEARNERS, UpdateSettings
from sb3_ddpg_ext.learners.linked import LinkedLearner, sequentials
from sb3_ddpg_ext.learners.tempo import Tempo
from sb3_ddpg_ext.networks import normed_layers
from sb3_ddpg_ext.policies import DDPGPolicy
from sb3_ddpg_ext.policies.heads import Categorical

MAX_PLANS = 12  # that are kept: for some sizes of batches, with some numbers of threads each
COMBINED = {"min": 0, "mean": 1, "first": 2}  # of several critics; the library's numbers for them
WIDTHS = (64, 32, 16)  # of blocks: transitions that are worked on together


@LEARNERS.register("compiled")
class CompiledLearner(LinkedLearner):
    """
    The update of :class:`EagerLearner` in C, which keeps what it works with in the processor's registers and caches.

    The numbers are the same for any number of threads. Without ``n_threads`` their number is what is fastest at the time.
    """

    name = "compiled"

    @classmethod
    def reason_against(cls, policy: DDPGPolicy, settings: UpdateSettings) -> str | None:
        type_name = native.TYPE_NAMES.get(str(next(policy.actor.parameters()).dtype))
        if type_name is None:
            return f"parameters are of {next(policy.actor.parameters()).dtype}"
        if native.library(type_name) is None:
            return "the package was installed without its compiled library"
        if settings.precision == "bf16" and _library(type_name, settings) is None:
            return (
                f"precision='bf16' needs parameters of float32, not of {type_name}, and a processor that is fast with it, for "
                "which the library was built"
            )
        if (reason := super().reason_against(policy, settings)) is not None:
            return reason
        n_layers = max(len(normed_layers(net)) for net in sequentials(policy))
        n_groups = max(len(net.optimizer.param_groups) for net in (policy.actor, policy.critic))
        sizes = ((n_layers, native.MAX_LAYERS, "layers"), (policy.critic.n_critics, native.MAX_CRITICS, "critics"),
                 (n_groups, native.MAX_GROUPS, "groups in an optimiser"))  # fmt: skip
        return next((f"{n} {what}: it is made for {most}" for n, most, what in sizes if n > most), None)

    @property
    def has_own_threads(self) -> bool:
        return self.eager is None

    def _is_linked(self) -> bool:
        return super()._is_linked() and self.settings.precision == self.precision  # the settings may have changed

    def _link(self) -> None:
        super()._link()
        policy = self.policy
        self.dtype = self.online.values.dtype
        self.precision = self.settings.precision
        self.library: Any = _library(native.TYPE_NAMES[str(self.dtype)], self.settings)
        self.plans: dict[tuple[int, int], _Plan] = {}  # for each size of a batch and number of threads
        self.tempo: dict[int, Tempo] = {}  # for each size of a batch
        self.step = native.Step()
        self.step_for: UpdateSettings | None = None  # the settings that are in it
        options, head = policy.critic.options, policy.critic.head
        if type(head) is Categorical:
            self.step.atoms = head.atoms.data_ptr()
            self.step.lowest_atom = head.v_min
            self.step.atoms_per_return = (head.n_outputs - 1) / (head.v_max - head.v_min)
        low, high = options.target_q_range or (-np.inf, np.inf)
        self.target_q_range = low, high
        self.step.loss = int(getattr(head, "error", None) is F.huber_loss)
        self.step.backup = COMBINED[options.backup]
        self.step.objective = COMBINED[options.objective]
        self.step.action_l2 = self.action_l2

    def _update(self, batch: Batch) -> dict[str, Any]:  # type: ignore[override]
        n, step, settings = len(batch.actions), self.step, self.settings
        tempo = self.tempo.get(n)
        if tempo is None:
            tempo = self.tempo[n] = Tempo(self._n_products() * n)
        n_threads = tempo.begin() if self.n_threads is None else self.n_threads
        plan = self.plans.get((n, n_threads))
        if plan is None:
            if len(self.plans) == MAX_PLANS:
                del self.plans[next(iter(self.plans))]
            plan = self.plans[n, n_threads] = _Plan(self, n, n_threads)
        if self.step_for is not settings:
            self._set(settings)
        plan.follow()
        scaler = self.policy.critic_target.return_scaler
        factor = 1.0 if scaler is None else float(scaler.factor)
        step.reward_factor = factor
        step.lowest, step.highest = self.target_q_range[0] * factor, self.target_q_range[1] * factor
        step.n_threads = n_threads
        step.updates_actor, step.updates_targets = self.updates_actor, self.has_targets and self.updates_targets
        observations = self._rows_of("observations", self._flat(batch.observations), n, plan.n_obs)
        next_observations = self._rows_of("next_observations", self._flat(batch.next_observations), n, plan.n_obs)
        actions = self._rows_of("actions", batch.actions, n, plan.n_actions)
        rewards, dones = self._rows_of("rewards", batch.rewards, n, 1), self._rows_of("dones", batch.dones, n, 1)
        discounts = self._rows_of("discounts", batch.discounts, n, 1)
        step.observations, step.observations_row = observations.data_ptr(), observations.stride(0)
        step.next_observations, step.next_observations_row = next_observations.data_ptr(), next_observations.stride(0)
        step.actions, step.actions_row = actions.data_ptr(), actions.stride(0)
        step.rewards, step.rewards_row = rewards.data_ptr(), rewards.stride(0)
        step.dones, step.dones_row = dones.data_ptr(), dones.stride(0)
        step.discounts, step.discounts_row = discounts.data_ptr(), discounts.stride(0)
        weights = None if batch.weights is None else self._rows_of("weights", batch.weights, n, 1).contiguous()
        smoothing = self.smoothing(actions)
        self.errors = None if batch.indices is None else th.empty(n, dtype=self.dtype)
        step.weights = None if weights is None else weights.data_ptr()
        step.smoothing = None if smoothing is None else smoothing.data_ptr()
        step.errors = None if self.errors is None else self.errors.data_ptr()
        self.library.plan_update(plan.address, step)
        if self.n_threads is None:
            tempo.end()
        losses = {"critic_loss": step.critic_loss}
        if step.updates_actor:
            losses["actor_loss"] = step.actor_loss
        return losses

    def _n_products(self) -> float:
        """Multiply-adds for each transition of an update: about three passes forward, and two backward."""
        nets = (self.policy.actor.mu, *self.policy.critic.q_networks)
        return 5 * sum(layer.linear.weight.numel() for net in nets for layer in normed_layers(net) if layer.linear is not None)

    def _set(self, settings: UpdateSettings) -> None:
        self.step.tau = settings.tau
        self.step.largest_norm = -1.0 if settings.max_grad_norm is None else settings.max_grad_norm
        self.step_for = settings

    def _rows_of(self, name: str, tensor: th.Tensor, n: int, width: int) -> th.Tensor:
        """Of shape (n, width), in the networks' type, each row in one piece: C asks nobody how much there is."""
        if tensor.dtype is not self.dtype:
            tensor = tensor.to(self.dtype)
        if tensor.shape != (n, width):
            tensor = tensor.expand(n, width)  # as torch does between tensors, or an error that names the sizes
        if not tensor.is_cpu:
            raise ValueError(f"{name} of the batch must be on the CPU, not on {tensor.device}")
        return tensor if width == 1 or tensor.stride(1) == 1 else tensor.contiguous()


class _Plan:
    """What the library has made for batches of n, in blocks that so many threads can share."""

    def __init__(self, learner: CompiledLearner, n: int, n_threads: int):
        policy, given = learner.policy, native.Plan()
        critic_groups, actor_groups = (_groups_of(net.optimizer) for net in (policy.critic, policy.actor))
        native.describe(given.actor, normed_layers(policy.actor.mu))
        native.describe(given.actor_target, normed_layers(policy.actor_target.mu))
        _fill_groups(given.actor_groups, policy.actor.mu, actor_groups)
        for i, (net, target) in enumerate(zip(policy.critic.q_networks, policy.critic_target.q_networks, strict=True)):
            native.describe(given.critics[i], normed_layers(net))
            if learner.has_targets:
                native.describe(given.critics_target[i], normed_layers(target))
            _fill_groups(given.critic_groups[i], net, critic_groups)
        for side, adam in ((given.of_critics, learner.critic_adam), (given.of_actor, learner.actor_adam)):
            for name in ("values", "gradients", "averages", "squares", "steps"):
                setattr(side.adam, name, getattr(adam, name).data_ptr())
            side.adam.n_steps = len(adam.steps)
        given.n_critics, given.n, given.is_joint = policy.critic.n_critics, n, not learner.has_targets
        given.targets_of_batch = learner.targets_of_batch
        given.width = next((width for width in WIDTHS if width * n_threads <= n), WIDTHS[-1])
        given.n_obs, given.n_actions = given.actor.layers[0].n_in, int(np.prod(policy.action_space.shape))
        self.n_obs, self.n_actions = given.n_obs, given.n_actions
        given.actor.layers[given.actor.n_layers - 1].penalty = 2 * learner.preactivation_penalty / (n * self.n_actions)
        self.address = learner.library.plan_new(given)
        if self.address is None:
            raise MemoryError(f"no memory for an update with batch_size={n}")
        weakref.finalize(self, learner.library.plan_free, self.address)
        here = native.Plan.from_address(self.address)
        self.groups = [
            (of_torch, side.adam.groups[i])
            for net, side in ((policy.critic, here.of_critics), (policy.actor, here.of_actor))
            for i, of_torch in enumerate(net.optimizer.param_groups)
        ]
        networks = (here.actor, here.actor_target, *here.critics[: given.n_critics], *here.critics_target[: given.n_critics])
        self.norms = [
            (layer.norm, own.layers[i])
            for net, own in zip(sequentials(policy), networks, strict=True)
            for i, layer in enumerate(normed_layers(net))
            if layer.norm is not None
        ]

    def follow(self) -> None:
        """Take over learning rates, momenta and the like, which may have changed."""
        for of_torch, own in self.groups:
            own.lr = of_torch["lr"]
            own.beta1, own.beta2 = of_torch["betas"]
            own.epsilon, own.weight_decay = of_torch["eps"], of_torch["weight_decay"]
            own.is_decoupled = of_torch["decoupled_weight_decay"]
        for norm, of_norm in self.norms:
            of_norm.epsilon = norm.eps
            if isinstance(norm, nn.BatchNorm1d):
                of_norm.momentum = native.momentum_of(norm)


def _library(type_name: str, settings: UpdateSettings) -> Any:
    """For these numbers, and rounded ones where they are wanted; None if there is none."""
    if settings.precision == "bf16":
        return native.library("bf16") if type_name == "float" else None
    return native.library(type_name)


def _groups_of(optimizer: th.optim.Optimizer) -> dict[int, int]:
    """The number of the group of each parameter."""
    return {id(p): i for i, group in enumerate(optimizer.param_groups) for p in group["params"]}


def _fill_groups(groups: Any, net: nn.Module, of: dict[int, int]) -> None:
    for own, layer in zip(groups, normed_layers(net), strict=False):
        for i, parameter in enumerate(layer.parameters()):
            if parameter is not None:
                own[i] = of[id(parameter)]
