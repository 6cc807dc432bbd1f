"""
What becomes of an actor that sees observations of a large scale, and what helps: python examples/unnormalised_observations.py
"""

import gymnasium as gym
import numpy as np
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_ddpg_ext import DDPG


def make_env() -> gym.Env:
    space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    return Monitor(gym.wrappers.TransformObservation(gym.make("Pendulum-v1"), lambda obs: np.float32(100 * obs), space))


def main(total_timesteps: int = 4_000) -> dict[str, float]:
    variants = {
        "as it is": {},  # a warning says that the actor has become constant
        "normalised in the model": dict(normalize_observations=True),  # saved with it, so that it cannot be forgotten
        "LayerNorm": dict(actor_norm="layer", critic_norm="layer"),
    }
    returns = {}
    for name, policy_kwargs in variants.items():
        model = DDPG(
            "MlpPolicy", make_env(), learning_starts=1_000, action_noise="normal_0.1", policy_kwargs=policy_kwargs, seed=0
        )
        model.learn(total_timesteps)
        returns[name], _ = evaluate_policy(model, make_env(), n_eval_episodes=5)
        print(f"{name:24} mean return {returns[name]:.0f}")
    return returns


if __name__ == "__main__":
    main()
