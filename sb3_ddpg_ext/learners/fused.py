"""The same update with its gradients written out, for plain multilayer perceptrons on the CPU."""

from functools import reduce
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.td3.policies import Actor
from torch import nn

from sb3_ddpg_ext.batch import Batch
from sb3_ddpg_ext.learners.base import Learner
from sb3_ddpg_ext.learners.flat import Flat, FlatAdam
from sb3_ddpg_ext.learners.mlp import FusedMLP
from sb3_ddpg_ext.networks import NotPlain, plain_layers
from sb3_ddpg_ext.policies import Critic, DDPGPolicy


class FusedLearner(Learner):
    """
    :class:`EagerLearner` without autograd: about fifty calls into torch, writing into memory that is allocated once.

    The time that remains is that of the matrix products. Parameters, targets and Adam's moments become views of flat tensors,
    so that each Adam step and the soft update are one call.
    """

    name = "fused"
    needs_modes = False

    def __init__(self, policy: DDPGPolicy, tau: float, **kwargs: Any):
        super().__init__(policy, tau, **kwargs)
        self.memory: tuple[Flat | FlatAdam, ...] = ()  # none before the first update

    @classmethod
    def refusal(cls, policy: DDPGPolicy, precision: str) -> str | None:
        if policy.device.type != "cpu":
            return f"the model is on {policy.device}, not on the CPU"
        space = policy.observation_space
        if not isinstance(space, spaces.Box) or (policy.normalize_images and is_image_space(space)):
            return f"observations are preprocessed: {space}"
        own = ((policy.actor, Actor), (policy.critic, Critic), (policy.actor_target, Actor), (policy.critic_target, Critic))
        for net, expected in own:
            if type(net) is not expected:
                return f"{type(net).__name__} is not the {expected.__name__} whose gradients are written out"
            if type(net.features_extractor) is not FlattenExtractor:
                return f"{type(net.features_extractor).__name__} extracts features"
            if not all(p.requires_grad for p in net.parameters()):
                return f"parameters of {type(net).__name__} are frozen"
        try:
            layers = [plain_layers(net) for net in _sequentials(policy)]
        except NotPlain as reason:
            return str(reason)
        if type(layers[0][-1].activation) is not nn.Tanh:
            return "the actor does not end in Tanh"
        return FlatAdam.refusal(policy.actor.optimizer) or FlatAdam.refusal(policy.critic.optimizer)

    def _link(self) -> None:
        """Move parameters, targets and Adam's moments into flat memory."""
        policy, bf16 = self.policy, self.precision == "bf16"
        critic_parameters, actor_parameters = list(policy.critic.parameters()), list(policy.actor.parameters())
        self.online = Flat(critic_parameters + actor_parameters, with_gradients=True)
        self.target = Flat([*policy.critic_target.parameters(), *policy.actor_target.parameters()], with_gradients=False)
        self.critic_adam = FlatAdam(policy.critic.optimizer, self.online, critic_parameters)
        self.actor_adam = FlatAdam(policy.actor.optimizer, self.online, actor_parameters)
        self.memory = (self.online, self.target, self.critic_adam, self.actor_adam)
        self.actor, self.actor_target = FusedMLP(policy.actor.mu, bf16), FusedMLP(policy.actor_target.mu, bf16)
        self.critics = [FusedMLP(net, bf16) for net in policy.critic.q_networks]
        self.critics_target = [FusedMLP(net, bf16) for net in policy.critic_target.q_networks]
        self.x = self.online.values.new_empty(0, self.critics[0].layers[0].linear.in_features)

    def update(self, batch: Batch) -> dict[str, th.Tensor]:
        if not self.memory or not all(part.holds() for part in self.memory):  # the policy was moved, an optimiser loaded
            self._link()
        with th.inference_mode():
            return self._update(batch)

    def _update(self, batch: Batch) -> dict[str, th.Tensor]:
        n = len(batch.rewards)
        x, next_x = self._inputs(batch)  # (batch, obs + action), the critics' input
        obs_dim = x.shape[1] - batch.actions.shape[1]
        of_actions = slice(obs_dim, None)
        self.n_updates += 1

        next_x[:, of_actions] = self.smooth(self.actor_target.forward(next_x[:, :obs_dim]))
        next_q = reduce(th.minimum, [critic.forward(next_x) for critic in self.critics_target])
        target = th.addcmul(batch.rewards, (1 - batch.dones).mul_(batch.discounts), next_q)

        losses = {"critic_loss": th.zeros_like(target[0, 0])}
        for critic in self.critics:
            error = critic.forward(x).sub_(target).view(-1)
            losses["critic_loss"] += th.dot(error, error).div_(n)
            critic.backward(error.view(n, 1).mul_(2 / n))
        self.critic_adam.step()
        if self.n_updates % self.policy_delay:
            return losses

        x[:, of_actions] = self.actor.forward(x[:, :obs_dim])
        q = self.critics[0].forward(x)
        losses["actor_loss"] = q.mean().neg_()
        self.actor.backward(self.critics[0].backward(q.fill_(-1 / n), wrt_parameters=False, wrt_input=of_actions))
        self.actor_adam.step()

        self.target.values.lerp_(self.online.values, self.tau)
        return losses

    def _inputs(self, batch: Batch) -> tuple[th.Tensor, th.Tensor]:
        """What the critics see of (s, a), and of s' with room for mu'(s'): two tensors (batch, obs + action)."""
        n, action_dim = batch.actions.shape
        if len(self.x) != n:
            self.x = self.online.values.new_empty(n, self.x.shape[1])
            self.next_x = th.empty_like(self.x)
        self.x[:, -action_dim:] = batch.actions
        self.x[:, :-action_dim] = batch.observations.flatten(1)  # type: ignore[union-attr]
        self.next_x[:, :-action_dim] = batch.next_observations.flatten(1)  # type: ignore[union-attr]
        return self.x, self.next_x


def _sequentials(policy: DDPGPolicy) -> list[nn.Module]:
    return [policy.actor.mu, policy.actor_target.mu, *policy.critic.q_networks, *policy.critic_target.q_networks]
