"""Learn from another agent's episodes: they are a quarter of each batch, and cloned where the critic finds them better."""

import sys
import tempfile
from pathlib import Path

import gymnasium as gym
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.buffers import write_episodes
from sb3_ddpg_ext.demonstrations import record_episodes


def main(total_timesteps: int = 10_000) -> float:
    """Train a teacher, record it, and give a pupil a fifth of the steps; returns the pupil's mean evaluation return."""
    teacher = DDPG("MlpPolicy", "Pendulum-v1", action_noise="normal_0.1", seed=0).learn(total_timesteps)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "demonstrations.npz"
        write_episodes(file, record_episodes(teacher, make_vec_env("Pendulum-v1", seed=1), n_episodes=10))
        pupil = DDPG(
            "MlpPolicy",
            "Pendulum-v1",
            action_noise="normal_0.1",
            replay_buffer_kwargs=dict(demonstrations=str(file), demonstration_share=0.25),
            policy_kwargs=dict(behaviour_cloning=10.0),
            seed=1,
        ).learn(total_timesteps // 5)
    mean_return, _ = evaluate_policy(pupil, Monitor(gym.make("Pendulum-v1")), 20)
    return mean_return


if __name__ == "__main__":
    print(f"mean return of the pupil: {main(*map(int, sys.argv[1:])):.0f}")
