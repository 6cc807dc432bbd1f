"""
Pendulum-v1 with observations or rewards on another scale, for docs/doctor.md.

python results/scales.py > results/scales_Pendulum-v1.csv
"""

import gymnasium as gym
import numpy as np
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_ddpg_ext import DDPG

SEEDS = (0, 1, 2)
FACTORS = {
    "observations": (1, 3, 10, 30, 0.1, 0.01, 0.001),
    "rewards": (0.0001, 0.001, 0.01, 10, 100, 1000),
    "velocity": (0.01, 0.001, 100, 1000),
}


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


def mean_return(what: str, factor: float, seed: int) -> float:
    """Of 20 episodes after 4,000 steps, in the units of before."""
    change = {what: factor}
    settings = dict(batch_size=128, action_noise="normal_0.1", policy_kwargs=dict(net_arch=[256, 256]))
    model = DDPG("MlpPolicy", Scaled(**change), seed=seed, **settings)
    env = DummyVecEnv([lambda: Monitor(Scaled(**change))])
    env.seed(10_000)
    return evaluate_policy(model.learn(4000), env, 20)[0] / change.get("rewards", 1)


if __name__ == "__main__":
    print("multiplied,factor,seed,mean_return")
    for what, factors in FACTORS.items():
        for factor in factors:
            for seed in SEEDS:
                print(what, factor, seed, f"{mean_return(what, factor, seed):.1f}", sep=",", flush=True)
