"""
Collection on Ray, for docs/many_machines.md: what it costs, how it scales, and whether Pendulum-v1 is learnt as well.

python results/collection.py overhead scaling busy age      # adds to results/collection.json
python results/collection.py pendulum --seeds 10            # adds to results/collection_Pendulum-v1.csv
python results/collection.py picture                        # results/collection.png from both
"""

import argparse
import csv
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import SubprocVecEnv

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.cli.bench.report import processor

HERE = Path(__file__).parent
RESULTS, RUNS = HERE / "collection.json", HERE / "collection_Pendulum-v1.csv"
NEVER = 10**9


class Slow(gym.Env):
    """Observations and actions of HalfCheetah's shapes; a step sleeps, which costs no processor."""

    def __init__(self, seconds: float = 0.02):
        self.observation_space = spaces.Box(-np.inf, np.inf, (17,), np.float64)
        self.action_space = spaces.Box(-1, 1, (6,), np.float32)
        self.seconds, self.steps = seconds, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.np_random.normal(size=17), {}

    def step(self, action):
        time.sleep(self.seconds)
        self.steps += 1
        info = dict(x_position=0.1, x_velocity=0.2, reward_forward=0.3, reward_ctrl=-0.4)  # as HalfCheetah's
        return self.np_random.normal(size=17), 0.0, False, self.steps == 1000, info


class Watch(BaseCallback):
    """
    Measures after a while, and then stops.

    :param warm: seconds before
    :param seconds: of the measurement
    """

    def __init__(self, warm: float, seconds: float):
        super().__init__()
        self.warm, self.seconds, self.begun = warm, seconds, None

    def _on_training_start(self) -> None:
        self.started = time.perf_counter()

    def _on_step(self) -> bool:
        now = time.perf_counter()
        if self.begun is None and now - self.started > self.warm:
            self.begun, self.steps, self.updates = now, self.num_timesteps, self.model._n_updates
            self._statistics()
        if self.begun is None or now - self.begun < self.seconds:
            return True
        span = now - self.begun
        self.found = dict(
            steps_per_s=(self.num_timesteps - self.steps) / span, updates_per_s=(self.model._n_updates - self.updates) / span
        )
        self.found |= self._statistics()
        return False

    def _statistics(self) -> dict:
        """Of a collection on Ray."""
        return self.model._collector.statistics() if self.model.collector else {}


def workers_for(n_envs: int, most: int = 8) -> dict:
    """As many workers as environments, at most 8; further environments are threads of these."""
    n = min(n_envs, most)
    return dict(kind="ray", n_workers=n, envs_per_worker=n_envs // n, threads=True, num_cpus=0.1)


def measured(env, watch: Watch, **kwargs) -> dict:
    model = DDPG("MlpPolicy", env, device="cpu", seed=0, **kwargs)
    model.learn(NEVER, watch)
    model.get_env().close()
    return {name: round(value, 4) for name, value in watch.found.items()}


def beside_subproc(numbers: tuple[int, ...], seconds: float, most: int = 32, **kwargs) -> list[dict]:
    """The same number of environments in processes of SubprocVecEnv, before Ray has threads here, and on Ray."""
    rows = []
    for where, n in [("subproc", n) for n in numbers if n <= most] + [("ray", n) for n in numbers]:
        if where == "ray":
            found = measured(Slow, Watch(3, seconds), collector=workers_for(n) | dict(sync_every=10 * n, chunk=10), **kwargs)
        else:
            found = measured(SubprocVecEnv([Slow] * n, start_method="fork"), Watch(3, seconds), **kwargs)
        rows.append(dict(where=where, n_envs=n, of_linear=round(found["steps_per_s"] * 0.02 / n, 3)) | found)
        print(rows[-1], flush=True)
    return rows


def scaling(numbers=(1, 2, 4, 8, 16, 32, 64), seconds: float = 6.0) -> list[dict]:
    """Transitions a second of environments that sleep 20 ms, without updates, beside SubprocVecEnv."""
    return beside_subproc(numbers, seconds, learning_starts=NEVER, random_steps=0, buffer_size=100_000)


def busy(seconds: float = 10.0) -> list[dict]:
    """How much of its time the learner learns, one update a transition, where 16 environments are faster than that."""
    kwargs = dict(gradient_steps=-1, learning_starts=200, buffer_size=100_000, policy_kwargs=dict(net_arch=[256, 256]))
    collector = workers_for(16, most=2) | dict(sync_every=160, chunk=10)
    found = measured(Slow, Watch(4, seconds), collector=collector, **kwargs)
    print(found, flush=True)
    return [dict(where="ray", n_envs=16) | found]


def age(values=(100, 1000), seconds: float = 8.0) -> list[dict]:
    """How many transitions before an action was stored the parameters were sent that chose it."""
    rows = []
    for sync_every in values:
        chunk = min(max(sync_every // 16, 1), 100)
        collector = workers_for(16, most=4) | dict(sync_every=sync_every, chunk=chunk)
        kwargs = dict(gradient_steps=4, learning_starts=200, buffer_size=100_000, policy_kwargs=dict(net_arch=[64, 64]))
        found = measured(lambda: Slow(0.005), Watch(4, seconds), collector=collector, **kwargs)
        rows.append(dict(sync_every=sync_every, n_envs=16, chunk=chunk) | found)
        print(rows[-1], flush=True)
    return rows


def overhead(steps: int = 100, repeats: int = 30) -> list[dict]:
    """Microseconds a transition for each part of its way, and bytes, at chunks of 100 steps of HalfCheetah's shapes."""
    import cloudpickle
    import ray

    from sb3_ddpg_ext.buffers import TransitionReplayBuffer
    from sb3_ddpg_ext.collector import Moment
    from sb3_ddpg_ext.distributed.acting import ActingPlan, Parameters, numbers_of
    from sb3_ddpg_ext.distributed.chunk import Order
    from sb3_ddpg_ext.distributed.making import EnvRecipe
    from sb3_ddpg_ext.distributed.rounds import Rounds
    from sb3_ddpg_ext.distributed.worker import Job, Making, Worker

    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    rows = []
    for k in (1, 8):
        space = Slow()
        policy = DDPG("MlpPolicy", Slow(), device="cpu", buffer_size=10).policy
        spaces_ = (space.observation_space, space.action_space)
        plan = ActingPlan(type(policy), spaces_, {}, False, None, None, k, 0, False, False, False, False)
        worker = Worker(cloudpickle.dumps(Making(EnvRecipe(lambda: Slow(0)), k, False)), 0, 0, [])
        worker.begin(cloudpickle.dumps(Job(plan, True)), [0] * k, [{}] * k)
        parameters = Parameters(0, numbers_of(policy, False), {}, None)
        times: dict[str, list[float]] = {name: [] for name in ("put", "get", "round", "rows", "insert")}
        buffer = TransitionReplayBuffer(100_000, *spaces_, device="cpu", n_envs=k)
        rounds, rng_obs = Rounds(1, k), None
        for number in range(repeats):
            chunk = worker.collect(parameters, Order(number, steps, Moment(0, 1, 0, False, 0), 0))
            marks = [time.perf_counter()]
            ref = ray.put(chunk)
            marks.append(time.perf_counter())
            got = ray.get(ref)
            marks.append(time.perf_counter())
            rounds.put(0, 0, got)
            made = rounds.next()
            marks.append(time.perf_counter())
            row = [
                (
                    made.observations_at(t + 1),
                    made.actions[t].copy(),
                    made.rewards[t].copy(),
                    made.dones[t].copy(),
                    made.infos_at(t),
                )
                for t in range(steps)
            ]
            marks.append(time.perf_counter())
            last = made.observations_at(0) if rng_obs is None else rng_obs
            for obs, actions, rewards, dones, infos in row:
                buffer.add(last, obs, actions, rewards, dones, infos)
                last = obs
            rng_obs = last
            marks.append(time.perf_counter())
            for name, one, other in zip(times, marks, marks[1:], strict=False):
                times[name].append((other - one) * 1e6 / steps / k)
        found = {name: round(median(values), 2) for name, values in times.items()}
        small = chunk._replace(infos={})
        sizes = [len(cloudpickle.dumps(each)) / steps / k for each in (chunk, small)]
        weights = sum(value.nbytes for value in parameters.numbers.values())
        rows.append(
            dict(envs_per_worker=k, chunk=steps) | found
            | dict(sum=round(sum(found.values()), 2), bytes=round(sizes[0]), bytes_without_infos=round(sizes[1]))
            | dict(weights=weights)
        )  # fmt: skip
        print(rows[-1], flush=True)
    ray.shutdown()
    return rows


SETTINGS = dict(
    learning_rate=1e-3, batch_size=128, gamma=0.98, learning_starts=1000, action_noise="normal_0.2",
    policy_kwargs=dict(net_arch=[64, 64]),
)  # fmt: skip


def pendulum(seeds: range, steps: int = 16_000) -> None:
    """Mean return of 20 episodes after the same number of transitions and updates: one environment here, 8 workers on Ray."""
    is_new = not RUNS.exists()
    done = set() if is_new else {(row["where"], int(row["seed"])) for row in csv.DictReader(RUNS.open())}
    with RUNS.open("a", newline="") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow(["where", "seed", "steps", "updates", "mean_return", "seconds"])
        for seed in seeds:
            for where in ("local", "ray"):
                if (where, seed) in done:
                    continue
                kwargs = dict(SETTINGS, seed=seed, device="cpu", gradient_steps=-1)
                if where == "ray":
                    kwargs |= dict(collector=dict(kind="ray", n_workers=8, num_cpus=0.1, sync_every=200, chunk=25))
                model = DDPG("MlpPolicy", "Pendulum-v1", **kwargs)
                started = time.perf_counter()
                model.learn(steps)
                seconds = time.perf_counter() - started
                model.get_env().close()
                env = Monitor(gym.make("Pendulum-v1"))
                env.reset(seed=10_000)
                value = evaluate_policy(model, env, 20)[0]
                writer.writerow([where, seed, model.num_timesteps, model._n_updates, round(value, 1), round(seconds, 1)])
                file.flush()
                print(where, seed, model._n_updates, round(value, 1), round(seconds, 1), flush=True)


def picture() -> None:
    """Throughput, ages of parameters, returns."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    found = json.loads(RESULTS.read_text())
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for where, label in (("ray", "Ray, at most 8 workers"), ("subproc", "SubprocVecEnv")):
        rows = [row for row in found["scaling"] if row["where"] == where]
        axes[0].plot([row["n_envs"] for row in rows], [row["steps_per_s"] for row in rows], "o-", label=label)
    n = np.array([1, 64])
    axes[0].plot(n, 50 * n, "k:", label="linear")
    axes[0].set(xscale="log", yscale="log", xlabel="environments, 20 ms a step", ylabel="transitions a second")
    rows = found["age"]
    axes[1].plot([row["sync_every"] for row in rows], [row["weights_age"] for row in rows], "o-", label="mean")
    axes[1].plot([row["sync_every"] for row in rows], [row["weights_age_max"] for row in rows], "o--", label="largest")
    axes[1].plot([100, 1000], [100, 1000], "k:", label="sync_every")
    axes[1].set(xscale="log", yscale="log", xlabel="sync_every (16 environments)", ylabel="age of parameters, transitions")
    if RUNS.exists():
        rows = list(csv.DictReader(RUNS.open()))
        for x, where in enumerate(("local", "ray")):
            values = [float(row["mean_return"]) for row in rows if row["where"] == where]
            axes[2].plot([x] * len(values), values, "o", alpha=0.5)
        axes[2].set(
            xticks=[0, 1], xticklabels=["one environment", "8 workers"], ylabel="mean return, Pendulum-v1", xlim=(-0.5, 1.5)
        )
    for axis in axes[:2]:
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(HERE / "collection.png", dpi=110)


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    numbers = dict(cores=os.cpu_count(), python=sys.version.split()[0], ray=version("ray"))
    return dict(system=platform.system(), processor=processor()) | numbers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=["overhead", "scaling", "busy", "age", "pendulum", "picture"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=16_000)
    given = parser.parse_args()
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for part in given.parts:
        if part == "pendulum":
            pendulum(range(given.seeds), given.steps)
        elif part == "picture":
            picture()
        else:
            found[part] = dict(overhead=overhead, scaling=scaling, busy=busy, age=age)[part]()
            found["machine"] = machine()
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
