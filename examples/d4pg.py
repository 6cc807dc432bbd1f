"""
A distributional critic with n-step returns, as in D4PG (Barth-Maron et al. 2018) without its workers: python examples/d4pg.py
"""

from stable_baselines3.common.evaluation import evaluate_policy

from sb3_ddpg_ext import DDPG


def main(total_timesteps: int = 10_000) -> DDPG:
    model = DDPG(
        "MlpPolicy",
        "Pendulum-v1",
        n_steps=5,
        action_noise="normal_0.3",
        learning_starts=1_000,
        policy_kwargs=dict(
            net_arch=dict(pi=[64, 64], qf=[128, 128]),
            actor_norm="layer",
            critic_norm="layer",
            critic=dict(kind="categorical", n_atoms=51, v_min=-5, v_max=5),
            scale_returns=True,  # so that the atoms span the returns of any task; else v_min and v_max must
        ),
        gamma=0.98,
        seed=0,
        verbose=1,  # the log shows train/q_mean, q_min, q_max and td_error on the scale of the rewards
    )
    model.learn(total_timesteps)
    mean_return, std_return = evaluate_policy(model, model.get_env(), n_eval_episodes=10)
    print(f"mean return {mean_return:.0f} +/- {std_return:.0f}")
    return model


if __name__ == "__main__":
    main()
