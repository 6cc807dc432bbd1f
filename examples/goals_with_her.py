"""
Reach goals that give no reward on the way, with hindsight experience replay: all bits are to be set, and an action flips
those whose component is positive. Run it with: python examples/goals_with_her.py

The buffer takes priorities, returns of several steps and many environments too. SB3's HerReplayBuffer can stand in its place.
"""

import numpy as np
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.buffers import HindsightReplayBuffer


def main(total_timesteps: int = 5_000, n_bits: int = 8) -> float:
    env = Monitor(BitFlippingEnv(n_bits=n_bits, continuous=True, max_steps=n_bits))
    model = DDPG(
        "MultiInputPolicy",
        env,
        learning_starts=100,
        gamma=0.95,
        action_noise="epsilon_0.2, normal_0.2",
        replay_buffer_class=HindsightReplayBuffer,
        replay_buffer_kwargs=dict(n_sampled_goal=4, goal_selection_strategy="future"),
        policy_kwargs=dict(net_arch=[64, 64]),
        seed=0,
        verbose=1,
    )
    model.learn(total_timesteps, log_interval=100)

    returns, _ = evaluate_policy(model, env, n_eval_episodes=50, return_episode_rewards=True)
    success_rate = float(np.mean(np.array(returns) > -n_bits))  # every step without success costs 1
    print(f"Success rate {success_rate:.0%}")
    return success_rate


if __name__ == "__main__":
    main()
