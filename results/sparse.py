"""A sparse reward for the comparison of exploration noise: nothing but 1 for each step on which the pendulum stands."""

from typing import Any

import gymnasium as gym
import numpy as np


class Standing(gym.Wrapper):
    """Pendulum-v1 that hangs at the beginning, with reward 1 within 15 degrees of upright and 0 elsewhere."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self.env.reset(**kwargs)
        pendulum: Any = self.unwrapped
        pendulum.state = np.array([np.pi + pendulum.np_random.uniform(-0.1, 0.1), 0.0])
        return pendulum._get_obs(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, _, terminated, truncated, info = self.env.step(action)
        return observation, float(observation[0] > np.cos(np.radians(15))), terminated, truncated, info
