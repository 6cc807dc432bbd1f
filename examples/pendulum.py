"""
Train, evaluate, save and load a model of the pendulum that swings up and stands: python examples/pendulum.py
"""

from pathlib import Path
from tempfile import mkdtemp

from stable_baselines3.common.evaluation import evaluate_policy

from sb3_ddpg_ext import DDPG


def main(total_timesteps: int = 8_000, folder: str | None = None) -> float:
    path = Path(folder or mkdtemp()) / "pendulum.zip"

    model = DDPG("MlpPolicy", "Pendulum-v1", gamma=0.98, action_noise="normal_0.1", seed=0, verbose=1)
    model.learn(total_timesteps)
    model.save(path)

    loaded = DDPG.load(path, env=model.get_env())
    mean_return, std_return = evaluate_policy(loaded, loaded.get_env(), n_eval_episodes=10)
    print(f"{path}: mean return {mean_return:.0f} +/- {std_return:.0f} (random actions: about -1200)")
    return float(mean_return)


if __name__ == "__main__":
    main()
