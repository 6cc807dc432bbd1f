"""
Environments on workers of Ray: those of this machine here, those of a cluster with ``address="auto"``.

python examples/many_machines.py
"""

import ray  # needs the extra ray

from sb3_ddpg_ext import DDPG


def main(total_timesteps: int = 20_000) -> DDPG:
    """Train with two workers of four environments each; one update a transition."""
    model = DDPG(
        "MlpPolicy",
        "Pendulum-v1",
        gradient_steps=-1,
        action_noise="normal_0.3",
        collector=dict(kind="ray", n_workers=2, envs_per_worker=4, sync_every=200, scales="ladder", num_cpus=0.5),
        verbose=1,
        seed=0,
    )
    model.learn(total_timesteps)
    model.get_env().close()
    ray.shutdown()
    return model


if __name__ == "__main__":
    main()
