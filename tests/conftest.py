"""What the test modules share."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces

th.set_num_threads(1)  # the tests run side by side


class DictPendulum(gym.Wrapper):
    """Pendulum with its observation split into a dict of two boxes."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        low, high = env.observation_space.low, env.observation_space.high
        self.observation_space = spaces.Dict(
            {"angle": spaces.Box(low[:2], high[:2]), "velocity": spaces.Box(low[2:], high[2:])}
        )

    def _split(self, obs):
        return {"angle": obs[:2], "velocity": obs[2:]}

    def reset(self, **kwargs):
        obs, info = self.env.reset(**kwargs)
        return self._split(obs), info

    def step(self, action):
        obs, *rest = self.env.step(action)
        return self._split(obs), *rest


class CountingEnv(gym.Env):
    """Observation = (episode, step), reward = step. The rules of each episode, (length, how it ends), repeat."""

    def __init__(self, rules=((5, "terminated"),), low=-1.0, high=1.0):
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Box(np.atleast_1d(np.float32(low)), np.atleast_1d(np.float32(high)))
        self.rules = rules
        self.episode = -1
        self.actions = []

    def _obs(self):
        return np.array([self.episode, self.steps], dtype=np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode += 1
        self.steps = 0
        return self._obs(), {}

    def step(self, action):
        self.actions.append(np.array(action))
        self.steps += 1
        length, end = self.rules[self.episode % len(self.rules)]
        terminated, truncated = (self.steps >= length and end in (word, "both") for word in ("terminated", "truncated"))
        return self._obs(), float(self.steps), terminated, truncated, {}


@pytest.fixture
def dict_pendulum():
    return DictPendulum(gym.make("Pendulum-v1"))
