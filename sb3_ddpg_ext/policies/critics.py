"""Q(s, a) as one network or an ensemble."""

from collections.abc import Sequence
from functools import reduce

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn

from sb3_ddpg_ext.batch import Batch
from sb3_ddpg_ext.networks import ReturnScaler, SavedAlone, check_network, evaluating, initialise
from sb3_ddpg_ext.observations import each
from sb3_ddpg_ext.policies.heads import Head, Scalar
from sb3_ddpg_ext.policies.options import Options


class Critic(SavedAlone, ContinuousCritic):
    """
    Q(s, a) as an ensemble of ``n_critics`` networks, ``qf0``, ``qf1``, ...

    One network is DDPG (Lillicrap et al. 2016). With two or more the backup takes the smallest estimate, the clipped double
    Q-learning of TD3 (Fujimoto et al. 2018, section 4.2), unless the options say otherwise.

    :param observation_space: observation space
    :param action_space: action space
    :param net_arch: hidden units
    :param features_extractor: what the observations go through
    :param features_dim: number of features it gives
    :param activation_fn: class of the activation
    :param normalize_images: whether to divide images by 255
    :param n_critics: number of networks
    :param share_features_extractor: whether it is the actor's, and is not trained here
    :param options: of networks and critic; None for all defaults
    :param head: what the networks' outputs mean; None for the expected return
    :param return_scaler: scales the rewards; None for rewards as they are
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
        n_critics: int = 2,
        share_features_extractor: bool = True,
        options: Options | None = None,
        head: Head | None = None,
        return_scaler: ReturnScaler | None = None,
    ):
        super(ContinuousCritic, self).__init__(
            observation_space, action_space, features_extractor=features_extractor, normalize_images=normalize_images
        )
        options = Options() if options is None else options
        self.options = options
        self.share_features_extractor, self.n_critics = share_features_extractor, n_critics
        self.head = Scalar() if head is None else head
        self.return_scaler = return_scaler
        self.q_networks: list[nn.Module] = []
        mlp, action_dim = options.critic_mlp(net_arch, activation_fn), get_action_dim(action_space)
        for i in range(n_critics):
            with options.naming("critic_norm", activation_fn):
                net = mlp.build_with_action(
                    features_dim, action_dim, self.head.n_outputs,
                    options.action_layer, list(options.action_branch), options.norm_after_action, options.action_join,
                )  # fmt: skip
                initialise(net, *options.initialisers())
                check_network(net, features_dim + action_dim, self.head.n_outputs)
            self.add_module(f"qf{i}", net)
            self.q_networks.append(net)

    def outputs(
        self, observations: PyTorchObs, actions: th.Tensor, n_critics: int | None = None, learns: bool = True
    ) -> list[th.Tensor]:
        """
        What the networks give out, each of shape (batch, n_outputs).

        :param observations: a batch of them
        :param actions: on the [-1, 1] scale
        :param n_critics: only of the first so many networks
        :param learns: whether the features extractor takes a gradient
        """
        with th.set_grad_enabled(learns and th.is_grad_enabled() and not self.share_features_extractor):
            features = self.extract_features(observations, self.features_extractor)
        x = th.cat([features, actions], dim=1)
        return [net(x) for net in self.q_networks[:n_critics]]

    def forward(self, obs: th.Tensor, actions: th.Tensor) -> tuple[th.Tensor, ...]:
        """The expected returns, each of shape (batch, 1)."""
        return tuple(self._means(self.outputs(obs, actions)))

    def q1_forward(self, obs: th.Tensor, actions: th.Tensor) -> th.Tensor:
        return self._means(self.outputs(obs, actions, n_critics=1, learns=False))[0]

    def _means(self, outputs: list[th.Tensor]) -> list[th.Tensor]:
        return [self.head.mean(self.head.predict(output)) for output in outputs]

    def backup(self, batch: Batch, next_actions: th.Tensor) -> th.Tensor:
        """The target y = r + gamma^m (1 - d) Q(s', a'), of shape (batch, n_outputs). To be called on the target critic."""
        return self.target(batch, self.outputs(batch.next_observations, next_actions))

    def target(self, batch: Batch, next_outputs: Sequence[th.Tensor]) -> th.Tensor:
        """The same from what the networks gave out for the next observations and actions."""
        discounts = (1 - batch.dones) * batch.discounts
        clamp = self.options.target_q_range
        if clamp is not None and self.return_scaler is not None:
            low, high = clamp
            clamp = low * self.return_scaler.factor, high * self.return_scaler.factor
        return self.head.backup(self._rewards(batch), discounts, self._combine(next_outputs), clamp)

    def loss(self, batch: Batch, target: th.Tensor) -> tuple[th.Tensor, th.Tensor | None]:
        """
        The Bellman error, the mean squared one unless the options say otherwise, summed over the networks; and where the
        batch has ``indices``, what each transition contributes to priorities, of shape (batch,).
        """
        self.head.adopt(target)
        return self._loss(batch, self.outputs(batch.observations, batch.actions), target)

    def value(self, observations: PyTorchObs, actions: th.Tensor) -> th.Tensor:
        """What the actor climbs, of shape (batch, 1). BatchNorm uses its running statistics, and leaves them as they are."""
        with evaluating(self):
            if self.options.objective == "first" or self.n_critics == 1:
                return self.q1_forward(observations, actions)  # type: ignore[arg-type]
            means = self._means(self.outputs(observations, actions, learns=False))
        return reduce(th.minimum, means) if self.options.objective == "min" else sum(means) / len(means)  # type: ignore[return-value]

    @th.no_grad()
    def td_errors(self, batch: Batch, target_critic: "Critic", next_actions: th.Tensor) -> th.Tensor:
        """
        y - Q(s, a) of the first network for each transition, of shape (batch, 1), of expectations where returns are
        distributed. All networks are evaluated: by running statistics, whatever those of the update, and without dropout.

        :param batch: the transitions
        :param target_critic: the one for the next observations
        :param next_actions: the actions there
        """
        with evaluating(self, target_critic):
            target = self.head.mean(target_critic.target(batch, target_critic.outputs(batch.next_observations, next_actions)))
            return target - self.q1_forward(batch.observations, batch.actions)  # type: ignore[arg-type]

    def _rewards(self, batch: Batch) -> th.Tensor:
        return batch.rewards if self.return_scaler is None else self.return_scaler(batch.rewards)

    def _loss(self, batch: Batch, outputs: list[th.Tensor], target: th.Tensor) -> tuple[th.Tensor, th.Tensor | None]:
        losses = [self.head.losses(output, target) for output in outputs]
        if batch.weights is not None:
            losses = [batch.weights * each for each in losses]
        errors = None
        if batch.indices is not None:  # the largest of the networks', as in the code of LAP
            errors = reduce(th.maximum, (self.head.errors(output.detach(), target) for output in outputs))[:, 0]
        return reduce(th.add, (each.mean() for each in losses)), errors

    def _combine(self, outputs: Sequence[th.Tensor]) -> th.Tensor:
        """One prediction from all networks: with ``"min"`` that of the smallest mean, not the smallest of each atom."""
        predictions = [self.head.predict(output) for output in outputs]
        if len(predictions) == 1:
            return predictions[0]
        if self.options.backup == "mean":
            return th.stack(predictions).mean(dim=0)
        if self.head.n_outputs == 1:
            return reduce(th.minimum, predictions)
        means = th.stack([self.head.mean(prediction) for prediction in predictions])  # (n_critics, batch, 1)
        smallest = means.argmin(dim=0, keepdim=True).expand(-1, -1, self.head.n_outputs)
        return th.stack(predictions).gather(0, smallest)[0]


class JointCritic(Critic):
    """
    :class:`Critic` without a target copy: present and next observations pass it in one batch, so that BatchNorm sees both
        alike, Bhatt et al. (2024), "CrossQ: Batch Normalization in Deep Reinforcement Learning for Greater Sample Efficiency
        and Simplicity", section 3.2.
    """

    def backup(self, batch: Batch, next_actions: th.Tensor) -> th.Tensor:
        """The next actions: the target comes out of the same pass as the estimate, in :meth:`loss`."""
        return next_actions

    def loss(self, batch: Batch, target: th.Tensor) -> tuple[th.Tensor, th.Tensor | None]:
        """:param target: what :meth:`backup` gave"""
        both = each(lambda now, after: th.cat([now, after]), batch.observations, batch.next_observations)
        n = len(target)
        outputs = self.outputs(both, th.cat([batch.actions, target]))
        y = self.target(batch, [output[n:].detach() for output in outputs])
        return self._loss(batch, [output[:n] for output in outputs], y)
