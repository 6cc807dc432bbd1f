"""The same update with its gradients written out, for plain multilayer perceptrons on the CPU."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import torch as th
from torch.nn import functional as F

from sb3_ddpg_ext.batch import Batch
from sb3_ddpg_ext.learners.base import LEARNERS
from sb3_ddpg_ext.learners.flat import FlatAdam
from sb3_ddpg_ext.learners.linked import LinkedLearner
from sb3_ddpg_ext.learners.mlp import FusedMLP, Products
from sb3_ddpg_ext.learners.torch_settings import Threads


def _squares(error: th.Tensor, weights: th.Tensor | None) -> th.Tensor:
    """Return the weighted sum of squared errors, and turn the errors (batch, 1) into the gradient of its mean."""
    weighted = error if weights is None else error * weights
    total = th.linalg.vecdot(weighted, error, dim=0)[0]
    th.mul(weighted, 2 / len(error), out=error)
    return total


def _huber(error: th.Tensor, weights: th.Tensor | None) -> th.Tensor:
    """The same for Huber's loss, which is linear beyond 1."""
    losses = F.huber_loss(error, th.zeros_like(error), reduction="none")
    error.clamp_(-1, 1).div_(len(error))
    if weights is not None:
        losses, _ = losses * weights, error.mul_(weights)
    return losses.sum()


DERIVATIVES: dict[Any, Callable[[th.Tensor, th.Tensor | None], th.Tensor]] = {
    F.mse_loss: _squares,
    F.huber_loss: _huber,
}


@LEARNERS.register("fused")
class FusedLearner(LinkedLearner):
    """
    :class:`EagerLearner` without autograd: about fifty calls into torch, writing into memory that is allocated once.

    The time that remains is that of the matrix products. Each Adam step and the soft update are one call.
    """

    name = "fused"

    def _link(self) -> None:
        super()._link()
        policy = self.policy
        of_actions = slice(-int(np.prod(policy.action_space.shape)), None)
        self.products = products = Products()
        self.actor, self.actor_target = FusedMLP(policy.actor.mu, products), FusedMLP(policy.actor_target.mu, products)
        self.critics = [FusedMLP(net, products, of_actions) for net in policy.critic.q_networks]
        self.critics_target = [FusedMLP(net, products) for net in policy.critic_target.q_networks]
        self.x = self.online.values.new_empty(0)
        self.derive = DERIVATIVES[policy.critic.head.error]  # type: ignore[index]

    def _allocate(self, n: int, obs_dim: int, action_dim: int) -> None:
        """Memory for batches of ``n``. The critics' input holds that of the actor, and takes its output."""
        for mlp in (self.actor, self.actor_target, *self.critics, *self.critics_target):
            mlp.allocate(n)
        self.x, self.next_x = (self.online.values.new_empty(n, obs_dim + action_dim) for _ in range(2))
        self.obs, self.actions = self.x.split((obs_dim, action_dim), dim=1)
        self.next_obs, self.next_actions = self.next_x.split((obs_dim, action_dim), dim=1)

    def _update(self, batch: Batch) -> dict[str, th.Tensor]:
        self.products.n_threads = th.get_num_threads()
        with th.inference_mode(), Threads(1):
            return self._update_in_memory(batch)

    def _update_in_memory(self, batch: Batch) -> dict[str, th.Tensor]:
        n = len(batch.rewards)
        self._take(batch)

        self.next_actions.copy_(self.smooth(self.actor_target.forward(self.next_obs)))
        next_q = [critic.forward(self.next_x) for critic in self.critics_target]
        target = self.policy.critic_target.target(batch, next_q)
        of_networks, errors = [], []
        for critic in self.critics:
            error = th.sub(critic.forward(self.x), target, out=critic.grad)
            if batch.indices is not None:
                errors.append(error.abs()[:, 0])
            of_networks.append(self.derive(error, batch.weights))
            critic.backward()
        self._clip(self.critic_adam)
        self.critic_adam.step()
        self.errors = reduce(th.maximum, errors) if errors else None
        losses = {"critic_loss": reduce(th.add, of_networks) / n}
        if self.updates_actor:
            losses["actor_loss"] = self._update_actor(n)
        if self.updates_targets:
            self.target.values.lerp_(self.online.values, self.settings.tau)
        return losses

    def _update_actor(self, n: int) -> th.Tensor:
        self.actions.copy_(self.actor.forward(self.obs))
        critic = self.critics[0]
        loss = critic.forward(self.x).mean().neg_()
        critic.grad.fill_(-1 / n)
        critic.backward(wrt_parameters=False, into=self.actor.grad)
        if self.action_l2:
            loss += self.action_l2 * self.actions.square().mean()
            self.actor.grad.add_(self.actions, alpha=2 * self.action_l2 / self.actions.numel())
        self.actor.backward()
        self._clip(self.actor_adam)
        self.actor_adam.step()
        return loss

    def _clip(self, adam: FlatAdam) -> None:
        largest = self.settings.max_grad_norm
        if largest is not None:
            adam.gradients.mul_((largest / (th.linalg.vector_norm(adam.gradients) + 1e-6)).clamp_(max=1))

    def _take(self, batch: Batch) -> None:
        """Copy the batch to where the networks read it, in their type."""
        obs, next_obs = self._flat(batch.observations), self._flat(batch.next_observations)
        if len(self.x) != len(obs):
            self._allocate(len(obs), obs.shape[1], batch.actions.shape[1])
        self.obs.copy_(obs)
        self.actions.copy_(batch.actions)
        self.next_obs.copy_(next_obs)
