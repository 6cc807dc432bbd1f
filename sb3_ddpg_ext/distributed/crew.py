"""The workers of a training: asked for chunks, looked after, started anew."""

import time
import warnings
from contextlib import suppress
from typing import Any, NamedTuple

from sb3_ddpg_ext.distributed.attributes import Attributes
from sb3_ddpg_ext.distributed.chunk import Chunk, Order
from sb3_ddpg_ext.distributed.cluster import new_worker
from sb3_ddpg_ext.distributed.hand import BEGIN, COLLECT, SETTLE, Hand
from sb3_ddpg_ext.distributed.settings import RayCollector
from sb3_ddpg_ext.distributed.worker import seeds_of

COUNTED = 1.0  # seconds without a look at the workers that count for their time limit, at most
FIRST_LIMIT = 120.0  # seconds, at least, that the making of environments may take: it imports torch
CLOSE_LIMIT = 10.0  # seconds that workers have to close their environments, all at the same time; Ray takes some to cancel


class WorkersLost(RuntimeError):
    """Workers die, hang or raise again and again. What had arrived is stored, unless a callback lets this error through."""


class Came(NamedTuple):
    """
    A chunk that has come.

    :param worker: its number
    :param start: how often that had been started
    :param chunk: what it has made
    """

    worker: int
    start: int
    chunk: Chunk


class Crew:
    """
    Starts workers on Ray and takes their chunks. One that dies, hangs or raises is started anew.

    :param ray: the package, connected
    :param settings: of the collection
    :param making: a pickled :class:`~sb3_ddpg_ext.distributed.worker.Making`, for all workers
    :param attributes: that their environments are to have
    :param first_start: how often workers of this model have been started before
    """

    def __init__(self, ray: Any, settings: RayCollector, making: bytes, attributes: Attributes, first_start: int = 0):
        self.ray, self.settings, self.attributes = ray, settings, attributes
        self.making, self.epoch, self.n_restarts, self._version = ray.put(making), 0, 0, -1
        self.lost: WorkersLost | None = None  # once a worker has failed too often; nothing is asked for from then on
        self._kept: list[Came] = []  # while somebody waited for something else
        self._looked_at = time.monotonic()
        self.hands = [Hand(index) for index in range(settings.n_workers)]
        for hand in self.hands:
            hand.start = first_start
            self._start(hand)

    def _start(self, hand: Hand) -> None:
        hand.tasks.clear()
        hand.pid, hand.first_observations, hand.has_begun = None, None, False
        k = self.settings.envs_per_worker
        told = self.attributes.of(hand.index * k, k)
        hand.actor = new_worker(self.ray, self.settings, self.making, hand.index, hand.start, told)
        hand.ask(SETTLE, hand.actor.settle.remote(), self.epoch)

    def begin(self, job: bytes, seed: int | None, seeds: list[int | None], options: list[dict[str, Any]]) -> None:
        """
        Let all environments begin new episodes. Chunks that were asked for before are left out.

        :param job: a pickled :class:`~sb3_ddpg_ext.distributed.worker.Job`; workers keep the first one
        :param seed: of the model
        :param seeds: of the environments
        :param options: for the ``reset()`` of each, also where a worker is started anew
        """
        if self.epoch == 0:
            self.job = self.ray.put(job)
        self.epoch, self.seed, self.seeds, self.options = self.epoch + 1, seed, seeds, options
        self._kept.clear()
        for hand in self.hands:
            self._begin(hand)

    def _begin(self, hand: Hand) -> None:
        k, hand.first_observations = self.settings.envs_per_worker, None
        first = hand.index * k
        own = slice(first, first + k)
        seeds = seeds_of(self.seeds[own], self.seed, first, 0 if hand.has_begun else hand.start)
        hand.has_begun = True
        hand.ask(BEGIN, hand.actor.begin.remote(self.job, seeds, self.options[own]), self.epoch)

    def first_observations(self) -> list[Any]:
        """
        Wait until all environments have begun.

        :return: their observations, an entry for each worker
        :raises WorkersLost: if they do not
        """
        limit = time.monotonic() + max(self.settings.time_limit, FIRST_LIMIT)
        while any(hand.first_observations is None for hand in self.hands):
            self._look_on(self.hands, limit)
        return [hand.first_observations for hand in self.hands]

    def _look_on(self, hands: list[Hand], limit: float) -> None:
        """Wait a moment for what workers do, until a time by which they must have a place, and keep the chunks that come."""
        self._kept += self._take(0.1)
        if self.lost is not None:
            raise self.lost
        if time.monotonic() > limit and (placeless := [hand.index for hand in hands if hand.pid is None]):
            asked, there = self.settings.num_cpus, self.ray.cluster_resources()
            raise WorkersLost(
                f"collector: no place has been found for {len(placeless)} of n_workers={self.settings.n_workers}, each of "
                f"which asks for num_cpus={asked} and resources={self.settings.resources}; the cluster has {there}"
            )

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

    def take(self, timeout: float) -> list[Came]:
        """
        Take what has come, and start workers anew. Where one has failed too often, :attr:`lost` says so.

        :param timeout: seconds to wait if nothing has come
        :return: chunks, in each worker's order
        """
        kept, self._kept = self._kept, []
        return kept + self._take(0.0 if kept else timeout)

    def _take(self, timeout: float) -> list[Came]:
        came: list[Came] = []
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
            came += [each for ref in ready if (each := self._received(heads[ref])) is not None]
            timeout = 0
        for hand in self.hands:
            self._look_after(hand)
        self._looked_at = time.monotonic()
        return came

    def _received(self, hand: Hand) -> Came | None:
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
        elif task.kind == COLLECT and result is not None:  # as of a worker that has been closed
            hand.n_failures = 0
            return Came(hand.index, hand.start, result) if task.epoch == self.epoch else None
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
        self._stop([hand], 0.0)
        if self.lost is not None:
            return
        if hand.n_failures > self.settings.tries:
            self.lost = WorkersLost(
                f"worker {hand.index} has failed {hand.n_failures} times in a row (collector: tries={self.settings.tries}), "
                f"at last with {error}"
            )
            self.lost.__cause__ = error
            return
        self.n_restarts += 1
        warnings.warn(f"worker {hand.index} is started anew: {_in_short(error)}", RuntimeWarning, stacklevel=2)
        hand.start += 1
        self._start(hand)
        if self.epoch:
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
        :raises WorkersLost: if a worker has failed too often in a row
        :raises TimeoutError: if a worker takes longer than ``time_limit`` for it; it is started anew
        """
        k = self.settings.envs_per_worker
        own = {worker: [index for index in indices if index // k == worker] for worker in {index // k for index in indices}}
        hands = [self.hands[worker] for worker in own]
        self._wait_for(hands)
        asked = {hand: (method, args, kwargs, [index % k for index in own[hand.index]]) for hand in hands}
        refs = {hand: hand.actor.call.remote(*what) for hand, what in asked.items()}
        results: dict[int, Any] = {}
        for hand, ref in refs.items():
            found = self._answer(hand, ref, asked[hand])
            results |= dict(zip(own[hand.index], found or [None] * len(own[hand.index]), strict=True))
        return [results[index] for index in indices]

    def _wait_for(self, hands: list[Hand]) -> None:
        """Let workers do what they have been asked for, each chunk within its own time limit."""
        if self.lost is not None:
            raise self.lost
        limit = time.monotonic() + max(self.settings.time_limit, FIRST_LIMIT)
        while any(hand.tasks for hand in hands):
            self._look_on(hands, limit)

    def _answer(self, hand: Hand, ref: Any, asked: tuple[Any, ...]) -> Any:
        """What a worker says. One that has died is started anew, and asked once more."""
        errors = self.ray.exceptions
        limit = self.settings.time_limit if hand.has_begun else max(self.settings.time_limit, FIRST_LIMIT)
        while True:
            try:
                return self.ray.get(ref, timeout=limit)
            except errors.RayTaskError:  # which the environment has raised, and is an error of its class, too
                raise
            except errors.GetTimeoutError as error:
                trouble = TimeoutError(f"{asked[0]}{asked[1]} has given nothing within {limit:g} s (collector: time_limit)")
                self._fail(hand, trouble)
                raise self.lost or trouble from error
            except errors.RayError as error:
                self._fail(hand, error)
                self._wait_for([hand])
                ref = hand.actor.call.remote(*asked)

    def close(self) -> None:
        """Have the workers close their environments, as soon as the present step is over, and stop them."""
        self._stop(self.hands, CLOSE_LIMIT)

    def _stop(self, hands: list[Hand], limit: float) -> None:
        """Stop workers, at the latest after so many seconds. Those without a place are not waited for."""
        try:
            refs = [ref for hand in hands if limit and self._is_placed(hand) and (ref := self._closing(hand)) is not None]
            if refs:
                for ref in self.ray.wait(refs, num_returns=len(refs), timeout=limit)[0]:
                    with suppress(Exception):
                        self.ray.get(ref)
        finally:  # also at a second Ctrl-C
            for hand in hands:
                hand.tasks.clear()
                with suppress(Exception):
                    self.ray.kill(hand.actor, no_restart=True)

    def _is_placed(self, hand: Hand) -> bool:
        settles = [task.ref for task in hand.tasks if task.kind == SETTLE]
        return hand.pid is not None or bool(settles and self.ray.wait(settles, num_returns=1, timeout=0)[0])

    def _closing(self, hand: Hand) -> Any:
        with suppress(Exception):
            for task in hand.tasks:
                self.ray.cancel(task.ref)
            return hand.actor.close.remote()
        return None


def _in_short(error: Exception) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
