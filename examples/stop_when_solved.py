"""
Train until the environment counts as solved, i.e. the mean return has reached its reward_threshold (90 for this car, which
must first swing away from the goal): python examples/stop_when_solved.py
"""

from sb3_ddpg_ext import DDPG, StopTrainingOnMeanReturn


def main(total_timesteps: int = 50_000) -> int:
    model = DDPG(
        "MlpPolicy",
        "MountainCarContinuous-v0",
        action_noise="ou_0.5",  # correlated in time: it pushes the same way for long enough to get up the hill
        train_freq=(1, "episode"),
        gradient_steps=-1,  # as many as the episode had steps
        policy_kwargs=dict(net_arch=[64, 64]),
        seed=1,
        verbose=1,
    )
    # Gymnasium's usual mean is over 100 episodes; ten make the example shorter.
    model.learn(total_timesteps, callback=StopTrainingOnMeanReturn(n_episodes=10, verbose=1))
    return model.num_timesteps


if __name__ == "__main__":
    main()
