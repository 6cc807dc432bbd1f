"""
Train in four environments at once with normalised observations and rewards, and restore the model together with the
statistics of the normalisation, without which it is of no use: python examples/vec_normalize.py
"""

from pathlib import Path
from tempfile import mkdtemp

from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

from sb3_ddpg_ext import DDPG


def main(total_timesteps: int = 12_000, folder: str | None = None) -> float:
    model_path, statistics_path = (Path(folder or mkdtemp()) / name for name in ("model.zip", "vecnormalize.pkl"))

    env = VecNormalize(make_vec_env("Pendulum-v1", n_envs=4, seed=0), gamma=0.98)
    # gradient_steps=-1: an update for every transition, that is four after each step of the four environments
    model = DDPG("MlpPolicy", env, gamma=0.98, gradient_steps=-1, action_noise="normal_0.1", seed=0, verbose=1)
    model.learn(total_timesteps)
    model.save(model_path)
    env.save(str(statistics_path))

    env = VecNormalize.load(str(statistics_path), make_vec_env("Pendulum-v1", n_envs=4, seed=1))
    env.training = False  # the statistics stay as they are
    env.norm_reward = False  # evaluation is in the environment's own rewards
    mean_return, std_return = evaluate_policy(DDPG.load(model_path, env=env), env, n_eval_episodes=20)
    print(f"Mean return {mean_return:.0f} +/- {std_return:.0f}")
    return float(mean_return)


if __name__ == "__main__":
    main()
