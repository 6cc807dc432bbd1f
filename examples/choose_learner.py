"""
The same training with different learners, and how long each takes:
python examples/choose_learner.py
"""

import time

import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer

from sb3_ddpg_ext import DDPG


def main(total_timesteps: int = 2_000) -> dict[str, float]:
    variants = {
        "auto": {},  # the fastest that can train the networks; verbose=1 says which
        "eager": dict(learner="eager"),  # by autograd: SB3's own numbers, to the last bit
        "eager, SB3's buffer": dict(learner="eager", replay_buffer_class=ReplayBuffer),
    }
    seconds = {}
    for name, kwargs in variants.items():
        model = DDPG("MlpPolicy", "Pendulum-v1", buffer_size=20_000, seed=0, device="cpu", **kwargs)
        start = time.perf_counter()
        model.learn(total_timesteps)
        seconds[name] = time.perf_counter() - start
        mean_return = np.mean([episode["r"] for episode in model.ep_info_buffer])
        print(f"{name:20} {seconds[name]:6.1f} s, mean return {mean_return:.0f}")
    return seconds


if __name__ == "__main__":
    main()
