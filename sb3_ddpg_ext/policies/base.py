"""Actor, critic, their target copies and their optimisers."""

from functools import reduce
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.td3.policies import Actor, TD3Policy
from torch.nn import functional as F

from sb3_ddpg_ext.networks import NotPlain, with_layer_norm
from sb3_ddpg_ext.policies.acting import PlainActor
from sb3_ddpg_ext.validation import check_choice, check_integer, check_net_arch

if TYPE_CHECKING:
    from sb3_ddpg_ext.batch import Batch


class Critic(ContinuousCritic):
    """
    Q(s, a) as an ensemble of ``n_critics`` scalar networks, ``qf0``, ``qf1``, ...

    One network is DDPG (Lillicrap et al. 2016). With two or more the backup takes the smallest estimate, the clipped double
    Q-learning of TD3 (Fujimoto et al. 2018, section 4.2).
    """

    def backup(self, batch: "Batch", next_actions: th.Tensor) -> th.Tensor:
        """The target y = r + gamma^m (1 - d) Q(s', a'), of shape (batch, 1). To be called on the target critic."""
        next_q = reduce(th.minimum, self(batch.next_observations, next_actions))
        return batch.rewards + (1 - batch.dones) * batch.discounts * next_q

    def loss(self, batch: "Batch", target: th.Tensor) -> th.Tensor:
        """The mean-squared Bellman error, summed over the networks."""
        return reduce(th.add, (F.mse_loss(q, target) for q in self(batch.observations, batch.actions)))

    def value(self, observations: PyTorchObs, actions: th.Tensor) -> th.Tensor:
        """What the actor climbs, of shape (batch, 1): the first network, as in TD3."""
        return self.q1_forward(observations, actions)  # type: ignore[arg-type]


class DDPGPolicy(TD3Policy):
    """
    Deterministic actor mu(s), critic Q(s, a) and a target copy of each.

    The networks, their parameter names and the order of their random draws are those of Stable-Baselines3, so its saved
    models can be loaded.

    :param observation_space: observation space
    :param action_space: action space, a ``Box``
    :param lr_schedule: learning rate over the progress remaining (1 to 0)
    :param net_arch: hidden units of actor and critic, ``[400, 300]`` by default (``[256, 256]`` after a CNN);
        ``dict(pi=[...], qf=[...])`` for different ones
    :param n_critics: number of Q networks; 1 is DDPG, 2 adds clipped double Q-learning
    :param actor_norm: ``"layer"`` puts a ``LayerNorm`` before each hidden activation of the actor, as parameter noise asks for
        (Plappert et al. 2018, section 3); ``"none"`` is DDPG
    :param critic_norm: the same for the critic
    :param kwargs: further arguments of Stable-Baselines3's ``TD3Policy``: ``activation_fn``, ``features_extractor_class``,
        ``features_extractor_kwargs``, ``normalize_images``, ``optimizer_class``, ``optimizer_kwargs``,
        ``share_features_extractor``
    :raises ValueError: if ``net_arch`` or ``n_critics`` is not positive, or a norm unknown
    """

    action_space: spaces.Box
    critic: Critic
    critic_target: Critic

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        lr_schedule: Schedule,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        *,
        n_critics: int = 1,
        actor_norm: str = "none",
        critic_norm: str = "none",
        **kwargs: Any,
    ):
        net_arch = check_net_arch("policy_kwargs['net_arch']", net_arch)
        n_critics = check_integer("policy_kwargs['n_critics']", n_critics, at_least=1)
        for name, norm in (("actor_norm", actor_norm), ("critic_norm", critic_norm)):
            check_choice(f"policy_kwargs[{name!r}]", norm, ["none", "layer"])
        self.actor_norm, self.critic_norm = actor_norm, critic_norm
        self._acting: PlainActor | Literal[False] | None = None  # None: not looked at yet
        super().__init__(observation_space, action_space, lr_schedule, net_arch, n_critics=n_critics, **kwargs)
        low, high = action_space.low, action_space.high
        self._half_range, self._rounds_past_bounds = 0.5 * (high - low), False
        for one in (np.float32(1), np.float64(1)):
            if (self.unscale_action(one) > high).any() or (self.unscale_action(-one) < low).any():
                self._rounds_past_bounds = True

    def scale_action(self, action: np.ndarray) -> np.ndarray:
        """From the bounds of the action space to [-1, 1]."""
        return (action - self.action_space.low) / self._half_range - 1.0  # SB3's bits: halving is exact

    def unscale_action(self, scaled_action: Any) -> np.ndarray:
        """From [-1, 1] to the bounds of the action space, which rounding in float32 must not leave."""
        action = (scaled_action + 1.0) * self._half_range + self.action_space.low
        if self._rounds_past_bounds:
            action = np.minimum(np.maximum(action, self.action_space.low), self.action_space.high)
        return action

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        The action mu(s), without noise, within the bounds of the action space.

        :param observation: one observation, or several along a first dimension
        :param state: returned as it is
        :param episode_start: for recurrent policies
        :param deterministic: for stochastic policies
        """
        actor = self.plain_actor()
        if actor is not None and type(observation) is np.ndarray:
            if observation.shape == actor.obs_shape:
                return self._unscaled(actor(observation[None]))[0], state
            if observation.shape[1:] == actor.obs_shape:
                return self._unscaled(actor(observation)), state
        return super().predict(observation, state, episode_start, deterministic)

    def plain_actor(self) -> PlainActor | None:
        """The short way to the action, if this policy has one and nothing has been hung onto its networks since."""
        if self._acting is None or (self._acting and not self._acting.is_current(self.actor)):
            try:
                self._acting = PlainActor(self.actor) if self._acts_as_sb3() else False
            except NotPlain:
                self._acting = False
        return self._acting or None

    def acts_by_its_actor(self) -> bool:
        """Whether no subclass has another way to an action than the actor."""
        return all(getattr(type(self), name) is getattr(TD3Policy, name) for name in ("_predict", "forward"))

    def _acts_as_sb3(self) -> bool:
        return self.acts_by_its_actor() and type(self).obs_to_tensor is TD3Policy.obs_to_tensor

    def _unscaled(self, actions: np.ndarray) -> np.ndarray:
        shape = self.action_space.shape
        return self.unscale_action(actions if len(shape) == 1 else actions.reshape(-1, *shape))

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        actor = super().make_actor(features_extractor)
        if self.actor_norm == "layer":
            actor.mu = with_layer_norm(actor.mu)
        return actor.to(self.device)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> Critic:
        critic = Critic(**self._update_features_extractor(self.critic_kwargs, features_extractor))
        if self.critic_norm == "layer":
            critic.q_networks = [with_layer_norm(net) for net in critic.q_networks]  # type: ignore[arg-type]
            for i, net in enumerate(critic.q_networks):
                critic.add_module(f"qf{i}", net)
        return critic.to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | dict(actor_norm=self.actor_norm, critic_norm=self.critic_norm)


class CnnPolicy(DDPGPolicy):
    """:class:`DDPGPolicy` for images, seen through ``NatureCNN``."""

    def __init__(self, *args: Any, features_extractor_class: type[BaseFeaturesExtractor] = NatureCNN, **kwargs: Any):
        super().__init__(*args, features_extractor_class=features_extractor_class, **kwargs)


class MultiInputPolicy(DDPGPolicy):
    """:class:`DDPGPolicy` for ``Dict`` observations, seen through ``CombinedExtractor``."""

    def __init__(self, *args: Any, features_extractor_class: type[BaseFeaturesExtractor] = CombinedExtractor, **kwargs: Any):
        super().__init__(*args, features_extractor_class=features_extractor_class, **kwargs)
