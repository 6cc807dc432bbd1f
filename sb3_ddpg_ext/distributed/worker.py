"""The process that owns some of the environments."""

import os
import signal
import threading
import time
from typing import Any, NamedTuple

import cloudpickle
import numpy as np
import torch as th
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_ddpg_ext.collector import step
from sb3_ddpg_ext.distributed.acting import ActingPlan, Parameters, make_acting, stream_seed
from sb3_ddpg_ext.distributed.chunk import Chunk, Order, worth_sending
from sb3_ddpg_ext.distributed.making import EnvRecipe, ThreadedVecEnv
from sb3_ddpg_ext.env_checks import results_named
from sb3_ddpg_ext.observations import each


class Job(NamedTuple):
    """
    What all workers are to do.

    :param recipe: of an environment
    :param plan: how they act
    :param envs_per_worker: environments of each
    :param threads: whether a worker steps them at the same time
    :param sends_all_infos: or those at the end of episodes only
    """

    recipe: EnvRecipe
    plan: ActingPlan
    envs_per_worker: int
    threads: bool
    sends_all_infos: bool


class Worker:
    """
    Steps its environments and makes chunks of whole transitions. It knows nothing of Ray, which makes an actor of it.

    :param job: a pickled :class:`Job`
    :param index: of the worker, from 0
    :param start: how often it has been started
    """

    def __init__(self, job: bytes, index: int, start: int):
        self._pickled, self.index, self.start = job, index, start

    def settle(self) -> int:
        """
        Use one thread, and leave Ctrl-C to the learner.

        :return: the number of the process
        """
        th.set_num_threads(1)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        return os.getpid()

    def begin(self, seeds: list[int | None]) -> Any:
        """
        Make the environments, where there are none yet, and begin new episodes in them.

        :param seeds: of the environments; where the worker has been started anew, others are made of them
        :return: the first observations
        """
        if not hasattr(self, "envs"):
            self.job: Job = cloudpickle.loads(self._pickled)
            n = self.job.envs_per_worker
            self.envs = (ThreadedVecEnv if self.job.threads else DummyVecEnv)([self.job.recipe] * n)
            self.acting = make_acting(self.job.plan, self.envs, self.index * n, self.start)
        self.envs._seeds = list(seeds)
        with results_named():
            self.obs = self.envs.reset()
        self.acting.begin()
        return self.obs

    def collect(self, parameters: Parameters, order: Order) -> Chunk:
        """
        :param parameters: by which to act
        :param order: what is to be made
        """
        started = time.perf_counter()
        self.acting.take(parameters)
        observations, rows = [self.obs], []
        states: list[Any] = []
        infos: dict[tuple[int, int], dict[str, Any]] = {}
        for t in range(order.n_steps):
            moment = order.moment._replace(num_timesteps=order.moment.num_timesteps + t * self.job.plan.n_envs)
            actions = self.acting.choose(self.obs, moment)
            states.append(self.acting.states())
            with results_named():
                self.obs, rewards, dones, step_infos = step(self.envs, self.acting.policy.unscale_action(actions))
            observations.append(self.obs)
            rows.append((actions, rewards, dones))
            self.acting.go_on(actions, rewards, dones)
            kept = range(len(dones)) if self.job.sends_all_infos else np.flatnonzero(dones).tolist()
            infos |= {(t, column): sent for column in kept if (sent := worth_sending(step_infos[column]))}
        actions, rewards, dones = (np.stack(part) for part in zip(*rows, strict=True))
        stacked = each(lambda *parts: np.stack(parts), *observations)
        remembered = np.stack(states) if self.job.plan.remembers else None
        seconds = time.perf_counter() - started
        return Chunk(stacked, actions, rewards, dones, infos, order.number, order.version, remembered, seconds)

    def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], indices: list[int] | None) -> list[Any]:
        """
        :param method: of the vectorised environments, such as ``"get_attr"``
        :param args: of it
        :param kwargs: of it
        :param indices: of the worker's environments; None for all
        """
        return getattr(self.envs, method)(*args, indices=indices, **kwargs)


def seeds_of(seeds: list[int | None], seed: int | None, first: int, start: int) -> list[int | None]:
    """
    :param seeds: of a worker's environments
    :param seed: of the model
    :param first: the number of the first of these environments
    :param start: how often the worker has been started
    :return: the same at the first start; else others, so that no episode comes twice
    """
    return seeds if start == 0 else [stream_seed(seed, first + i, start, 3) for i in range(len(seeds))]
