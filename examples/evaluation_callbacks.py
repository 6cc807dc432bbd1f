"""
Evaluate during training, keep the best model, and stop when it is good enough or does not get better any more, with
Stable-Baselines3's own callbacks: python examples/evaluation_callbacks.py
"""

from pathlib import Path
from tempfile import mkdtemp

import gymnasium as gym
from stable_baselines3.common.callbacks import (
    EvalCallback,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.monitor import Monitor

from sb3_ddpg_ext import DDPG


def main(total_timesteps: int = 20_000, folder: str | None = None) -> DDPG:
    folder = folder or mkdtemp()
    evaluation = EvalCallback(
        Monitor(gym.make("Pendulum-v1")),
        eval_freq=min(500, total_timesteps),
        n_eval_episodes=10,
        callback_on_new_best=StopTrainingOnRewardThreshold(-150, verbose=1),
        callback_after_eval=StopTrainingOnNoModelImprovement(max_no_improvement_evals=5, min_evals=5, verbose=1),
        best_model_save_path=folder,
        log_path=folder,
    )
    DDPG("MlpPolicy", "Pendulum-v1", gamma=0.98, action_noise="normal_0.1", seed=0).learn(total_timesteps, evaluation)

    best_model = DDPG.load(Path(folder) / "best_model.zip")
    print(f"The best model had a mean return of {evaluation.best_mean_reward:.0f}. It is in {folder}.")
    return best_model


if __name__ == "__main__":
    main()
