"""
Save model and replay buffer every so often, and go on from the last checkpoint after an interruption:
python examples/checkpoints.py
"""

from pathlib import Path
from tempfile import mkdtemp

import gymnasium as gym
from stable_baselines3.common.callbacks import CheckpointCallback

from sb3_ddpg_ext import DDPG


def main(total_timesteps: int = 8_000, folder: str | None = None) -> DDPG:
    folder = folder or mkdtemp()
    checkpoints = CheckpointCallback(max(total_timesteps // 8, 1), folder, "pendulum", save_replay_buffer=True)

    model = DDPG("MlpPolicy", "Pendulum-v1", buffer_size=20_000, gamma=0.98, action_noise="normal_0.1", seed=0)
    model.learn(total_timesteps * 2 // 3, callback=checkpoints)  # suppose that it is interrupted here

    steps = max(int(path.stem.split("_")[1]) for path in Path(folder).glob("pendulum_*_steps.zip"))
    model = DDPG.load(f"{folder}/pendulum_{steps}_steps.zip", env=gym.make("Pendulum-v1"))
    model.load_replay_buffer(f"{folder}/pendulum_replay_buffer_{steps}_steps.pkl")
    print(f"{folder}: going on after {steps} steps, with {model.replay_buffer.size()} transitions in the buffer")

    model.learn(total_timesteps - steps, callback=checkpoints, reset_num_timesteps=False)
    print(f"Finished after {model.num_timesteps} steps")
    return model


if __name__ == "__main__":
    main()
