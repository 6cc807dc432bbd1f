"""``plot results``: the agents of several configurations side by side, from the file that ``report --csv`` writes."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sb3_ddpg_ext.cli.bench.report import markdown
from sb3_ddpg_ext.cli.data.intervals import SPREAD, fixed, spread
from sb3_ddpg_ext.cli.data.rows import make_numbers, read_rows
from sb3_ddpg_ext.cli.plot import figures

COLUMNS = ("env", "seed", "mean_return", "threshold", "label")


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

    def solved(self) -> str:
        """Seeds that reach the threshold, e.g. ``7/10``."""
        if self.threshold is None:
            return ""
        return f"{np.count_nonzero(self.returns >= self.threshold)}/{len(self.returns)}"


def run(args: argparse.Namespace) -> None:
    """Print the table, draw."""
    plt = figures.pyplot()
    rows = read(args.csv)
    configurations = group(rows)
    print(table(configurations))
    figures.save(draw(plt, configurations, args.title or rows[0]["env"]), args.png, args.svg)
    print(f"Results: {args.png}")


def read_labelled(path: Path) -> list[dict[str, Any]]:
    """
    :raises SystemExit: if the file is not there, or not of ``report --csv --label``
    """
    rows = read_rows(path, COLUMNS, "report --csv FILE --label TEXT")
    make_numbers(rows, path, ["mean_return"], optional=["threshold"])
    return rows


def read(path: Path) -> list[dict[str, Any]]:
    """
    :raises SystemExit: as :func:`read_labelled`, and if the rows are of several environments
    """
    rows = read_labelled(path)
    environments = list(dict.fromkeys(row["env"] for row in rows))
    if len(environments) > 1:
        raise SystemExit(f"CSV {path} holds {', '.join(environments)}; it must be one environment, or returns mean nothing")
    return rows


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
    lines = [
        [one.label, str(len(one.returns)), fixed(one.mean, 1), spread(one.returns, 1), one.solved()] for one in configurations
    ]
    return markdown(["label", "seeds", "mean", SPREAD, "solved"], lines)


def draw(plt: Any, configurations: list[Configuration], title: str) -> Any:
    """One row for each label: its seeds, and below them their mean, from five seeds on with its interval."""
    figure, axes = plt.subplots(figsize=(figures.WIDTH, 1.6 + 0.45 * len(configurations)), layout="constrained")
    for place, one in enumerate(configurations):
        figures.draw_level(axes, place, one.returns)
        note = f"mean {fixed(one.mean, 1)}" if one.threshold is None else f"solved {one.solved()}"
        axes.text(1.01, place, note, transform=axes.get_yaxis_transform(), va="center", fontsize=figures.SMALL)
    handles = figures.level_legend(len(one.returns) for one in configurations)
    for threshold in sorted({one.threshold for one in configurations if one.threshold is not None}):
        look = dict(color="black", linestyle="--", linewidth=1, zorder=0)
        handles.append(axes.axvline(threshold, label=f"threshold {threshold:g}", **look))
    axes.set_yticks(range(len(configurations)), [one.label or "(no label)" for one in configurations])
    axes.set_ylim(len(configurations) - 0.5, -0.5)
    axes.set(xlabel="mean return of an agent", title=title)
    axes.grid(axis="x", alpha=0.3)
    figures.legend_below(figure, handles)
    return figure
