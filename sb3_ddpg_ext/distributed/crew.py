"""The workers of a training: asked for chunks, looked after, started anew."""

import time
import warnings
from collections import deque
from contextlib import suppress
from typing import Any, NamedTuple

from sb3_ddpg_ext.distributed.chunk import Chunk, Order
from sb3_ddpg_ext.distributed.cluster import new_worker
from sb3_ddpg_ext.distributed.settings import RayCollector
from sb3_ddpg_ext.distributed.worker import seeds_of

SETTLE, BEGIN, COLLECT = "settle", "begin", "collect"
COUNTED = 1.0  # seconds without a look at the workers that count for their time limit, at most
FIRST_LIMIT = 120.0  # seconds, at least, that the making of environments may take: it imports torch


class WorkersLost(RuntimeError):
    """Workers die, hang or raise again and again. What has been stored stays; chunks that wait for others are forgotten."""


class Task(NamedTuple):
    """
    :param kind: what the worker was asked for
    :param ref: of what it will give
    :param epoch: in which that was
    """

    kind: str
    ref: Any
    epoch: int


class Hand:
    """
    One of the workers.

    :param index: its number
    """

    def __init__(self, index: int):
        self.index, self.start, self.n_failures, self.number = index, 0, 0, 0
        self.actor: Any = None
        self.tasks: deque[Task] = deque()
        self.since = 0.0  # when the first of them may have begun, at the latest
        self.pid: int | None = None  # None until it has a place
        self.has_begun = False  # since it was started
        self.first_observations: Any = None

    @property
    def n_asked(self) -> int:
        """Chunks that have not come."""
        return sum(task.kind == COLLECT for task in self.tasks)

    def ask(self, kind: str, ref: Any, epoch: int) -> None:
        if not self.tasks:
            self.since = time.monotonic()
        self.tasks.append(Task(kind, ref, epoch))

    def next_task(self) -> None:
        self.tasks.popleft()
        self.since = time.monotonic()


class Crew:
    """
    Starts workers on Ray and takes their chunks. One that dies, hangs or raises is started anew.

    :param ray: the package, connected
    :param settings: of the collection
    :param job: pickled, for all workers
    :param seed: of the model
    :param first_start: how often workers of this model have been started before
    """

    def __init__(self, ray: Any, settings: RayCollector, job: bytes, seed: int | None, first_start: int = 0):
        self.ray, self.settings, self.seed = ray, settings, seed
        self.job, self.epoch, self.n_restarts, self._version = ray.put(job), 0, 0, -1
        self.seeds: list[int | None] = [None] * settings.n_envs
        self._looked_at = time.monotonic()
        self.hands = [Hand(index) for index in range(settings.n_workers)]
        for hand in self.hands:
            hand.start = first_start
            self._start(hand)

    def _start(self, hand: Hand) -> None:
        hand.tasks.clear()
        hand.pid, hand.first_observations, hand.has_begun = None, None, False
        hand.actor = new_worker(self.ray, self.settings, self.job, hand.index, hand.start)
        hand.ask(SETTLE, hand.actor.settle.remote(), self.epoch)

    def begin(self, seeds: list[int | None]) -> None:
        """
        Let all environments begin new episodes. Chunks that were asked for before are left out.

        :param seeds: of the environments
        """
        self.epoch, self.seeds = self.epoch + 1, seeds
        for hand in self.hands:
            self._begin(hand)

    def _begin(self, hand: Hand) -> None:
        k, hand.first_observations = self.settings.envs_per_worker, None
        first = hand.index * k
        seeds = seeds_of(self.seeds[first : first + k], self.seed, first, 0 if hand.has_begun else hand.start)
        hand.has_begun = True
        hand.ask(BEGIN, hand.actor.begin.remote(seeds), self.epoch)

    def first_observations(self) -> list[Any]:
        """
        Wait until all environments have begun.

        :return: their observations, an entry for each worker
        :raises WorkersLost: if they do not
        """
        limit = time.monotonic() + max(self.settings.time_limit, FIRST_LIMIT)
        while any(hand.first_observations is None for hand in self.hands):
            self.take(0.1)
            if time.monotonic() > limit and (placeless := [hand.index for hand in self.hands if hand.pid is None]):
                asked, there = self.settings.num_cpus, self.ray.cluster_resources()
                raise WorkersLost(
                    f"collector: no place has been found for {len(placeless)} of n_workers={self.settings.n_workers}, each of "
                    f"which asks for num_cpus={asked} and resources={self.settings.resources}; the cluster has {there}"
                )
        return [hand.first_observations for hand in self.hands]

    def next_version(self) -> int:
        """:return: a number for parameters, which no others of these workers have"""
        self._version += 1
        return self._version

    def ask(self, hand: Hand, parameters: Any, order: Order) -> None:
        """
        :param hand: the worker that is to make a chunk
        :param parameters: a reference to those by which it acts
        :param order: what to make; it gets the number of the chunk here
        """
        order = order._replace(number=hand.number)
        hand.number += 1
        hand.ask(COLLECT, hand.actor.collect.remote(parameters, order), self.epoch)

    def take(self, timeout: float) -> list[tuple[Hand, Chunk]]:
        """
        Take what has come, and start workers anew.

        :param timeout: seconds to wait if nothing has come
        :return: chunks, in each worker's order
        :raises WorkersLost: if a worker has failed too often in a row
        """
        came: list[tuple[Hand, Chunk]] = []
        away = time.monotonic() - self._looked_at - COUNTED  # such as an evaluation, in which nobody saw what had come
        for hand in self.hands if away > 0 else ():
            hand.since += away
        while True:
            heads = {hand.tasks[0].ref: hand for hand in self.hands if hand.tasks}
            if not heads:
                break
            ready, _ = self.ray.wait(list(heads), num_returns=1, timeout=timeout)
            if len(heads) > 1 and ready:
                ready, _ = self.ray.wait(list(heads), num_returns=len(heads), timeout=0)
            if not ready:
                break
            came += [(heads[ref], chunk) for ref in ready if (chunk := self._received(heads[ref])) is not None]
            timeout = 0
        for hand in self.hands:
            self._look_after(hand)
        self._looked_at = time.monotonic()
        return came

    def _received(self, hand: Hand) -> Chunk | None:
        task = hand.tasks[0]
        try:
            result = self.ray.get(task.ref)
        except self.ray.exceptions.RayError as error:
            self._fail(hand, error)
            return None
        hand.next_task()
        if task.kind == SETTLE:
            hand.pid = result
        elif task.kind == BEGIN and task.epoch == self.epoch:
            hand.first_observations = result
        elif task.kind == COLLECT:
            hand.n_failures = 0
            return result if task.epoch == self.epoch else None
        return None

    def _look_after(self, hand: Hand) -> None:
        if not hand.tasks or hand.tasks[0].kind == SETTLE:  # it waits for a place, and nobody waits for it
            return
        limit = self.settings.time_limit
        limit = max(limit, FIRST_LIMIT) if hand.tasks[0].kind == BEGIN else limit
        if time.monotonic() - hand.since > limit:
            self._fail(hand, TimeoutError(f"no chunk has come within {limit:g} s (collector: time_limit)"))

    def _fail(self, hand: Hand, error: Exception) -> None:
        hand.n_failures += 1
        with suppress(Exception):
            self.ray.kill(hand.actor, no_restart=True)
        if hand.n_failures > self.settings.tries:
            raise WorkersLost(
                f"worker {hand.index} has failed {hand.n_failures} times in a row (collector: tries={self.settings.tries}), "
                f"at last with {error}"
            ) from error
        self.n_restarts += 1
        warnings.warn(f"worker {hand.index} is started anew: {_in_short(error)}", RuntimeWarning, stacklevel=2)
        hand.start += 1
        self._start(hand)
        self._begin(hand)

    @property
    def n_alive(self) -> int:
        """Workers that have begun and have not failed since, as far as is known."""
        return sum(hand.first_observations is not None for hand in self.hands)

    @property
    def n_starts(self) -> int:
        """How often the worker that was started most often has been."""
        return 1 + max(hand.start for hand in self.hands)

    def call(self, method: str, *args: Any, indices: list[int], **kwargs: Any) -> list[Any]:
        """
        :param method: of the vectorised environments
        :param args: of it
        :param indices: of which environments, among all
        :param kwargs: of it
        :return: a result for each, after the chunks that the workers have been asked for
        """
        k = self.settings.envs_per_worker
        results: dict[int, Any] = {}
        for worker in sorted({index // k for index in indices}):
            own = [index for index in indices if index // k == worker]
            ref = self.hands[worker].actor.call.remote(method, args, kwargs, [index % k for index in own])
            results |= dict(zip(own, self.ray.get(ref, timeout=self.settings.time_limit) or [None] * len(own), strict=True))
        return [results[index] for index in indices]

    def close(self) -> None:
        """Stop the workers, in the middle of what they do."""
        for hand in self.hands:
            hand.tasks.clear()
            with suppress(Exception):
                self.ray.kill(hand.actor, no_restart=True)


def _in_short(error: Exception) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
