"""Warming up and reading the clock."""

import time
from collections.abc import Callable
from typing import Any

from sb3_ddpg_ext.cli.bench.peers import Agent, fill
from sb3_ddpg_ext.cli.bench.task import Task


def warm_up(agent: Agent, task: Task) -> None:
    fill(agent.buffer, task.fill, task.n_envs)
    agent.learn(task.warmup)
    agent.update(task.gradient_steps)  # compiled for this number of updates
    agent.predict()
    agent.wait()


def seconds_each(
    function: Callable[[], Any], n_units: int, wait: Callable[[], None], min_seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> float:  # fmt: skip
    """Seconds for one of the ``n_units`` that a call does; calls until ``min_seconds`` have passed, at least once."""
    n_calls, start = 0, clock()
    while True:
        function()
        wait()
        n_calls += 1
        seconds = clock() - start
        if seconds >= min_seconds:
            return seconds / (n_calls * n_units)


def learner_name(agent: Agent) -> str | None:
    """Of ours: the one that ``learner="auto"`` has chosen."""
    return getattr(getattr(agent, "model", None), "learner_name", None)
