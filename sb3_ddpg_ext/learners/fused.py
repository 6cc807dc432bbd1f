"""The same update with its gradients written out in torch, for plain multilayer perceptrons on the CPU."""

from collections.abc import Callable, Iterable
from functools import partial, reduce
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
from sb3_ddpg_ext.policies.heads import Categorical, Head

# From a critic's outputs and their target, (n, n_outputs), and weights the sum of the losses; the last argument takes the
# gradient of their mean by the outputs.
Derive = Callable[[th.Tensor, th.Tensor, th.Tensor | None, th.Tensor], th.Tensor]
# From its outputs the expected returns, (n, 1); the last argument takes the gradient of minus their mean.
Climb = Callable[[th.Tensor, th.Tensor], th.Tensor]


def _squares(outputs: th.Tensor, target: th.Tensor, weights: th.Tensor | None, into: th.Tensor) -> th.Tensor:
    error = th.sub(outputs, target, out=into)
    weighted = error if weights is None else error * weights
    total = th.linalg.vecdot(weighted, error, dim=0)[0]
    th.mul(weighted, 2 / len(error), out=error)
    return total


def _huber(outputs: th.Tensor, target: th.Tensor, weights: th.Tensor | None, into: th.Tensor) -> th.Tensor:
    """Huber's loss is linear beyond 1."""
    losses = F.huber_loss(outputs, target, reduction="none")
    error = th.sub(outputs, target, out=into).clamp_(-1, 1).div_(len(outputs))
    if weights is not None:
        losses, _ = losses * weights, error.mul_(weights)
    return losses.sum()


def _cross_entropy(outputs: th.Tensor, target: th.Tensor, weights: th.Tensor | None, into: th.Tensor) -> th.Tensor:
    """The gradient of -sum t log softmax(z) is softmax(z) sum t - t."""
    logarithms = outputs.log_softmax(dim=1)
    losses = th.linalg.vecdot(target, logarithms, dim=1).neg_()[:, None]
    error = th.exp(logarithms, out=into).mul_(target.sum(dim=1, keepdim=True)).sub_(target).div_(len(outputs))
    if weights is not None:
        losses, _ = losses * weights, error.mul_(weights)
    return losses.sum()


DERIVATIVES: dict[Any, Derive] = {F.mse_loss: _squares, F.huber_loss: _huber}


def _climb(outputs: th.Tensor, into: th.Tensor) -> th.Tensor:
    into.fill_(-1 / len(outputs))
    return outputs


def _climb_atoms(head: Categorical, outputs: th.Tensor, into: th.Tensor) -> th.Tensor:
    """The gradient of sum p z over the atoms z, by what p is the softmax of, is p (z - sum p z)."""
    probabilities = outputs.softmax(dim=1)
    means = th.mv(probabilities, head.atoms)[:, None]
    th.sub(head.atoms, means, out=into).mul_(probabilities).mul_(-1 / len(outputs))
    return means


def _combine_mean(values: list[th.Tensor], gradients: list[th.Tensor]) -> th.Tensor:
    th._foreach_mul_(gradients, 1 / len(values))
    return sum(values) / len(values)  # type: ignore[return-value]


def _combine_min(values: list[th.Tensor], gradients: list[th.Tensor]) -> th.Tensor:
    """Of equal ones the first is climbed; autograd shares the gradient among them."""
    smallest, which = th.cat(values, dim=1).min(dim=1, keepdim=True)
    for i, gradient in enumerate(gradients):
        gradient.mul_(which == i)
    return smallest


# For an objective the value that the actor climbs, from those of the critics; their gradients are scaled to it.
COMBINE = {"first": None, "mean": _combine_mean, "min": _combine_min}


def _derivatives(head: Head) -> tuple[Derive, Climb]:
    if isinstance(head, Categorical):
        return _cross_entropy, partial(_climb_atoms, head)
    return DERIVATIVES[head.error], _climb  # type: ignore[attr-defined]


@LEARNERS.register("fused")
class FusedLearner(LinkedLearner):
    """
    :class:`EagerLearner` without autograd: some fifty calls into torch for plain DDPG, writing into memory that is allocated
    once. The time that remains there is that of the matrix products. Each Adam step and the soft update are one call.

    With BatchNorm or categorical critics there are several times as many, and some allocate.
    """

    name = "fused"

    def _link(self) -> None:
        super()._link()
        policy = self.policy
        of_actions = slice(-int(np.prod(policy.action_space.shape)), None)
        self.products = products = Products()
        self.actor, self.actor_target = FusedMLP(policy.actor.mu, products), FusedMLP(policy.actor_target.mu, products)
        self.actor.layers[-1].penalise(self.preactivation_penalty)
        self.critics = [FusedMLP(net, products, of_actions) for net in policy.critic.q_networks]
        self.critics_target = [FusedMLP(net, products) for net in policy.critic_target.q_networks if self.has_targets]
        self.combine = COMBINE[policy.critic.options.objective] if len(self.critics) > 1 else None
        climbed = slice(1 if self.combine is None else None)
        self.climbed = self.critics[climbed]
        if not self.has_targets:  # then those have memory for a joint pass, of twice as many transitions
            self.climbed = [FusedMLP(net, products, of_actions) for net in policy.critic.q_networks[climbed]]
        self.x = self.online.values.new_empty(0)
        self.derive, self.climb = _derivatives(policy.critic.head)

    def _allocate(self, n: int, obs_dim: int, action_dim: int) -> None:
        """Memory for batches of ``n``. The critics' input holds that of the actor, and takes its output."""
        for mlp in (self.actor, self.actor_target, *self.critics_target):
            mlp.allocate(n)
        for mlp in self.critics:
            mlp.allocate(n if self.has_targets else 2 * n)
        if not self.has_targets:
            for mlp in self.climbed:
                mlp.allocate(n)
        self.other_grad = th.empty_like(self.actor.grad)  # of the actor's outputs, by each critic but the first
        self.both = self.online.values.new_empty(2 * n, obs_dim + action_dim)  # present and next ones
        self.x, self.next_x = self.both.split(n)
        self.obs, self.actions = self.x.split((obs_dim, action_dim), dim=1)
        self.next_obs, self.next_actions = self.next_x.split((obs_dim, action_dim), dim=1)

    def _update(self, batch: Batch) -> dict[str, th.Tensor]:
        self.products.n_threads = th.get_num_threads()
        with th.inference_mode(), Threads(1):
            return self._update_in_memory(batch)

    def _update_in_memory(self, batch: Batch) -> dict[str, th.Tensor]:
        n = len(batch.rewards)
        self._take(batch)

        of_targets = self.targets_of_batch
        self.next_actions.copy_(self.smooth(self.actor_target.forward(self.next_obs, of_targets)))
        losses = {"critic_loss": (self._pass_in_turn if self.has_targets else self._pass_jointly)(batch, n) / n}
        self._clip(self.critic_adam)
        self.critic_adam.step()
        if self.updates_actor:
            losses["actor_loss"] = self._update_actor()
        if self.has_targets and self.updates_targets:
            self.target.values.lerp_(self.online.values, self.settings.tau)
        return losses

    def _pass_in_turn(self, batch: Batch, n: int) -> th.Tensor:
        """The critics' gradients, each after its own pass, with targets from their copies. Returns the sum of the losses."""
        next_outputs = [critic.forward(self.next_x, self.targets_of_batch) for critic in self.critics_target]
        target = self.policy.critic_target.target(batch, next_outputs)
        return self._critic_gradients(batch, target, (critic.forward(self.x, True) for critic in self.critics), n)

    def _pass_jointly(self, batch: Batch, n: int) -> th.Tensor:
        """The same with targets that come out of the same pass, for the second half of it."""
        outputs = [critic.forward(self.both, True) for critic in self.critics]
        target = self.policy.critic_target.target(batch, [output[n:] for output in outputs])
        return self._critic_gradients(batch, target, (output[:n] for output in outputs), n)

    def _critic_gradients(self, batch: Batch, target: th.Tensor, outputs: Iterable[th.Tensor], n: int) -> th.Tensor:
        of_networks, errors = [], []
        for critic, output in zip(self.critics, outputs, strict=True):
            if batch.indices is not None:
                errors.append(self.policy.critic.head.errors(output, target)[:, 0])
            of_networks.append(self.derive(output, target, batch.weights, critic.grad[:n]))
            critic.backward(n=n if n < len(critic.grad) else None)
        self.errors = reduce(th.maximum, errors) if errors else None
        return reduce(th.add, of_networks)

    def _update_actor(self) -> th.Tensor:
        self.actions.copy_(self.actor.forward(self.obs, True))
        values = [self.climb(critic.forward(self.x, False), critic.grad) for critic in self.climbed]
        gradients = [critic.grad for critic in self.climbed]
        loss = (values[0] if self.combine is None else self.combine(values, gradients)).mean().neg_()
        first, *others = self.climbed
        first.backward(wrt_parameters=False, into=self.actor.grad)
        for critic in others:
            critic.backward(wrt_parameters=False, into=self.other_grad)
            self.actor.grad.add_(self.other_grad)
        if self.action_l2:
            loss += self.action_l2 * self.actions.square().mean()
            self.actor.grad.add_(self.actions, alpha=2 * self.action_l2 / self.actions.numel())
        if self.preactivation_penalty:
            loss += self.preactivation_penalty * self.actor.layers[-1].before.square().mean()
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
