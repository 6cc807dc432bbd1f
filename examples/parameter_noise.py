"""
Exploration by perturbed copies of the actor, in four environments with a copy each, beside a little Gaussian noise that falls
during the training, and no noise on the random actions at the beginning: python examples/parameter_noise.py
"""

from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_ddpg_ext import DDPG


def main(total_timesteps: int = 20_000) -> DDPG:
    model = DDPG(
        "MlpPolicy",
        make_vec_env("Pendulum-v1", n_envs=4, seed=0),
        action_noise="adaptive-param_0.2, normal_lin_0.1_0",
        policy_kwargs=dict(net_arch=[64, 64], actor_norm="layer"),  # makes all layers equally sensitive to the perturbation
        random_steps=1_000,
        gradient_steps=-1,
        gamma=0.98,
        seed=0,
        verbose=1,  # the log shows exploration/parameter_sigma, parameter_distance and at_bounds
    )
    model.learn(total_timesteps)
    mean_return, std_return = evaluate_policy(model, model.get_env(), n_eval_episodes=10)  # by the actor itself
    sigma = model.parameter_noise.statistics()["parameter_sigma"]
    print(f"sigma {sigma:.3f}, mean return {mean_return:.0f} +/- {std_return:.0f}")
    return model


if __name__ == "__main__":
    main()
