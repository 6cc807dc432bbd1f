"""What recurrent networks remember of the present episodes."""

from typing import Any

import numpy as np
import torch as th

from sb3_ddpg_ext.networks.recurrent import State
from sb3_ddpg_ext.policies.recurrent import RecurrentPolicy


class Histories:
    """What the networks remember of the present episodes: their states, the previous actions and rewards."""

    def __init__(self) -> None:
        self.states: list[State] = []  # of the actor's encoder, and of the critic's where it is stored
        self.actions = np.empty(0, np.float32)  # the actor's for the observations taken in last, (n_envs, action_dim)

    @property
    def have_begun(self) -> bool:
        return bool(self.states)

    def begin(self, policy: RecurrentPolicy, n_envs: int, with_critic: bool) -> None:
        """
        Begin all episodes, with states of zeros.

        :param policy: whose encoders take the observations in
        :param n_envs: number of environments
        :param with_critic: whether to follow the critic's state, too
        """
        nets = (policy.actor, policy.critic) if with_critic else (policy.actor,)
        self.states = [net.encoder.initial_state(n_envs) for net in nets]  # type: ignore[operator, union-attr]
        like = next(policy.parameters())
        self.previous_actions = like.new_zeros(n_envs, int(np.prod(policy.action_space.shape)), requires_grad=False)
        self.previous_rewards = like.new_zeros(n_envs, 1, requires_grad=False)

    @th.no_grad()
    def take_in(self, policy: RecurrentPolicy, observations: Any) -> None:
        """
        Act on the next observations. :meth:`go_on` makes the state after them the present one.

        :param policy: the policy
        :param observations: one of each environment
        """
        obs, _ = policy.obs_to_tensor(observations)
        scaled, self._next_states = policy.step(obs, self.previous_actions, self.previous_rewards, self.states)
        self.actions = scaled.cpu().numpy()

    def go_on(self, actions: np.ndarray, rewards: np.ndarray, dones: np.ndarray) -> None:
        """
        :param actions: that were taken, on the [-1, 1] scale
        :param rewards: for them
        :param dones: which episodes have ended; their history begins anew
        """
        self.states = self._next_states
        self.previous_actions.copy_(th.as_tensor(actions).reshape(len(rewards), -1))
        self.previous_rewards.copy_(th.as_tensor(rewards).reshape(-1, 1))
        if np.count_nonzero(dones):
            ended = th.as_tensor(np.asarray(dones, bool)).to(self.previous_actions.device)
            states = (part.transpose(0, 1) for state in self.states for part in state)
            for part in (self.previous_actions, self.previous_rewards, *states):
                part[ended] = 0

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` takes, for a training that goes on from a checkpoint."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def restore(self, state: dict[str, Any], device: th.device) -> None:
        """
        :param state: of :meth:`state`
        :param device: of the networks
        """
        self.__dict__.update(state)
        self.states = [tuple(part.to(device) for part in each) for each in state["states"]]
        for name in ("previous_actions", "previous_rewards"):
            if name in state:
                setattr(self, name, state[name].to(device))

    def as_rows(self) -> np.ndarray:
        """:return: the present states, a row for each environment"""
        parts = [part.transpose(0, 1).flatten(1) for state in self.states for part in state]
        return th.cat(parts, dim=1).cpu().numpy()
