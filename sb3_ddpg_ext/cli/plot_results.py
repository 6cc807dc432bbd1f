"""``plot results``: the agents of several configurations side by side, from the file that ``report --csv`` writes."""

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sb3_ddpg_ext.cli.bench_report import markdown
from sb3_ddpg_ext.cli.plot import pyplot, save

COLUMNS = ("env", "seed", "mean_return", "threshold", "label")
RESAMPLES = 10_000


@dataclass
class Configuration:
    """
    The agents with one label.

    :param returns: mean return of each seed
    :param threshold: of the environment; None where it has none
    """

    label: str
    returns: np.ndarray
    threshold: float | None

    @property
    def mean(self) -> float:
        return float(self.returns.mean())

    def interval(self) -> tuple[float, float]:
        """Of the mean: the middle 95% of the means of agents drawn with replacement. Empty with a single agent."""
        draws = np.random.default_rng(0).integers(len(self.returns), size=(RESAMPLES, len(self.returns)))
        low, high = np.percentile(self.returns[draws].mean(axis=1), [2.5, 97.5])
        return float(low), float(high)

    def solved(self) -> str:
        """Seeds that reach the threshold, e.g. ``7/10``."""
        if self.threshold is None:
            return ""
        return f"{np.count_nonzero(self.returns >= self.threshold)}/{len(self.returns)}"


def run(args: argparse.Namespace) -> None:
    """Print the table, draw."""
    plt = pyplot()
    rows = read(args.csv)
    configurations = group(rows)
    print(table(configurations))
    save(draw(plt, configurations, args.title or rows[0]["env"]), args.png)
    print(f"Results: {args.png}")


def read(path: Path) -> list[dict[str, Any]]:
    """
    :raises SystemExit: if the file is not there, or not of ``report --csv``, or of several environments
    """
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SystemExit(f"CSV {path} cannot be read: {error}") from error
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise SystemExit(f"CSV {path} has no column {missing[0]!r}; it must be a file of report --csv FILE --label TEXT")
    if not rows:
        raise SystemExit(f"CSV {path} has no rows")
    for i, row in enumerate(rows, 2):
        for name in ("mean_return", "threshold"):
            row[name] = number(row[name], f"CSV {path}, line {i}: {name}")
    environments = list(dict.fromkeys(row["env"] for row in rows))
    if len(environments) > 1:
        raise SystemExit(f"CSV {path} holds {', '.join(environments)}; it must be one environment, or returns mean nothing")
    return rows


def number(text: str | None, name: str) -> float | None:
    """A finite number; None where there is none and none is needed."""
    if not text and name.endswith("threshold"):
        return None
    try:
        value = float(text or "")
        if np.isfinite(value):
            return value
    except ValueError:
        pass
    raise SystemExit(f"{name}={text!r} must be a finite number")


def group(rows: list[dict[str, Any]]) -> list[Configuration]:
    """By label, in the order of first appearance. A seed that was evaluated again counts once, as it was last."""
    labels: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        labels.setdefault(row["label"], {})[row["seed"]] = row
    return [
        Configuration(
            label,
            np.array([row["mean_return"] for row in seeds.values()]),
            next((row["threshold"] for row in seeds.values() if row["threshold"] is not None), None),
        )
        for label, seeds in labels.items()
    ]


def table(configurations: list[Configuration]) -> str:
    lines = []
    for one in configurations:
        low, high = one.interval()
        interval = f"{low:.1f} to {high:.1f}" if len(one.returns) > 1 else ""
        lines.append([one.label, str(len(one.returns)), f"{one.mean:.1f}", interval, one.solved()])
    return markdown(["label", "seeds", "mean", "95% interval", "solved"], lines)


def draw(plt: Any, configurations: list[Configuration], title: str) -> Any:
    """One row for each label: its seeds, and below them their mean with its interval."""
    figure, axes = plt.subplots(figsize=(8, 1.4 + 0.45 * len(configurations)), layout="constrained")
    for place, one in enumerate(configurations):
        axes.plot(one.returns, np.full(len(one.returns), place - 0.12), "o", color="C0", alpha=0.5, markersize=6)
        axes.plot(one.mean, place + 0.18, "D", color="C3", markersize=5)
        if len(one.returns) > 1:
            axes.plot(one.interval(), [place + 0.18] * 2, color="C3", linewidth=2)
        note = f"mean {one.mean:.1f}" if one.threshold is None else f"solved {one.solved()}"
        axes.text(1.01, place, note, transform=axes.get_yaxis_transform(), va="center", fontsize=9)
    thresholds = {one.threshold for one in configurations if one.threshold is not None}
    for threshold in thresholds:
        axes.axvline(threshold, color="black", linestyle="--", linewidth=1, zorder=0)
    axes.set_yticks(range(len(configurations)), [one.label or "(no label)" for one in configurations])
    axes.set_ylim(len(configurations) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
    dashed = "".join(f"; dashed: threshold {threshold:g}" for threshold in sorted(thresholds))
    marks = f"dots: seeds; diamond: their mean, with its 95% bootstrap interval{dashed}"
    figure.supxlabel(f"mean return of an agent\n{marks}", fontsize=9)
    axes.set_title(title, fontsize=10)
    return figure
