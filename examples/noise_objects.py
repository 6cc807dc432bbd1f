"""
Every kind of exploration noise as an object with all its arguments, and how often each sends an action to its bound; as
strings they would be "normal_0.2", "ou_0.3", "pink_0.3", "epsilon_0.1": python examples/noise_objects.py
"""

import numpy as np

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.noise import (
    ColouredNoise,
    CombinedNoise,
    CorrelatedNoise,
    GaussianNoise,
    OrnsteinUhlenbeckNoise,
    UniformMixing,
)
from sb3_ddpg_ext.schedules import Exponential, Linear

NOISES = {
    "Gaussian, cut off": GaussianNoise(sigma=0.2, clip=0.5),
    "Gaussian, falling in each step": GaussianNoise(sigma=Exponential(0.5, decay=0.999, end=0.05)),
    "Ornstein-Uhlenbeck, as in the paper": OrnsteinUhlenbeckNoise(sigma=0.2, theta=0.15, dt=1.0, start="stationary"),
    "pink": ColouredNoise(sigma=0.3, beta=1.0),
    "correlated (here of one dimension)": CorrelatedNoise([[0.04]], scale=Linear(1.0, 0.1)),
    "one uniform action in ten": CombinedNoise([GaussianNoise(0.1), UniformMixing(0.1)]),
}


def main(total_timesteps: int = 3_000) -> dict[str, float]:
    shares = {}
    for name, noise in NOISES.items():
        model = DDPG("MlpPolicy", "Pendulum-v1", action_noise=noise, policy_kwargs=dict(net_arch=[64, 64]), seed=0)
        model.learn(total_timesteps)
        shares[name] = float(np.mean(np.abs(model.replay_buffer.actions[:total_timesteps]) >= 1))
        print(f"{name:36} {shares[name]:6.1%} of the actions at a bound")
    return shares


if __name__ == "__main__":
    main()
