"""The process that owns some of the environments."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import cloudpickle
import numpy as np
import torch as th
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_ddpg_ext.collector import step
from sb3_ddpg_ext.distributed.acting import ActingPlan, Parameters, make_acting, stream_seed
from sb3_ddpg_ext.distributed.attributes import Setting
from sb3_ddpg_ext.distributed.chunk import Chunk, Order, worth_sending
from sb3_ddpg_ext.distributed.making import EnvRecipe, ThreadedVecEnv
from sb3_ddpg_ext.env_checks import results_named
from sb3_ddpg_ext.observations import each

LOOK_EVERY = 0.1  # seconds between two looks at whether a chunk is still wanted


class Making(NamedTuple):
    """
    The environments of all workers.

    :param recipe: of one
    :param envs_per_worker: how many each worker has
    :param threads: whether a worker steps them at the same time
    """

    recipe: EnvRecipe
    envs_per_worker: int
    threads: bool


class Job(NamedTuple):
    """
    What all workers are to do in a training.

    :param plan: how they act
    :param sends_all_infos: or those at the end of episodes only
    """

    plan: ActingPlan
    sends_all_infos: bool


class Worker:
    """
    Steps its environments and makes chunks of whole transitions. It knows nothing of Ray, which makes an actor of it.

    :param making: a pickled :class:`Making`
    :param index: of the worker, from 0
    :param start: how often it has been started
    :param told: attributes that its environments get once they are made
    """

    def __init__(self, making: bytes, index: int, start: int, told: list[Setting]):
        self._making, self.index, self.start, self.told = making, index, start, told

    def is_cancelled(self) -> bool:
        """:return: whether nobody waits any more for what it does"""
        return False

    def settle(self) -> int:
        """
        Use one thread, and leave Ctrl-C to the learner.

        :return: the number of the process
        """
        th.set_num_threads(1)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        return os.getpid()

    def _make(self) -> VecEnv:
        """The environments, which are made where there are none yet."""
        if not hasattr(self, "envs"):
            making: Making = cloudpickle.loads(self._making)
            self.envs = (ThreadedVecEnv if making.threads else DummyVecEnv)([making.recipe] * making.envs_per_worker)
            for name, value, column in self.told:
                self.envs.set_attr(name, value, indices=[column])
        return self.envs

    def begin(self, job: bytes, seeds: list[int | None], options: list[dict[str, Any]]) -> Any:
        """
        Begin new episodes.

        :param job: a pickled :class:`Job`, which is read the first time
        :param seeds: of the environments; where the worker has been started anew, others are made of them
        :param options: for the ``reset()`` of each
        :return: the first observations
        """
        with self._closed_on_error():
            envs = self._make()
            if not hasattr(self, "acting"):
                self.job: Job = cloudpickle.loads(job)
                self.acting = make_acting(self.job.plan, envs, self.index * envs.num_envs, self.start)
            envs._seeds, envs._options = list(seeds), list(options)
            with results_named():
                self.obs = envs.reset()
            self.acting.begin()
        return self.obs

    @contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        """A context whose errors close the environments, since another worker will take the place of this one."""
        try:
            yield
        except Exception:
            with suppress(Exception):
                self.close()
            raise

    def close(self) -> None:
        """Close the environments; their episodes do not go on."""
        if hasattr(self, "envs"):
            envs = self.envs
            del self.envs
            envs.close()

    def collect(self, parameters: Parameters, order: Order) -> Chunk | None:
        """
        :param parameters: by which to act
        :param order: what is to be made
        :return: None where nobody waits for it any more; an error would be logged by Ray then
        """
        if not hasattr(self, "envs"):  # which are closed
            return None
        with self._closed_on_error():
            return self._collect(parameters, order)

    def _collect(self, parameters: Parameters, order: Order) -> Chunk | None:
        started = looked_at = time.perf_counter()
        self.acting.take(parameters)
        self.acting.hear(order.rewards)
        observations, rows = [self.obs], []
        states: list[Any] = []
        infos: dict[tuple[int, int], dict[str, Any]] = {}
        for t in range(order.n_steps):
            if time.perf_counter() - looked_at > LOOK_EVERY:
                looked_at = time.perf_counter()
                if self.is_cancelled():
                    return None
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
        return getattr(self._make(), method)(*args, indices=indices, **kwargs)


def seeds_of(seeds: list[int | None], seed: int | None, first: int, start: int) -> list[int | None]:
    """
    :param seeds: of a worker's environments
    :param seed: of the model
    :param first: the number of the first of these environments
    :param start: how often the worker has been started
    :return: the same at the first start; else others, so that no episode comes twice
    """
    return seeds if start == 0 else [stream_seed(seed, first + i, start, 3) for i in range(len(seeds))]
