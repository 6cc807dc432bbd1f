"""Pendulum-v1 with observations or rewards on another scale, for docs/doctor.md: python results/scales.py"""

import gymnasium as gym
import numpy as np
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_ddpg_ext import DDPG

SEEDS = (0, 1, 2)
CHANGES = [
    {},
    *({"observations": factor} for factor in (3, 10, 30, 0.1, 0.01, 0.001)),
    *({"rewards": factor} for factor in (0.0001, 0.001, 0.01, 10, 100, 1000)),
    *({"velocity": factor} for factor in (0.01, 0.001, 100, 1000)),
]


class Scaled(gym.Wrapper):
    """Pendulum-v1, multiplied."""

    def __init__(self, observations: float = 1.0, rewards: float = 1.0, velocity: float = 1.0):
        super().__init__(gym.make("Pendulum-v1"))
        self.factors = np.array([observations, observations, observations * velocity], np.float32)
        self.rewards = rewards
        space = self.env.observation_space
        self.observation_space = gym.spaces.Box(space.low * self.factors, space.high * self.factors)

    def reset(self, **kwargs):
        obs, info = self.env.reset(**kwargs)
        return obs * self.factors, info

    def step(self, action):
        obs, reward, *rest = self.env.step(action)
        return obs * self.factors, reward * self.rewards, *rest


def returns(change: dict[str, float], seed: int) -> float:
    """In the units of before."""
    model = DDPG(
        "MlpPolicy",
        Scaled(**change),
        batch_size=128,
        action_noise="normal_0.1",
        policy_kwargs=dict(net_arch=[256, 256]),
        seed=seed,
    )
    model.learn(4000)
    return evaluate_policy(model, Monitor(Scaled(**change)), 20)[0] / change.get("rewards", 1)


if __name__ == "__main__":
    for change in CHANGES:
        print(change or "nothing", *(f"{returns(change, seed):.0f}" for seed in SEEDS), sep=", ", flush=True)
