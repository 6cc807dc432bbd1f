"""One process of the bench: build one library's agent, warm it up, measure."""

import os
import time
from collections.abc import Callable
from typing import Any

import torch as th

from sb3_ddpg_ext.cli.bench_peers import Agent, fill, make_agent
from sb3_ddpg_ext.cli.bench_task import MEASURES, Task

CALLS = 100  # of what takes microseconds, for one reading of the clock


def work(task: Task) -> dict[str, Any]:
    """
    :return: the measures, or the profile, and what chose itself: our learner
    """
    limit_threads(task)
    if task.profile:
        from sb3_ddpg_ext.cli.bench_profile import profile

        return profile(task)
    agent = make_agent(task)
    warm_up(agent, task)
    return {"measures": measure(agent, task), "learner": learner_name(agent)}


def limit_threads(task: Task) -> None:
    if task.library == "sbx" and hasattr(os, "sched_setaffinity"):
        # XLA starts one thread for each core it may run on, and has no other setting; so before JAX is imported.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: task.threads])
    th.set_num_threads(task.threads)


def warm_up(agent: Agent, task: Task) -> None:
    fill(agent.buffer, task.fill, task.n_envs)
    agent.learn(task.warmup)
    agent.update(task.gradient_steps)  # compiled for this number of updates
    agent.predict()
    agent.wait()


def measure(agent: Agent, task: Task) -> dict[str, float]:
    calls: dict[str, tuple[Callable[[], None], int]] = {
        "learn": (lambda: agent.learn(task.steps), task.steps),
        "update": (lambda: agent.update(task.gradient_steps), task.gradient_steps),
        "collect": (lambda: agent.collect(task.steps), task.steps),
        "predict": (lambda: repeat(agent.predict), CALLS),
        "sample": (lambda: repeat(agent.sample), CALLS),
    }
    return {
        name: MEASURES[name].value(seconds_each(*calls[name], agent.wait, task.min_seconds))
        for name in MEASURES
        if name in task.measures
    }


def repeat(function: Callable[[], None]) -> None:
    for _ in range(CALLS):
        function()


def seconds_each(function: Callable[[], Any], n_units: int, wait: Callable[[], None], min_seconds: float) -> float:
    """Seconds for one of the ``n_units`` that a call does; calls until ``min_seconds`` have passed, at least once."""
    n_calls, start = 0, time.perf_counter()
    while True:
        function()
        wait()
        n_calls += 1
        seconds = time.perf_counter() - start
        if seconds >= min_seconds:
            return seconds / (n_calls * n_units)


def learner_name(agent: Agent) -> str | None:
    """Of ours: the one that ``learner="auto"`` has chosen."""
    return getattr(getattr(agent, "model", None), "learner_name", None)
