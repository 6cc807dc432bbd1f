"""mu(s), and what keeps it from its bounds."""

import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.td3 import policies as sb3_policies
from torch import nn

from sb3_ddpg_ext.networks import (
    ActionGradientClip,
    InvertingGradients,
    OutputNormalisation,
    SavedAlone,
    check_network,
    initialise,
)
from sb3_ddpg_ext.policies.critics import Critic
from sb3_ddpg_ext.policies.options import PENALTIES, Options


class Actor(SavedAlone, sb3_policies.Actor):
    """
    The deterministic policy mu(s), on the [-1, 1] scale.

    :param observation_space: observation space
    :param action_space: action space
    :param net_arch: hidden units
    :param features_extractor: what the observations go through
    :param features_dim: number of features it gives
    :param activation_fn: class of the activation
    :param normalize_images: whether to divide images by 255
    :param options: of the network and of the loss; None for all defaults
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        net_arch: list[int],
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        activation_fn: type[nn.Module] = nn.ReLU,
        normalize_images: bool = True,
        options: Options | None = None,
    ):
        super(sb3_policies.Actor, self).__init__(
            observation_space,
            action_space,
            features_extractor=features_extractor,
            normalize_images=normalize_images,
            squash_output=True,
        )
        options = Options() if options is None else options
        self.options, self.net_arch, self.features_dim, self.activation_fn = options, net_arch, features_dim, activation_fn
        with options.naming("actor_norm", activation_fn):
            mu = options.actor_mlp(net_arch, activation_fn).build(features_dim, get_action_dim(action_space))
            initialise(mu, *options.initialisers())
            check_network(mu, features_dim, get_action_dim(action_space))
        squash: list[nn.Module] = [InvertingGradients() if options.inverting_gradients else nn.Tanh()]
        if options.output_norm is not None:
            squash.insert(0, OutputNormalisation(options.output_norm))
        self.mu = nn.Sequential(*mu, *squash)
        self.clip = None if options.dqda_clip is None else ActionGradientClip(options.dqda_clip)
        self.penalties = tuple(getattr(options, name) for name in PENALTIES)

    def preactivation(self, observations: PyTorchObs) -> th.Tensor:
        """What goes into tanh, or is clamped to the bounds, of shape (batch, action_dim)."""
        return self.mu[:-1](self.extract_features(observations, self.features_extractor))  # type: ignore[arg-type]

    def loss(self, observations: PyTorchObs, critic: Critic) -> th.Tensor:
        """
        -1/N sum_i Q(s_i, mu(s_i)), whose gradient is the sampled policy gradient of Lillicrap et al. (2016), eq. 6, and, where
        the options have them, penalties that keep the actions from the bounds.

        :param observations: N of them
        :param critic: gives Q
        """
        if not any(self.penalties):
            return self._climb(observations, self(observations), critic)
        preactivation = self.preactivation(observations)
        actions = self.mu[-1](preactivation)
        weights = zip(self.penalties, (preactivation, actions), strict=True)
        penalty = sum(weight * penalised.square().mean() for weight, penalised in weights)
        return self._climb(observations, actions, critic) + penalty

    def _climb(self, observations: PyTorchObs, actions: th.Tensor, critic: Critic) -> th.Tensor:
        return -critic.value(observations, actions if self.clip is None else self.clip(actions)).mean()
