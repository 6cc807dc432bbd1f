"""What one process of the bench is asked to do."""

import argparse
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

LIBRARIES = ("ours", "sb3", "sbx", "cleanrl", "cleanrl-compile")


class Measure(NamedTuple):
    """A quantity that the bench can measure: a rate (more is better) or a time (less is better)."""

    title: str
    unit: str
    scale: float
    is_rate: bool
    clock: Callable[[], float] = time.perf_counter

    def value(self, seconds: float) -> float:
        """From seconds for one step, update or call to the unit."""
        return self.scale / seconds if self.is_rate else self.scale * seconds

    def speedup(self, ours: float, theirs: float) -> float:
        """How many times as fast ours is."""
        return ours / theirs if self.is_rate else theirs / ours


# In this order, in each process.
MEASURES = {
    "learn": Measure("learn() with one update per environment step", "steps/s", 1.0, True),
    "update": Measure("one update, sampling included", "ms", 1e3, False),
    "processor": Measure(
        "one update, sampling included, as processor time of all threads", "ms", 1e3, False, time.process_time
    ),
    "collect": Measure("learn() without updates", "steps/s", 1.0, True),
    "predict": Measure("predict() of one observation", "us", 1e6, False),
    "sample": Measure("sample() of the replay buffer, and the priorities after it", "us", 1e6, False),
}


class Cell(NamedTuple):
    """Hidden layers of actor and critic, and size of the minibatch."""

    net: tuple[int, ...]
    batch_size: int

    @classmethod
    def parse(cls, text: str) -> "Cell":
        if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*/[1-9]\d*", text):
            raise argparse.ArgumentTypeError(f"{text!r} must be hidden layers and batch size, such as 400x300/256")
        net, batch_size = text.split("/")
        return cls(tuple(int(width) for width in net.split("x")), int(batch_size))

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.net))}/{self.batch_size}"


class Beside(NamedTuple):
    """A library, or ours with an option, in a cell of its own."""

    library: str
    cell: Cell

    @classmethod
    def parse(cls, text: str) -> "Beside":
        library, _, cell = text.partition("@")
        if library.partition("+")[0] not in LIBRARIES or not cell:
            raise argparse.ArgumentTypeError(
                f"{text!r} must be one of {', '.join(LIBRARIES)}, @, hidden layers and batch size, such as sb3@400x300/256"
            )
        return cls(library, Cell.parse(cell))

    def __str__(self) -> str:
        return f"{self.library}@{self.cell}"


@dataclass(frozen=True)
class Task:
    """
    One run of one library, in a process of its own.

    :param library: one of ``LIBRARIES``, or ``"ours+OPTION"``
    :param threads: for the arithmetic; 0 for what the library takes by itself
    :param repeat: number of the repetition, from 0; also the seed
    :param cell: such as ``"400x300/256"``
    :param env: environment id
    :param n_envs: environments that step together
    :param device: ``"cpu"`` or ``"cuda"``
    :param learner: of ours
    :param precision: of ours
    :param measures: some of ``MEASURES``
    :param steps: environment steps in one timed call of ``learn()``
    :param gradient_steps: updates in one timed call of ``train()``
    :param warmup: environment steps before the first measurement, compilation and first updates included
    :param fill: random transitions put into the replay buffer beforehand, so that it does not fit into the cache
    :param min_seconds: timed calls are repeated until this much time has passed
    :param profile: say where the time of a step goes, instead of the measures
    """

    library: str
    threads: int
    repeat: int
    cell: str
    env: str
    n_envs: int
    device: str
    learner: str
    precision: str
    measures: list[str]
    steps: int
    gradient_steps: int
    warmup: int
    fill: int
    min_seconds: float
    profile: bool = False

    @property
    def option(self) -> str:
        """What is behind the "+"."""
        return self.library.partition("+")[2]

    @property
    def net(self) -> list[int]:
        return list(Cell.parse(self.cell).net)

    @property
    def batch_size(self) -> int:
        return Cell.parse(self.cell).batch_size
