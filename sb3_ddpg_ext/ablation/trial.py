"""One run of a study: training, evaluations on the way, and the evaluation at the end."""

import importlib
import platform
import subprocess
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv, sync_envs_normalization

from sb3_ddpg_ext.ablation.study import Run
from sb3_ddpg_ext.experiment import Experiment, make_experiment

EVALUATION_SEED = 10_000  # of the environments of all evaluations, so that every run meets the same first states
LAST = 10  # evaluations, and training episodes, in the means of the last ones
WINDOW = 100  # training episodes in the running mean
PACKAGES = ("stable_baselines3", "torch", "gymnasium", "numpy")


class Result(NamedTuple):
    """
    What came of a run: a row of ``runs.csv``, and rows of ``curves.csv``.

    :param run: that was made
    :param values: of the columns behind the settings
    :param evaluations: (step, mean return) of each evaluation on the way
    """

    run: Run
    values: dict[str, Any]
    evaluations: list[tuple[int, float]]


def run_trial(run: Run) -> Result:
    """
    Train and evaluate, with one thread.

    A run trains exactly what ``rl_zoo3 train`` with the same settings and seed trains, since evaluations have environments of
    their own and draw no random numbers of the model's.
    """
    experiment = _make(run, run.hyperparams)
    model = experiment.model
    evaluation = _Evaluation(run, experiment.make_eval_env(EVALUATION_SEED), model.n_envs)
    started = time.perf_counter()
    model.learn(experiment.n_timesteps, callback=[*experiment.callbacks, evaluation], log_interval=None)  # type: ignore[arg-type]
    seconds = time.perf_counter() - started
    training = _training_returns(model.get_env())  # type: ignore[arg-type]
    final = _evaluate_at_the_end(model, experiment.make_eval_env(EVALUATION_SEED), run.final_episodes)
    model.get_env().close()  # type: ignore[union-attr]
    evaluation.eval_env.close()
    values = {
        "mean_return": round(float(np.mean(final)), 3),
        "sd_return": round(float(np.std(final)), 3),
        **_summary(evaluation.evaluations),
        "train_last10": _rounded(np.mean(training[-LAST:]) if len(training) >= LAST else None),
        "train_best100": _rounded(_best_mean(training, WINDOW)),
        "episodes": len(training),
        "steps": model.num_timesteps,
        "steps_per_second": round(model.num_timesteps / (seconds - evaluation.seconds), 1),
        "seconds": round(time.perf_counter() - started, 1),
        "versions": versions(),
        "commit": commit(),
    }
    return Result(run, values, evaluation.evaluations)


def time_run(run: Run, steps: int = 200) -> float:
    """
    Seconds that a run takes, by a short one.

    :param run: whose random actions at the beginning are cut short
    :param steps: with updates, that are timed, and without
    """
    starts = {
        name: min(steps, value) for name, value in run.hyperparams.items() if name in ("learning_starts", "random_steps")
    }
    experiment = _make(run, {**run.hyperparams, **starts})
    experiment.model.learn(2 * steps, log_interval=None)  # type: ignore[arg-type]
    started = time.perf_counter()
    experiment.model.learn(steps, log_interval=None, reset_num_timesteps=False)  # type: ignore[arg-type]
    training = (time.perf_counter() - started) / steps * run.steps
    env = experiment.make_eval_env(EVALUATION_SEED)
    started = time.perf_counter()
    evaluate_policy(experiment.model, env, 1, warn=False)
    episodes = run.steps // run.evaluate_every * run.evaluation_episodes + run.final_episodes
    return training + episodes * (time.perf_counter() - started)


def _make(run: Run, hyperparams: dict[str, Any]) -> Experiment:
    th.set_num_threads(1)
    for package in run.gym_packages:
        importlib.import_module(package)
    return make_experiment(hyperparams, run.env, algo=run.algo, seed=run.seed, n_timesteps=run.steps)


class _Evaluation(EvalCallback):
    """
    SB3's, which also keeps what it saw and the time that it took.

    :param run: says how often, and how many episodes
    :param env: to evaluate in
    :param n_envs: of the training
    """

    def __init__(self, run: Run, env: VecEnv, n_envs: int):
        super().__init__(
            env,
            callback_after_eval=_AfterEvaluation(self),
            eval_freq=max(run.evaluate_every // n_envs, 1),
            n_eval_episodes=run.evaluation_episodes,
            verbose=0,
            warn=False,
        )
        self.evaluations: list[tuple[int, float]] = []
        self.seconds = 0.0

    def _on_step(self) -> bool:
        if self.n_calls % self.eval_freq:
            return True
        started = time.perf_counter()
        goes_on = super()._on_step()
        self.seconds += time.perf_counter() - started
        return goes_on


class _AfterEvaluation(BaseCallback):
    def __init__(self, evaluation: _Evaluation):
        super().__init__()
        self.evaluation = evaluation

    def _on_step(self) -> bool:
        self.evaluation.evaluations.append((self.num_timesteps, round(self.evaluation.last_mean_reward, 3)))
        return True


def _evaluate_at_the_end(model: Any, env: VecEnv, episodes: int) -> list[float]:
    """Returns of deterministic episodes, with the observations normalised as they were last in training."""
    if model.get_vec_normalize_env() is not None:
        sync_envs_normalization(model.get_env(), env)
    returns, _ = evaluate_policy(model, env, episodes, deterministic=True, return_episode_rewards=True, warn=False)
    env.close()
    return returns  # type: ignore[return-value]


def _training_returns(env: VecEnv) -> list[float]:
    """Of the finished episodes of all environments, in the order in which they ended."""
    ends = zip(env.env_method("get_episode_times"), env.env_method("get_episode_rewards"), strict=True)
    return [
        value
        for _, value in sorted((time, value) for times, values in ends for time, value in zip(times, values, strict=True))
    ]


def _best_mean(returns: list[float], window: int) -> float | None:
    """The highest mean of so many episodes one after another."""
    if len(returns) < window:
        return None
    sums = np.cumsum([0.0, *returns])
    return float(np.max(sums[window:] - sums[:-window]) / window)


def _summary(evaluations: list[tuple[int, float]]) -> dict[str, Any]:
    """The mean of the last evaluations, and the area under their curve divided by its length."""
    if not evaluations:
        return {"last_evaluations": None, "area": None}
    steps, returns = np.array(evaluations).T
    area = np.trapezoid(returns, steps) / (steps[-1] - steps[0]) if len(steps) > 1 else returns[0]
    return {"last_evaluations": _rounded(returns[-LAST:].mean()), "area": _rounded(area)}


def _rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 3)


@cache
def versions() -> str:
    """Of what decides about the numbers."""
    return " ".join([*(f"{name} {version(name)}" for name in PACKAGES), f"python {platform.python_version()}", processor()])


def processor() -> str:
    """Its name where the system says one, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2] for line in lines if line.startswith("model name"))
        return " ".join(name.replace("(R)", "").replace("(TM)", "").split())
    except (OSError, StopIteration):
        return platform.machine()


@cache
def commit() -> str:
    """The commit of this package: of a checkout, or that pip installed it from; empty where neither is known."""
    try:
        text = distribution("sb3_ddpg_ext").read_text("direct_url.json") or ""
    except PackageNotFoundError:
        text = ""
    if '"commit_id"' in text:
        return text.split('"commit_id"')[1].split('"')[1][:10]
    return _git("rev-parse", "--short=10", "HEAD") + ("+changes" if _git("status", "--porcelain", "-uno") else "")


def _git(*words: str) -> str:
    """What git says of the folder that this package lies in; nothing where it is no checkout of it."""
    package = Path(__file__).parent.parent
    if not (package.parent / "setup.cfg").is_file():
        return ""
    try:
        return subprocess.run(
            ["git", "-C", str(package), *words], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
