"""One process of the bench: build one library's agent, warm it up, measure."""

import os
from collections.abc import Callable
from typing import Any

import torch as th

from sb3_ddpg_ext.cli.bench.peers import Agent, make_agent
from sb3_ddpg_ext.cli.bench.profile import profile
from sb3_ddpg_ext.cli.bench.task import MEASURES, Task
from sb3_ddpg_ext.cli.bench.timing import learner_name, seconds_each, warm_up

CALLS = 100  # of what takes microseconds, for one reading of the clock


def work(task: Task) -> dict[str, Any]:
    """
    :return: the measures, or the profile, and what chose itself: our learner
    """
    limit_threads(task)
    if task.profile:
        return profile(task)
    agent = make_agent(task)
    warm_up(agent, task)
    return {"measures": measure(agent, task), "learner": learner_name(agent)}


def limit_threads(task: Task) -> None:
    if task.threads == 0:
        return
    if task.library == "sbx" and hasattr(os, "sched_setaffinity"):
        # XLA starts one thread for each core it may run on, and has no other setting; so before JAX is imported.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: task.threads])
    th.set_num_threads(task.threads)


def measure(agent: Agent, task: Task) -> dict[str, float]:
    calls: dict[str, tuple[Callable[[], None], int]] = {
        "learn": (lambda: agent.learn(task.steps), task.steps),
        "update": (lambda: agent.update(task.gradient_steps), task.gradient_steps),
        "processor": (lambda: agent.update(task.gradient_steps), task.gradient_steps),
        "collect": (lambda: agent.collect(task.steps), task.steps),
        "predict": (lambda: repeat(agent.predict), CALLS),
        "sample": (lambda: repeat(agent.sample), CALLS),
    }
    return {
        name: MEASURES[name].value(seconds_each(*calls[name], agent.wait, task.min_seconds, MEASURES[name].clock))
        for name in MEASURES
        if name in task.measures
    }


def repeat(function: Callable[[], None]) -> None:
    for _ in range(CALLS):
        function()
