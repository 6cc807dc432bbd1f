"""How many threads an update is given."""

import os
import statistics
import time
from collections.abc import Iterator

SMALLEST_SHARE = 5e6  # multiply-adds of an update, for each thread: less is not worth the waking of another
PERIOD = 1000  # updates between two comparisons
N_TRIED = 4  # updates with each number of threads
GAIN = 0.95  # of the time with fewer threads, which more threads must not exceed


def n_cores() -> int:
    """Of this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Tempo:
    """
    Chooses the number of threads by the time that updates take, and again from time to time: other programs come and go.

    That is possible where the numbers that come out do not depend on it.

    :param n_products: multiply-adds of an update
    :param at_most: threads; None for the number of cores
    """

    def __init__(self, n_products: float, at_most: int | None = None):
        most = min(n_cores() if at_most is None else at_most, int(n_products / SMALLEST_SHARE))
        self.candidates = [1, *(n for n in (2, 4, 8, 16, 32, 64) if n < most), *([most] if most > 1 else [])]
        self.n_threads = 1
        self._steps = self._endless()
        self._times: list[float] = []
        next(self._steps)

    def begin(self) -> int:
        """:return: the number of threads for an update that begins now"""
        self._began = time.perf_counter()
        return self.n_threads

    def end(self) -> None:
        """Take note that it has ended."""
        if len(self.candidates) > 1:
            self._times.append(time.perf_counter() - self._began)
            next(self._steps)

    def _endless(self) -> Iterator[None]:
        """Sets the number of threads before each update."""
        while True:
            best, shortest = 1, float("inf")
            for n in self.candidates:
                self.n_threads, self._times = n, []
                for _ in range(N_TRIED):
                    yield
                took = statistics.median(self._times)
                if took < shortest * GAIN:
                    best, shortest = n, took
            self.n_threads, self._times = best, []
            for _ in range(PERIOD):
                yield
            self._times = []
