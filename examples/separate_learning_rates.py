"""
A slower actor than critic, both with a learning rate that falls linearly to zero, and Ornstein-Uhlenbeck noise; as strings,
as they would stand in an rl_zoo3 YAML file: python examples/separate_learning_rates.py
"""

from stable_baselines3.common.evaluation import evaluate_policy

from sb3_ddpg_ext import DDPG


def main(total_timesteps: int = 8_000) -> DDPG:
    model = DDPG(
        "MlpPolicy",
        "Pendulum-v1",
        learning_rate="lin_5e-4",
        qf_learning_rate="lin_1e-3",
        action_noise="ou_0.2",
        gamma=0.98,
        seed=0,
        verbose=1,  # the log shows train/learning_rate and train/qf_learning_rate
    )
    model.learn(total_timesteps)
    mean_return, std_return = evaluate_policy(model, model.get_env(), n_eval_episodes=10)
    print(f"Mean return {mean_return:.0f} +/- {std_return:.0f}")
    return model


if __name__ == "__main__":
    main()
