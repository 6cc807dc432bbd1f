"""
DDPG as in its paper (Lillicrap et al. 2016, section 7): python examples/paper.py

The same from the command line: rl_zoo3 train --algo ddpg_ext --env Pendulum-v1 -conf hyperparams/presets/paper.yml
"""

from stable_baselines3.common.evaluation import evaluate_policy

from sb3_ddpg_ext import DDPG


def main(total_timesteps: int = 50_000) -> DDPG:
    model = DDPG(
        "PaperPolicy",  # 400-300, BatchNorm, the action at the critic's second layer, last layers 3e-3, weight decay 1e-2
        "Pendulum-v1",
        learning_rate=1e-4,
        qf_learning_rate=1e-3,
        tau=1e-3,
        batch_size=64,
        action_noise=dict(kind="ou", theta=0.15, sigma=0.2, dt=1.0),
        learning_starts=64,
        random_steps=0,
        seed=0,
        verbose=1,
    )
    model.learn(total_timesteps)
    mean_return, std_return = evaluate_policy(model, model.get_env(), n_eval_episodes=10)
    print(f"mean return {mean_return:.0f} +/- {std_return:.0f}")
    return model


if __name__ == "__main__":
    main()
