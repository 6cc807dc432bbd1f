"""Actor, critic, their target copies and their optimisers."""

from io import BufferedIOBase
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, NatureCNN, get_actor_critic_arch
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from sb3_ddpg_ext.batch import Batch
from sb3_ddpg_ext.files import written_whole
from sb3_ddpg_ext.kinds import did_you_mean
from sb3_ddpg_ext.networks import Normalised, PopArt, ReturnScaler, initialise, is_norm, output_layer
from sb3_ddpg_ext.networks.running import make_normaliser, update_normaliser
from sb3_ddpg_ext.observations import each
from sb3_ddpg_ext.policies.acting_policy import ActingPolicy
from sb3_ddpg_ext.policies.actor import Actor
from sb3_ddpg_ext.policies.critics import Critic, JointCritic
from sb3_ddpg_ext.policies.extractors import checked_extractor_kwargs, made_extractor
from sb3_ddpg_ext.policies.heads import make_head
from sb3_ddpg_ext.policies.options import SB3_KWARGS, Options, check_activation, make_if_chosen
from sb3_ddpg_ext.policies.weight_decay import optimizer_with_decay
from sb3_ddpg_ext.validation import MAX_NETWORKS, check_integer, check_net_arch


class DDPGPolicy(ActingPolicy):
    """
    Deterministic actor mu(s), critic Q(s, a) and a target copy of each.

    The networks, their parameter names and the order of their random draws are those of Stable-Baselines3, so its saved
    models can be loaded.

    :param observation_space: observation space
    :param action_space: action space, a ``Box``
    :param lr_schedule: learning rate over the progress remaining (1 to 0)
    :param net_arch: hidden units of actor and critic, ``[400, 300]`` by default (``[256, 256]`` after a CNN);
        ``dict(pi=[...], qf=[...])`` for different ones
    :param n_critics: number of Q networks; 1, the default, is DDPG, 2 adds clipped double Q-learning
    :param activation_fn: ``"relu"`` (the default), ``"tanh"``, ``"elu"``, ``"silu"``, ``"mish"``, a class of torch modules,
        or a function that makes one, such as ``partial(nn.LeakyReLU, 0.2)``
    :param kwargs: the fields of ``options_class``, which is :class:`~sb3_ddpg_ext.policies.options.Options`, and further
        arguments of Stable-Baselines3's ``TD3Policy``: ``features_extractor_class``, ``features_extractor_kwargs``,
        ``normalize_images``, ``optimizer_class``, ``optimizer_kwargs``, ``share_features_extractor``
    :raises ValueError: for a value that is unknown, outside what is allowed, or contradicts another
    :raises TypeError: for a value of the wrong type, or an unknown argument
    """

    defaults: ClassVar[dict[str, Any]] = {}  # of a subclass, in place of those of its options and net_arch
    options_class: ClassVar[type[Options]] = Options  # a subclass may add fields, which are then in policy_kwargs
    critic: Critic
    critic_target: Critic
    actor_target: Actor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        lr_schedule: Schedule,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        *,
        n_critics: int | None = None,
        activation_fn: str | type[nn.Module] | None = None,
        **kwargs: Any,
    ):
        given = dict(n_critics=n_critics, activation_fn=activation_fn)
        kwargs = self.defaults | kwargs | {name: value for name, value in given.items() if value is not None}
        n_critics, activation_fn = kwargs.pop("n_critics", 1), kwargs.pop("activation_fn", nn.ReLU)
        names = self.options_class.names()
        if unknown := sorted(set(kwargs) - {*names, *SB3_KWARGS, "net_arch"}):
            allowed = sorted([*names, *SB3_KWARGS, "net_arch", "n_critics", "activation_fn"])
            raise TypeError(f"policy_kwargs has no argument {unknown[0]!r}{did_you_mean(unknown[0], allowed)} has {allowed}")
        default_arch = kwargs.pop("net_arch", None)
        net_arch = check_net_arch("policy_kwargs['net_arch']", default_arch if net_arch is None else net_arch)
        n_critics = check_integer("policy_kwargs['n_critics']", n_critics, 1, MAX_NETWORKS)
        kwargs |= checked_extractor_kwargs(kwargs)
        self.options = self.options_class(**{name: kwargs.pop(name) for name in names if name in kwargs})
        super().__init__(
            observation_space, action_space, lr_schedule, net_arch,
            activation_fn=check_activation(activation_fn),  # type: ignore[arg-type]  # SB3, too, only calls it
            n_critics=n_critics, **kwargs,
        )  # fmt: skip

    def _build(self, lr_schedule: Schedule) -> None:
        options = self.options
        options.check_blocks(*get_actor_critic_arch(self.net_arch))
        self.normaliser = make_if_chosen(
            "normalize_observations", options.normalize_observations, make_normaliser, self.observation_space
        )
        self.return_scaler = make_if_chosen("scale_returns", options.scale_returns, ReturnScaler)
        self._popart = make_if_chosen("popart", options.popart, PopArt)
        super()._build(lr_schedule)
        if not options.target_networks:
            self.actor_target, self.critic_target = self.actor, self.critic
        else:
            options.check_targets((self.actor, self.actor_target), (self.critic, self.critic_target))
        if self._popart is not None:
            heads = [net for critic in (self.critic, self.critic_target) for net in critic.q_networks]
            self._popart.preserve(dict.fromkeys(output_layer(net) for net in heads))
        if options.critic_weight_decay > 0:
            self.critic.optimizer = optimizer_with_decay(
                self.critic, self.optimizer_class, options.critic_weight_decay, options.decoupled_weight_decay,
                lr_schedule(1), self.optimizer_kwargs,
            )  # fmt: skip
        self.begin_average()

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        extractor = made_extractor(super().make_features_extractor, self)
        initialise(extractor, self.options.initialisers()[0])
        return extractor if self.normaliser is None else Normalised(extractor, self.normaliser)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        kwargs = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return Actor(**kwargs, options=self.options).to(self.device)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> Critic:
        options = self.options
        head = make_head(options.critic, options.critic_loss, self._popart)
        make = Critic if options.target_networks else JointCritic
        kwargs = self._update_features_extractor(self.critic_kwargs, features_extractor)
        return make(**kwargs, options=options, head=head, return_scaler=self.return_scaler).to(self.device)

    def unrolled(self, batch: Any) -> Batch:
        """
        A minibatch as the networks take it. For these policies it is so already; recurrent ones encode histories here.

        :param batch: a :class:`~sb3_ddpg_ext.batch.Batch`, for a recurrent policy :class:`~sb3_ddpg_ext.batch.Sequences`
        """
        return batch

    def actor_loss(self, batch: Batch) -> th.Tensor:
        """
        What the actor descends; an actor of a subclass's own, without a loss, -1/N sum_i Q(s_i, mu(s_i)).

        :param batch: of N transitions
        """
        if isinstance(self.actor, Actor):
            loss = self.actor.loss(batch.observations, self.critic)
        else:
            loss = -self.critic.value(batch.observations, self.actor(batch.observations)).mean()
        if self.options.behaviour_cloning and batch.n_demonstrations:
            loss = loss + self.options.behaviour_cloning * self._cloning_loss(batch)
        return loss

    def _cloning_loss(self, batch: Batch) -> th.Tensor:
        """The mean squared distance of mu(s) from the demonstrated actions, where these are better by the critic."""
        those, observations = slice(-batch.n_demonstrations, None), batch.observations
        obs = each(lambda part: part[those], observations)
        demonstrated, actions = batch.actions[those], self.actor(obs)
        distances = (actions - demonstrated).square().sum(dim=1, keepdim=True)
        if self.options.q_filter:
            with th.no_grad():
                distances = distances * (self.critic.value(obs, demonstrated) > self.critic.value(obs, actions))
        return distances.mean()

    def not_finite(self) -> str | None:
        """:return: ``"actor"`` or ``"critic"`` where a parameter of it is not finite, else None"""
        for name in ("actor", "critic"):
            if not all(th.isfinite(parameter).all() for parameter in getattr(self, name).parameters()):
                return name
        return None

    @property
    def observes(self) -> bool:
        """Whether there are running statistics of training steps."""
        return self.normaliser is not None or self.return_scaler is not None

    def set_training_mode(self, mode: bool) -> None:
        """:param mode: True for batch statistics and dropout, in targets only for what ``target_statistics`` says"""
        super().set_training_mode(mode)
        if self.options.target_statistics == "batch":
            for module in (*self.actor_target.modules(), *self.critic_target.modules()):
                if is_norm(module):
                    module.train(mode)

    def begin_episodes(self, which: np.ndarray | None = None) -> None:
        """:param which: training environments that have been reset, (n_envs,), True for these; None for all"""
        if self.return_scaler is not None:
            self.return_scaler.begin_episodes(which)

    def observe(self, observations: Any, rewards: np.ndarray, dones: np.ndarray, gamma: float) -> None:
        """
        Let the running statistics take in one training step.

        :param observations: in which the actions were taken, of shape ``(n_envs, *obs_shape)``, or a dict of such
        :param rewards: for them
        :param dones: whether the episodes ended
        :param gamma: discount factor
        """
        if self.normaliser is not None:
            update_normaliser(self.normaliser, observations)
        if self.return_scaler is not None:
            self.return_scaler.update(rewards, dones, gamma)

    def q_values(self, observations: np.ndarray | dict[str, np.ndarray], actions: np.ndarray) -> np.ndarray:
        """
        Q(s, a), the first network's, of shape (n,), on the scale of the rewards as they came.

        :param observations: of shape ``(n, *obs_shape)``, or a dict of such
        :param actions: in the units of the environment, of shape (n, action_dim)
        """
        self.set_training_mode(False)
        obs, _ = self.obs_to_tensor(observations)
        scaled = th.as_tensor(self.scale_action(actions), device=self.device).flatten(1)
        with th.no_grad():
            q = self.critic.q1_forward(obs, scaled.to(next(self.critic.parameters()).dtype))  # type: ignore[arg-type]
            if self.return_scaler is not None:
                q = q / self.return_scaler.factor
        return q.flatten().cpu().numpy()

    def save(self, path: str | Path | BufferedIOBase) -> None:  # type: ignore[override]
        """
        Save parameters and constructor arguments for ``load``; a file of before stays until the new one is whole.

        :param path: the file
        """
        with written_whole(path) as file:
            super().save(file)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {name: getattr(self.options, name) for name in self.options.names()}


class CnnPolicy(DDPGPolicy):
    """:class:`DDPGPolicy` for images, seen through ``NatureCNN``."""

    defaults: ClassVar[dict[str, Any]] = dict(features_extractor_class=NatureCNN)


class MultiInputPolicy(DDPGPolicy):
    """:class:`DDPGPolicy` for ``Dict`` observations, seen through ``CombinedExtractor``."""

    defaults: ClassVar[dict[str, Any]] = dict(features_extractor_class=CombinedExtractor)
