"""
A pendulum whose speed cannot be seen, swung up by an agent that remembers: python examples/recurrent.py

Without a memory the same agent cannot tell which way the pendulum swings. Evaluation hands the state of the LSTM on.
"""

import gymnasium as gym
from gymnasium.wrappers import TransformObservation
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_ddpg_ext import RecurrentDDPG


def without_speed() -> gym.Env:
    """Cosine and sine of the angle are left."""
    env = gym.make("Pendulum-v1")
    return Monitor(TransformObservation(env, lambda obs: obs[:2], gym.spaces.Box(-1, 1, (2,))))


def main(total_timesteps: int = 20_000) -> RecurrentDDPG:
    model = RecurrentDDPG(
        "MlpLstmPolicy",
        without_speed(),
        learning_rate=1e-3,
        batch_size=16,  # sequences
        gamma=0.98,
        learning_starts=1000,
        train_freq=4,
        gradient_steps=2,
        action_noise="normal_0.1",
        policy_kwargs=dict(net_arch=[64, 64], hidden_size=64),
        replay_buffer_kwargs=dict(sequence_length=32, overlap=16),
        seed=0,
    )
    model.learn(total_timesteps)
    mean_return, std_return = evaluate_policy(model, without_speed(), n_eval_episodes=10)
    print(f"Mean return {mean_return:.0f} +/- {std_return:.0f}")
    return model


if __name__ == "__main__":
    main()
