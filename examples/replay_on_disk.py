"""
Keep the replay buffer in files, so that it may be larger than the memory and is there again after a crash; go on with it:
python examples/replay_on_disk.py

The model is saved now and then, the transitions are always there.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_ddpg_ext import DDPG


def main(total_timesteps: int = 8_000) -> DDPG:
    with TemporaryDirectory() as folder:
        model = DDPG(
            "MlpPolicy",
            "Pendulum-v1",
            buffer_size=100_000,
            replay_buffer_kwargs=dict(path=str(Path(folder) / "replay")),
            policy_kwargs=dict(net_arch=[64, 64]),
            action_noise="normal_0.1",
            seed=0,
        )
        half = total_timesteps // 2
        model.learn(half, callback=CheckpointCallback(half, folder, "ddpg"))
        env = model.get_env()
        del model  # or the program ends here, however it does

        model = DDPG.load(Path(folder) / f"ddpg_{half}_steps", env=env)
        print(f"{model.replay_buffer.size()} transitions are there again")
        model.learn(half, reset_num_timesteps=False)
        mean_return, std_return = evaluate_policy(model, env, n_eval_episodes=20)
        print(f"Mean return {mean_return:.0f} +/- {std_return:.0f} after {model.num_timesteps} steps")
        return model


if __name__ == "__main__":
    main()
