"""
The time that a policy's actor takes for several observations at once, by the compiled library and by torch's layers, in turn.

    python results/acting.py
"""

import time

import numpy as np
import torch as th

from sb3_ddpg_ext import DDPG

REPEATS, CALLS = 60, 20


def best_times(actor, observations):
    """Microseconds of a call by the library, and by torch."""
    compiled, best = actor.compiled, {}
    for _ in range(REPEATS):
        for name, way in (("compiled", compiled), ("torch", None)):
            actor.compiled = way
            start = time.perf_counter()
            for _ in range(CALLS):
                actor(observations)
            best[name] = min(best.get(name, np.inf), (time.perf_counter() - start) / CALLS * 1e6)
    actor.compiled = compiled
    return best


def main():
    th.set_num_threads(1)
    rng = np.random.default_rng(0)
    for net_arch in ([64, 64], [256, 256], [400, 300]):
        model = DDPG("MlpPolicy", "Pendulum-v1", policy_kwargs=dict(net_arch=net_arch), learner="compiled", seed=0)
        actor = model.policy.plain_actor()
        for n in (1, 8, 16, 64):
            times = best_times(actor, rng.normal(size=(n, 3)).astype(np.float32))
            print(net_arch, f"{n} observations:", ", ".join(f"{name} {value:.1f} us" for name, value in times.items()))


if __name__ == "__main__":
    main()
