"""
Keep the model with the best mean return of the last training episodes, without separate evaluations. The final model may
well be worse, as DDPG's progress is not steady: python examples/save_best_mean_return.py

It needs the extra mujoco: pip install -c constraints.txt -e '.[mujoco]'
"""

from pathlib import Path
from tempfile import mkdtemp

from stable_baselines3.common.evaluation import evaluate_policy

from sb3_ddpg_ext import DDPG, SaveOnBestMeanReturn


def main(total_timesteps: int = 15_000, folder: str | None = None) -> DDPG:
    folder = folder or mkdtemp()
    model = DDPG("MlpPolicy", "InvertedPendulum-v5", action_noise="normal_0.1", policy_kwargs=dict(net_arch=[64, 64]), seed=1)
    model.learn(total_timesteps, callback=SaveOnBestMeanReturn(folder, n_episodes=10, verbose=1))

    best_model = DDPG.load(Path(folder) / "best_mean_return.zip")
    for name, candidate in (("final", model), ("best", best_model)):
        mean_return, std_return = evaluate_policy(candidate, model.get_env(), n_eval_episodes=10)
        print(f"{name} model: {mean_return:.0f} +/- {std_return:.0f}")
    return best_model


if __name__ == "__main__":
    main()
