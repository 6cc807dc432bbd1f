"""The DDPG update, to be read beside Algorithm 1 of Lillicrap et al. (2016), arXiv 1509.02971."""

import torch as th

from sb3_ddpg_ext.batch import Batch
from sb3_ddpg_ext.policies import DDPGPolicy


class EagerLearner:
    """
    One gradient step of critic and actor, then the soft update of both targets.

    :param policy: holds actor, critic, their targets and optimisers; changed in place
    :param tau: coefficient of the soft target update, 0 (targets stay) to 1 (targets are copies)
    """

    def __init__(self, policy: DDPGPolicy, tau: float):
        self.policy = policy
        self.tau = tau
        self.actor_parameters = list(policy.actor.parameters())
        online, target = (policy.critic, policy.actor), (policy.critic_target, policy.actor_target)
        # A features extractor that actor and critic share is one set of tensors: a dict keeps it once, in order.
        self.parameters: list[th.Tensor] = list(dict.fromkeys(p for net in online for p in net.parameters()))
        self.target_parameters: list[th.Tensor] = list(dict.fromkeys(p for net in target for p in net.parameters()))
        self.buffers = list(dict.fromkeys(b for net in online for b in net.buffers()))
        self.target_buffers = list(dict.fromkeys(b for net in target for b in net.buffers()))

    def update(self, batch: Batch) -> dict[str, th.Tensor]:
        """
        :param batch: N transitions (s_i, a_i, r_i, s_i+1)
        :return: the two losses, as scalar tensors on the policy's device
        """
        actor, critic = self.policy.actor, self.policy.critic
        actor_target, critic_target = self.policy.actor_target, self.policy.critic_target

        with th.no_grad():  # y_i = r_i + gamma Q'(s_i+1, mu'(s_i+1)), without the second term after a termination
            target = critic_target.backup(batch, actor_target(batch.next_observations))

        critic_loss = critic.loss(batch, target)  # L = 1/N sum_i (y_i - Q(s_i, a_i))^2
        critic.optimizer.zero_grad()
        critic_loss.backward()
        critic.optimizer.step()

        # The sampled policy gradient, eq. 6: 1/N sum_i grad_a Q(s_i, mu(s_i)) grad_theta mu(s_i).
        actor_loss = -critic.value(batch.observations, actor(batch.observations)).mean()
        actor.optimizer.zero_grad()
        # Through the critic, whose parameters take no gradient; nor do frozen ones of the actor.
        actor_loss.backward(inputs=[p for p in self.actor_parameters if p.requires_grad])
        actor.optimizer.step()

        self.update_targets()
        return {"critic_loss": critic_loss.detach(), "actor_loss": actor_loss.detach()}

    @th.no_grad()
    def update_targets(self) -> None:
        """theta' <- tau theta + (1 - tau) theta'. Buffers, such as BatchNorm's running statistics, are copied."""
        th._foreach_mul_(self.target_parameters, 1 - self.tau)
        th._foreach_add_(self.target_parameters, self.parameters, alpha=self.tau)
        if self.buffers:
            th._foreach_copy_(self.target_buffers, self.buffers)
