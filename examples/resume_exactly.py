"""
A training that is stopped, and goes on bit for bit as if it had not been; stop it with Ctrl-C, and run it again:
python examples/resume_exactly.py
"""

from pathlib import Path

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.checkpoint import ExactCheckpoint, resume


def main(total_timesteps: int = 8_000, folder: str = "logs/resume_exactly") -> DDPG:
    try:
        model = resume(folder, env="Pendulum-v1")
        print(f"Goes on after {model.num_timesteps} of {total_timesteps} steps")
    except FileNotFoundError:
        model = DDPG(
            "MlpPolicy",
            "Pendulum-v1",
            policy_kwargs=dict(net_arch=[64, 64]),
            action_noise="pink_0.3",
            seed=0,
        )
    every = min(1_000, total_timesteps)
    model.learn(total_timesteps, callback=ExactCheckpoint(Path(folder), every=every, keep=2, verbose=1))
    return model


if __name__ == "__main__":
    main()
