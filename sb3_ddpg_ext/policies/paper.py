"""The networks of the DDPG paper, Lillicrap et al. (2016), https://arxiv.org/abs/1509.02971, section 7."""

from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_ddpg_ext.policies.base import DDPGPolicy


class PaperPolicy(DDPGPolicy):
    """
    The networks for low-dimensional observations: 400 and 300 ReLU units, BatchNorm on the observations, on the hidden layers
    of the actor and on those of the critic before the action, which enters at its second layer; weights uniform in
    1 / sqrt(fan-in), in the last layers 3e-3; L2 of 1e-2 on the critic's weights. The arguments of :class:`DDPGPolicy` change
    any of it.

    The paper leaves three things open. "All layers of mu" excludes the output layer here, whose small initial weights
    BatchNorm would undo. The critic's output layer has no L2, as in OpenAI's Baselines. In training the targets normalise by
    the minibatch, as the other networks do: running statistics of the online networks do not fit the targets' older weights,
    and with tau=1e-3 learning then breaks down.

    What else the paper's experiments have are arguments of ``DDPG``: ``learning_rate=1e-4, qf_learning_rate=1e-3, tau=1e-3,
    batch_size=64, gamma=0.99, buffer_size=1_000_000, action_noise=dict(kind="ou", theta=0.15, sigma=0.2, dt=1.0)``.
    """

    defaults: ClassVar[dict[str, Any]] = dict(
        net_arch=[400, 300],
        actor_norm="batch",
        critic_norm="batch",
        input_norm="batch",
        target_statistics="batch",
        norm_after_action=False,
        action_layer=1,
        init="fan_in",
        last_init=3e-3,
        critic_weight_decay=1e-2,
    )


class PaperCnn(BaseFeaturesExtractor):
    """
    Three convolutions with 32 filters, ReLU and no pooling.

    The paper does not say their size. 5 x 5 with stride 2 brings the networks for its images, 64 x 64 with 9 channels, to
    413,000 parameters, near the 430,000 that it says.

    :param observation_space: images, channels first
    """

    def __init__(self, observation_space: spaces.Box):
        if not is_image_space(observation_space, check_channels=False):
            raise ValueError(f"policy='PaperCnnPolicy' needs images as observations, not {observation_space}")
        n_channels = [observation_space.shape[0], 32, 32]
        convolutions = [nn.Conv2d(n, 32, kernel_size=5, stride=2, padding=1) for n in n_channels]
        layers = nn.Sequential(*(part for convolution in convolutions for part in (convolution, nn.ReLU())), nn.Flatten())
        with th.no_grad():
            n_features = layers(th.zeros(1, *observation_space.shape)).shape[1]
        super().__init__(observation_space, n_features)
        self.layers = layers

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.layers(observations)


class PaperCnnPolicy(DDPGPolicy):
    """
    The networks for images: :class:`PaperCnn` and two layers of 200 units, actions at the first of them; weights uniform in
    1 / sqrt(fan-in), in the last layers 3e-4; L2 of 1e-2 on the critic's weights.

    The paper's images are three renderings of 64 x 64, one for each repetition of an action, which
    :class:`~sb3_ddpg_ext.wrappers.StackedRenderings` gives. Its minibatches have 16 transitions.
    """

    defaults: ClassVar[dict[str, Any]] = dict(
        net_arch=[200, 200],
        features_extractor_class=PaperCnn,
        init="fan_in",
        last_init=3e-4,
        critic_weight_decay=1e-2,
    )
