"""The DDPG update, to be read beside Algorithm 1 of Lillicrap et al. (2016), arXiv 1509.02971."""

import torch as th

from sb3_ddpg_ext.batch import Batch, Sequences
from sb3_ddpg_ext.learners.base import LEARNERS, Learner, PolicyTensors, UpdateSettings, settle_optimizer
from sb3_ddpg_ext.networks import evaluating
from sb3_ddpg_ext.policies import DDPGPolicy


@LEARNERS.register("eager")
class EagerLearner(Learner):
    """The update of the paper, by autograd, for any policy on any device. The other learners must agree with it."""

    def __init__(self, policy: DDPGPolicy, settings: UpdateSettings | None = None):
        super().__init__(policy, settings)
        settle_optimizer(policy.actor.optimizer)
        settle_optimizer(policy.critic.optimizer)
        self.tensors = PolicyTensors(policy)

    @classmethod
    def reason_against(cls, policy: DDPGPolicy, settings: UpdateSettings) -> str | None:
        return None

    def update(self, batch: Batch | Sequences) -> dict[str, th.Tensor]:
        critic, critic_target, actor_target = self.policy.critic, self.policy.critic_target, self.policy.actor_target
        self.n_updates += 1
        if not self.tensors.are_current():  # layers may have been replaced
            self.tensors = PolicyTensors(self.policy)
        with self.autocast:
            batch = self.policy.unrolled(batch)
            # y_i = r_i + gamma Q'(s_i+1, mu'(s_i+1)), without the second term after a termination
            with th.no_grad(), evaluating(*[actor_target] * actor_target.training):  # as when there are no targets
                target = critic_target.backup(batch, self.smooth(actor_target(batch.next_observations)))
            critic_loss, self.errors = critic.loss(batch, target)  # L = 1/N sum_i (y_i - Q(s_i, a_i))^2
        critic.optimizer.zero_grad()
        critic_loss.backward()
        self.clip(critic.parameters())
        critic.optimizer.step()
        losses = {"critic_loss": critic_loss.detach()}
        if self.updates_actor:
            losses["actor_loss"] = self.update_actor(batch)
        if self.updates_targets:
            self.update_targets()
        return losses

    def update_actor(self, batch: Batch) -> th.Tensor:
        """A step along the sampled policy gradient, eq. 6: 1/N sum_i grad_a Q(s_i, mu(s_i)) grad_theta mu(s_i)."""
        actor = self.policy.actor
        with self.autocast:
            actor_loss = self.policy.actor_loss(batch)
        actor.optimizer.zero_grad()
        if learning := [p for p in self.tensors.of_actor if p.requires_grad]:
            actor_loss.backward(inputs=learning)  # through the critic, whose parameters take no gradient
        self.clip(learning)
        actor.optimizer.step()
        return actor_loss.detach()

    @th.no_grad()
    def update_targets(self) -> None:
        """theta' <- tau theta + (1 - tau) theta'. Buffers, such as BatchNorm's running statistics, are copied."""
        tensors, tau = self.tensors, self.settings.tau
        if tensors.parameters:  # none without targets
            th._foreach_mul_(tensors.target_parameters, 1 - tau)
            th._foreach_add_(tensors.target_parameters, tensors.parameters, alpha=tau)
        if tensors.buffers:
            th._foreach_copy_(tensors.target_buffers, tensors.buffers)
