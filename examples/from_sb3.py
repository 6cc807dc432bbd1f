"""
Go on with a model that Stable-Baselines3's own DDPG has trained and saved: python examples/from_sb3.py
"""

from pathlib import Path
from tempfile import mkdtemp

import gymnasium as gym
import numpy as np
import stable_baselines3

from sb3_ddpg_ext import DDPG


def main(total_timesteps: int = 4_000, folder: str | None = None) -> DDPG:
    path = Path(folder or mkdtemp()) / "sb3_ddpg.zip"
    env = gym.make("Pendulum-v1")

    theirs = stable_baselines3.DDPG("MlpPolicy", env, gamma=0.98, seed=0).learn(total_timesteps // 2)
    theirs.save(path)

    ours = DDPG.load(path, env=env)
    observations = np.array([env.observation_space.sample() for _ in range(100)])
    np.testing.assert_array_equal(ours.predict(observations)[0], theirs.predict(observations)[0])
    print(f"The same actions after {ours.num_timesteps} steps; {total_timesteps // 2} more follow")

    ours.learn(total_timesteps // 2, reset_num_timesteps=False)
    return ours


if __name__ == "__main__":
    main()
