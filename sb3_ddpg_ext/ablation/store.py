"""The files of a study. At every moment they hold whole runs, each once, whatever is killed when."""

import csv
import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sb3_ddpg_ext.ablation.study import Run
from sb3_ddpg_ext.files import written_whole

if TYPE_CHECKING:
    from sb3_ddpg_ext.ablation.trial import Result

HEAD = ("study", "env", "config")  # of runs.csv, before the factors
VALUES = (
    "seed",
    "mean_return",
    "sd_return",
    "last_evaluations",
    "area",
    "train_last10",
    "train_best100",
    "episodes",
    "steps",
    "steps_per_second",
    "seconds",
    "settings",
    "versions",
    "commit",
)
CURVE = ("env", "config", "seed", "step", "mean_return", "settings")
Row = dict[str, Any]
Key = tuple[str, str, str]  # environment, settings, seed


class Store:
    """
    ``runs.csv`` with a row for each finished run, and ``curves.csv`` with a row for each of its evaluations.

    Both are replaced whole, by a file that is complete on the disk before it takes the name; the curves first, and a run is
    finished once it is in ``runs.csv``. To add runs, a process holds the folder, ``with store: ...``, by a lock that ends
    with the process.

    :param folder: made when it is held
    :param runs: all runs of the study; finished runs with their settings and other seeds belong to it too
    :raises ValueError: if ``runs.csv`` is no such file, or a factor has the name of one of its columns
    """

    def __init__(self, folder: Path, runs: Sequence[Run]):
        self.folder = folder
        self.factors = list(dict.fromkeys(factor for run in runs for factor in run.levels))
        taken = [factor for factor in self.factors if factor in (*HEAD, *VALUES)]
        if taken:
            raise ValueError(f"factors: {taken[0]!r} is a column of its own in runs.csv; the factor must have another name")
        self._known = {(run.env, run.settings): run for run in runs}
        self._read()

    def _read(self) -> None:
        self.rows: dict[Key, Row] = {}  # finished runs
        self.others: dict[Key, Row] = {}  # finished runs with settings that the study does not have (any more)
        for row in read_rows(self.folder / "runs.csv", (*HEAD, *VALUES)):
            key = row["env"], row["settings"], row["seed"]
            run = self._known.get(key[:2])
            if run is not None:
                own = {name: row[name] for name in (*HEAD, *VALUES)}
                self.rows[key] = own | names_of(run) | {"seed": row["seed"]}  # names may have changed
            else:
                self.others[key] = row
        self.curves: dict[Key, list[Row]] = {key: [] for key in (*self.rows, *self.others)}
        for row in read_rows(self.folder / "curves.csv", CURVE):
            key = row["env"], row["settings"], row["seed"]
            if key in self.curves:  # else of a run that was killed between the two files
                self.curves[key].append(row | {"config": (self.rows.get(key) or self.others[key])["config"]})

    def __enter__(self) -> "Store":
        """:raises BlockingIOError: if another process holds the folder"""
        from filelock import FileLock, Timeout  # comes with torch

        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise BlockingIOError(f"{self.folder} is in use by another process, which runs the same study") from None
        self._read()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._lock.release()

    def missing(self, runs: Iterable[Run]) -> list[Run]:
        """Those that are not finished."""
        return [run for run in runs if key_of(run) not in self.rows]

    def drop_others(self) -> None:
        """Forget the runs with other settings."""
        for key in self.others:
            del self.curves[key]
        self.others = {}
        self._write()

    def add(self, result: "Result") -> None:
        """Keep a finished run."""
        key, names = key_of(result.run), names_of(result.run)
        values = {name: "" if value is None else value for name, value in result.values.items()}
        self.rows[key] = names | values
        curve = {name: names[name] for name in CURVE if name in names}
        self.curves[key] = [curve | {"step": step, "mean_return": value} for step, value in result.evaluations]
        self._write()

    def _write(self) -> None:
        write_rows(self.folder / "curves.csv", CURVE, itertools.chain.from_iterable(self.curves.values()))
        rows = [*self.rows.values(), *self.others.values()]
        factors = dict.fromkeys([*self.factors, *(name for row in rows for name in row if name not in (*HEAD, *VALUES))])
        write_rows(self.folder / "runs.csv", (*HEAD, *factors, *VALUES), rows)


def key_of(run: Run) -> Key:
    return run.env, run.settings, str(run.seed)


def names_of(run: Run) -> Row:
    """What tells a run from others, in the words of the study as it is now."""
    names = {"study": run.study, "env": run.env, "config": run.config, "seed": str(run.seed), "settings": run.settings}
    return names | run.levels


def read_rows(path: Path, needed: Sequence[str]) -> list[Row]:
    """
    :param path: of a CSV file; one that is not there has no rows
    :param needed: columns
    :raises ValueError: if it lacks one of them, or a row is not whole
    """
    if not path.exists():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in needed if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path} has no column {missing[0]!r}; it must be a file that ablate wrote")
        rows = list(reader)
    for i, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise ValueError(f"{path}, line {i} must have {len(row)} values")
    return rows


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """All of them or, where the process is killed or the disk is full, none: the file that was there stays."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    with written_whole(path) as file:
        file.write(text.getvalue().encode())
