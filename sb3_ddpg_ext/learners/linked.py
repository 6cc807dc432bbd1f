"""What the learners have in common that know the networks' gradients, and have no need of autograd."""

import warnings
from abc import abstractmethod
from dataclasses import fields
from itertools import chain
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np
import torch as th
from torch import nn
from torch.nn import functional as F

from sb3_ddpg_ext.batch import Batch
from sb3_ddpg_ext.learners.base import Learner, PolicyTensors, UpdateSettings
from sb3_ddpg_ext.learners.eager import EagerLearner
from sb3_ddpg_ext.learners.flat import Flat, FlatAdam
from sb3_ddpg_ext.networks import (
    Layer,
    NotPlain,
    Snapshot,
    normalise,
    normed_layers,
    replaced_methods,
    statistics_of,
    without_normaliser,
)
from sb3_ddpg_ext.observations import parts_of
from sb3_ddpg_ext.policies import Actor, Critic, DDPGPolicy
from sb3_ddpg_ext.policies.acting import is_preprocessed, joins
from sb3_ddpg_ext.policies.critics import JointCritic
from sb3_ddpg_ext.policies.heads import Categorical, Head, Scalar
from sb3_ddpg_ext.policies.options import PENALTIES, Options

LOSSES = (F.mse_loss, F.huber_loss)  # of a scalar critic, whose derivatives are known
METHODS = ("actor_loss", "unrolled", "set_training_mode")  # of a policy, which an eager update calls and this one does not
DEFAULTS = {field.name: field.default for field in fields(Options)}  # a subclass may have others
# The options that are not refused by their name. What most of them change is looked at as it is: layers, initial weights, the
# optimiser, running statistics, the target. Where that has no gradients here, it is refused by what it is: a LateAction, a
# ResidualBlock, dropout, a last layer other than Tanh, PopArt, quantiles. Four of them change a loss, and their gradients are
# written out: action_l2, preactivation_penalty, critic_loss, objective. q_filter is nothing without behaviour_cloning, and
# actor_average follows the actor after an update.
WRITTEN_OUT = frozenset(
    ("actor_norm", "critic_norm", "target_statistics", "input_norm", "norm_after_action", "init", "last_init", "residual",
     "action_layer", "action_branch", "action_join", "critic_dropout", "normalize_observations", "scale_returns", "popart",
     "critic", "critic_loss", "backup", "objective", "target_q_range", "target_networks", "critic_weight_decay",
     "decoupled_weight_decay", "inverting_gradients", "output_norm", "action_l2", "preactivation_penalty", "q_filter",
     "actor_average")
)  # fmt: skip


class LinkedLearner(Learner):
    """
    A learner for plain multilayer perceptrons on the CPU, whose parameters, targets and Adam's moments become views of flat
    tensors.
    """

    needs_modes = False  # BatchNorm is in training here, or in evaluation, as an update has it, whatever its mode is
    name: ClassVar[str]  # for warnings

    def __init__(self, policy: DDPGPolicy, settings: UpdateSettings | None = None):
        super().__init__(policy, settings)
        self.memory: tuple[Flat | FlatAdam, ...] = ()  # none before the first update
        self.eager: EagerLearner | None = None  # takes over when something has come that this one cannot do

    @classmethod
    def reason_against(cls, policy: DDPGPolicy, settings: UpdateSettings) -> str | None:
        if policy.device.type != "cpu":
            return f"the model is on {policy.device}, not on the CPU"
        if is_preprocessed(policy.observation_space, policy.normalize_images):
            return f"observations are preprocessed: {policy.observation_space}"
        nets: list[Any] = list(dict.fromkeys((policy.actor, policy.critic, policy.actor_target, policy.critic_target)))
        for net in nets:
            expected: tuple[type, ...] = (Critic, JointCritic) if net in (policy.critic, policy.critic_target) else (Actor,)
            if type(net) not in expected:
                return f"{type(net).__name__} is not the {expected[0].__name__} whose gradients are written out"
            extractor, _ = without_normaliser(net.features_extractor)
            if not joins(extractor):
                return f"{type(extractor).__name__} extracts features"
            if not all(p.requires_grad for p in net.parameters()):
                return f"parameters of {type(net).__name__} are frozen"
            if any(p.is_shared() for p in net.parameters()):
                return f"parameters of {type(net).__name__} are shared with other processes"
        reason = _of_methods(policy, nets) or _of_head(policy.critic.head)
        reason = reason or _of_options(policy) or _of_sharing(nets) or _of_targets(policy)
        if reason is not None:
            return reason
        try:
            layers = [normed_layers(net) for net in sequentials(policy)]
        except NotPlain as error:
            return str(error)
        if (reason := _of_shapes(policy, layers)) is not None:
            return reason
        if not Snapshot(*nets).is_current() or any(map(_has_hooks, policy.parameters())):
            return "modules or parameters have hooks"
        reasons = [FlatAdam.reason_against(net.optimizer, list(net.parameters())) for net in (policy.actor, policy.critic)]
        return reasons[0] or reasons[1]

    def _link(self) -> None:
        """Move parameters, targets and Adam's moments into flat memory."""
        policy = self.policy
        critic_parameters, actor_parameters = (
            [p for group in net.optimizer.param_groups for p in group["params"]] for net in (policy.critic, policy.actor)
        )
        self.online = Flat(critic_parameters + actor_parameters, with_gradients=True)
        self.has_targets = policy.critic_target is not policy.critic
        if self.has_targets:
            of_targets = chain(policy.critic_target.parameters(), policy.actor_target.parameters())
            target_of = dict(zip(chain(policy.critic.parameters(), policy.actor.parameters()), of_targets, strict=True))
            self.target = Flat([target_of[p] for p in self.online.parameters], with_gradients=False)
        self.critic_adam = FlatAdam(policy.critic.optimizer, self.online, critic_parameters)
        self.actor_adam = FlatAdam(policy.actor.optimizer, self.online, actor_parameters)
        self.memory = (self.online, *([self.target] if self.has_targets else []), self.critic_adam, self.actor_adam)
        self.snapshot = Snapshot(policy.actor, policy.critic, policy.actor_target, policy.critic_target)
        self.attributes = list(map(vars, self.snapshot.modules))
        self.n_attributes = list(map(len, self.attributes))
        self.normaliser = policy.normaliser
        keys = list(parts_of(policy.observation_space))
        self.keys = None if keys == [""] else keys
        self.options = policy.critic.options, policy.critic_target.options
        self.penalties = policy.actor.penalties
        penalties = dict(zip(PENALTIES, self.penalties, strict=True))
        self.action_l2, self.preactivation_penalty = penalties["action_l2"], penalties["preactivation_penalty"]
        self.targets_of_batch = self.has_targets and policy.options.target_statistics == "batch"
        norms = [layer.norm for net in sequentials(policy) for layer in normed_layers(net) if statistics_of(layer)]
        self.buffers: list[tuple[dict[str, Any], str]] = [(norm._buffers, name) for norm in norms for name in norm._buffers]
        for head in dict.fromkeys((policy.critic.head, policy.critic_target.head)):
            self.buffers += [(head._buffers, name) for name in head._buffers]
        self.pointers = self._buffer_pointers()
        tensors = PolicyTensors(policy)
        self.copies = tensors.target_buffers, tensors.buffers
        of_batch = [policy.actor.mu, *(policy.critic.q_networks if self.has_targets else [])]  # n of them in one pass
        self.needs_two = any(statistics_of(layer) for net in of_batch for layer in normed_layers(net))

    def _is_linked(self) -> bool:
        """Whether nothing was moved, loaded, frozen, hooked or replaced since ``_link``: layers, methods, optimisers."""
        policy = self.policy
        return (
            bool(self.memory)
            and policy.actor.optimizer is self.actor_adam.optimizer
            and policy.critic.optimizer is self.critic_adam.optimizer
            and all(part.holds() for part in self.memory)
            and vars(policy).keys().isdisjoint(METHODS)
            and list(map(len, self.attributes)) == self.n_attributes
            and all(map(_NEEDS_GRADIENT, self.online.parameters))
            and not any(map(_BACKWARD_HOOKS, self.online.parameters))
            and not any(map(_POST_HOOKS, self.online.parameters))
            and self._buffer_pointers() == self.pointers
            and policy.actor.penalties == self.penalties
            and (policy.critic.options, policy.critic_target.options) == self.options
            and self.snapshot.is_current()
        )

    def _buffer_pointers(self) -> list[int]:
        """Where running statistics and atoms are."""
        return [0 if of[name] is None else of[name].data_ptr() for of, name in self.buffers]

    def update(self, batch: Batch) -> dict[str, th.Tensor]:  # type: ignore[override]  # sequences are for a policy that it refuses
        if not self._is_linked():
            reason = self.reason_against(self.policy, self.settings)
            if reason is not None:
                return self._update_by_eager(batch, reason)
            self._link()
        if self.needs_two and len(batch.actions) == 1:
            raise ValueError("batch_size=1 must be at least 2 with BatchNorm, which needs the variance of a batch")
        self.n_updates += 1
        losses = self._update(batch)
        if self.copies[0] and self.updates_targets:
            th._foreach_copy_(*self.copies)
        return losses

    @abstractmethod
    def _update(self, batch: Batch) -> dict[str, th.Tensor]:
        """As :meth:`update`, when everything is in its place."""

    def _update_by_eager(self, batch: Batch, reason: str) -> dict[str, th.Tensor]:
        if self.eager is None:
            warnings.warn(f"the eager learner takes over from the {self.name} one: {reason}", stacklevel=4)
            self.eager = EagerLearner(self.policy)
        self.policy.set_training_mode(True)
        self.eager.settings, self.eager.n_updates = self.settings, self.n_updates
        losses = self.eager.update(batch)
        self.n_updates, self.errors = self.eager.n_updates, self.eager.errors
        return losses

    def _flat(self, observations: Any) -> th.Tensor:
        """What the networks' first layers get, of shape (batch, features)."""
        dtype = self.online.values.dtype
        if self.keys is not None:
            observations = {key: observations[key].to(dtype) for key in self.keys}
        else:
            observations = observations.to(dtype)
        if self.normaliser is not None:
            observations = normalise(self.normaliser, observations)
        if self.keys is not None:
            return th.cat([part.flatten(1) for part in observations.values()], dim=1)
        return observations if observations.ndim == 2 else observations.flatten(1)


def sequentials(policy: DDPGPolicy) -> list[nn.Module]:
    return [policy.actor.mu, policy.actor_target.mu, *policy.critic.q_networks, *policy.critic_target.q_networks]


def _of_head(head: Head) -> str | None:
    """What is wrong with the critic's outputs."""
    if type(head) not in (Scalar, Categorical):
        return f"the critic's outputs are those of {type(head).__name__}"
    if getattr(head, "popart", None) is not None:
        return "the critic's outputs are those of PopArt"
    is_known = type(head) is Categorical or head.error in LOSSES
    return None if is_known else f"the critic's loss is {head.error}, which has no derivative there"


def _of_options(policy: DDPGPolicy) -> str | None:
    """The first option, if any, that would be left out: also one that a subclass has, by itself or with another default."""
    options = policy.options
    for name in options.names():
        value = getattr(options, name)
        is_neutral = name in DEFAULTS and value == DEFAULTS[name]
        if not (name in WRITTEN_OUT or is_neutral):
            return f"policy_kwargs[{name!r}]={value!r} has no gradients there"
    return None


def _of_methods(policy: DDPGPolicy, nets: list[Any]) -> str | None:
    """The first method, if any, that would not be called: of the policy's class, or one that an object has been given."""
    for name in METHODS:
        if name in vars(policy) or getattr(type(policy), name) is not getattr(DDPGPolicy, name):
            return f"{type(policy).__name__} has its own {name}"
    for module in (module for net in nets for module in net.modules()):
        if replaced := replaced_methods(module):
            return f"somebody has replaced {replaced[0]} of {type(module).__name__}"
    return None


def _of_sharing(nets: list[Any]) -> str | None:
    """The first parameter, if any, that two layers have in common: each is to have memory of its own here."""
    seen: set[int] = set()
    for net in nets:
        for name, parameter in net.named_parameters(remove_duplicate=False):
            if id(parameter) in seen:
                return f"{name} of {type(net).__name__} is a parameter of two layers"
            seen.add(id(parameter))
    return None


def _of_targets(policy: DDPGPolicy) -> str | None:
    """What is wrong with the targets: copies, or with a JointCritic none."""
    are_copies = {policy.actor_target is not policy.actor, policy.critic_target is not policy.critic}
    return None if are_copies == {type(policy.critic) is Critic} else "the targets are not those of its critic"


def _of_shapes(policy: DDPGPolicy, layers: list[list[Layer]]) -> str | None:
    """What is wrong with the first and last layers of the actors and of the critics."""
    if type(layers[0][-1].activation) is not nn.Tanh:
        return "the actor does not end in Tanh"
    n_obs, n_actions = layers[0][0].n_inputs, int(np.prod(policy.action_space.shape))
    n_inputs = [next((layer.n_inputs for layer in own if layer.linear is not None), 0) for own in layers]
    n_normed = {own[0].n_inputs for own in layers[2:] if own[0].linear is None}
    if n_inputs[2:] != [n_obs + n_actions] * len(n_inputs[2:]) or n_inputs[1] != n_obs or not n_normed <= {n_obs}:
        return "the networks' first layers do not fit each other"
    if {len(own[-1].linear.weight) for own in layers[:2]} != {n_actions}:
        return f"the actor does not give the {n_actions} numbers of an action"
    is_bare = all(own[-1].norm is None and own[-1].activation is None for own in layers[2:])
    if type(policy.critic) is JointCritic and not is_bare:
        return "the critics do not end in a Linear"
    n_outputs = {len(own[-1].linear.weight) for own in layers[2:]}
    return None if n_outputs == {policy.critic.head.n_outputs} else f"the critics have {n_outputs} outputs"


_NEEDS_GRADIENT = attrgetter("requires_grad")
_BACKWARD_HOOKS, _POST_HOOKS = attrgetter("_backward_hooks"), attrgetter("_post_accumulate_grad_hooks")


def _has_hooks(parameter: th.Tensor) -> bool:
    return bool(_BACKWARD_HOOKS(parameter) or _POST_HOOKS(parameter))
