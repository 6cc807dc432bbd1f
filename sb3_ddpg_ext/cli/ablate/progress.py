"""What is seen of a study while it runs: a line for each run that ends, or a bar."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sb3_ddpg_ext.ablation import Run
    from sb3_ddpg_ext.ablation.parallel import Outcome


class Progress(Protocol):
    """What is seen of a study while it runs."""

    def ended(self, outcome: "Outcome") -> None: ...

    def say(self, line: str) -> None: ...


class Lines:
    """
    A line for each run that ends, with the time left: for files and pipes.

    :param runs: to come
    """

    def __init__(self, runs: Sequence["Run"]):
        self.total, self.n_runs = sum(run.steps for run in runs), len(runs)
        self.done, self.n_done, self.started = 0, 0, time.monotonic()

    def ended(self, outcome: "Outcome") -> None:
        self.done, self.n_done = self.done + outcome.run.steps, self.n_done + 1
        left = (time.monotonic() - self.started) * (self.total / self.done - 1)
        self.say(f"[{self.n_done}/{self.n_runs}, {duration(left)} left] {describe(outcome)}")

    def say(self, line: str) -> None:
        print(line, flush=True)


class Bar:
    """
    A bar with the time left, below a line for each run that has ended: for terminals.

    :param runs: to come
    :param progress: of rich
    """

    def __init__(self, runs: Sequence["Run"], progress: Any):
        self.progress = progress
        self.task = progress.add_task("", total=sum(run.steps for run in runs), n_runs=len(runs), n_done=0)
        self.n_done = 0

    def ended(self, outcome: "Outcome") -> None:
        self.n_done += 1
        self.say(describe(outcome))
        self.progress.update(self.task, advance=outcome.run.steps, n_done=self.n_done)

    def say(self, line: str) -> None:
        self.progress.console.print(line, markup=False, highlight=False)


@contextmanager
def make_progress(runs: Sequence["Run"]) -> Iterator[Progress]:
    if not sys.stdout.isatty():
        yield Lines(runs)
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    count = TextColumn("{task.fields[n_done]} of {task.fields[n_runs]} runs")
    columns = [count, BarColumn(), TimeElapsedColumn(), TextColumn("left:"), TimeRemainingColumn(elapsed_when_finished=True)]
    with Progress(*columns, speed_estimate_period=1e6) as progress:
        yield Bar(runs, progress)


def describe(outcome: "Outcome") -> str:
    if outcome.result is None:
        return f"FAILED {outcome.run} after {duration(outcome.seconds)}\n{outcome.failure.rstrip()}"
    values = outcome.result.values
    return (
        f"{outcome.run}: {values['mean_return']:.1f} +/- {values['sd_return']:.1f} after {values['steps']:,} steps, "
        f"{duration(outcome.seconds)}"
    )


def duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
