"""One of the workers, as the learner sees it."""

import time
from collections import deque
from typing import Any, NamedTuple

SETTLE, BEGIN, COLLECT = "settle", "begin", "collect"


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
