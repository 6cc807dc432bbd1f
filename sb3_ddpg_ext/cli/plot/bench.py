"""``plot bench``: the file that ``bench --json`` writes, libraries beside each other or options beside the plain one."""

import argparse
import json
from pathlib import Path
from typing import Any

from sb3_ddpg_ext.cli.bench.report import Row, number, summarise
from sb3_ddpg_ext.cli.bench.task import LIBRARIES, MEASURES
from sb3_ddpg_ext.cli.plot import figures, roofline

TICKS = (0.5, 1, 2, 4, 8, 16, 32)  # of the axis of costs


def run(args: argparse.Namespace) -> None:
    """Read, draw."""
    result = read(args.json)
    rows = [] if is_profile(result) else summarise(result["runs"])
    draw(rows, result, args.png, args.svg)
    print(f"Bench: {args.png}")


def read(path: Path) -> dict[str, Any]:
    """
    :raises SystemExit: if the file is not there, or not of ``bench --json``, or holds nothing to compare
    """
    try:
        result = json.loads(path.read_text())
        settings, processor = result["settings"], result["machine"]["processor"]
        rows = [run["floor_flops"] for run in result["runs"]] if is_profile(result) else summarise(result["runs"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"JSON {path} must be a file of bench --json ({type(error).__name__}: {error})") from error
    if not rows or not settings or not processor:
        raise SystemExit(f"JSON {path} has no measured runs")
    return result


def is_profile(result: dict[str, Any]) -> bool:
    """Whether a file is of ``bench --profile``."""
    return bool(result["settings"].get("profile"))


def draw(rows: list[Row], result: dict[str, Any], path: Path, svg: bool = False) -> None:
    """Speeds where libraries are compared, costs where options or buffers are, GFLOP/s of a profile."""
    settings, machine = result["settings"], result["machine"]
    if is_profile(result):
        figure = roofline.draw(figures.pyplot(), result["runs"])
    else:
        compare = draw_costs if any("+" in row.library for row in rows) else draw_speeds
        figure = compare(figures.pyplot(), rows, result["runs"])
    title = f"{settings['env']}, {machine['processor']}, {machine['cores']} cores, {settings['device']}"
    figure.suptitle(title, fontsize=figures.SMALL)
    figures.save(figure, path, svg)


def values_of(row: Row, runs: list[dict[str, Any]]) -> list[float]:
    """What the single runs behind a row measured."""
    own = [run for run in runs if (run["library"], run["cell"], run["threads"]) == (row.library, row.cell, row.threads)]
    return [run["measures"][row.measure] for run in own if row.measure in run["measures"]]


def draw_speeds(plt: Any, rows: list[Row], runs: list[dict[str, Any]]) -> Any:
    """Bars of the libraries' speed relative to one of them, a dot for each run; one panel for each measure."""
    measures = list(dict.fromkeys(row.measure for row in rows))
    size = (figures.WIDTH, 0.9 + 2.8 * len(measures))
    figure, panels = plt.subplots(len(measures), 1, figsize=size, layout="constrained", squeeze=False)
    for axes, measure in zip(panels[:, 0], measures, strict=True):
        draw_panel(axes, [row for row in rows if row.measure == measure], runs)
    add_legend(figure, panels[0, 0])
    return figure


def draw_panel(axes: Any, rows: list[Row], runs: list[dict[str, Any]]) -> None:
    cells = list(dict.fromkeys(row.cell for row in rows))
    libraries = [library for library in LIBRARIES if library in {row.library for row in rows}]
    reference = "sb3" if "sb3" in libraries else libraries[0]
    medians = {row.cell: row.median for row in rows if row.library == reference}
    measure, width = MEASURES[rows[0].measure], 0.8 / len(libraries)
    for i, library in enumerate(libraries):
        mine = [row for row in rows if row.library == library and row.cell in medians]
        places = [cells.index(row.cell) + (i - (len(libraries) - 1) / 2) * width for row in mine]
        heights = [measure.speedup(row.median, medians[row.cell]) for row in mine]
        colour = figures.PALETTE[LIBRARIES.index(library)]
        axes.bar(places, heights, 0.94 * width, color=colour, label=f"{library}: median")
        for place, row in zip(places, mine, strict=True):
            speeds = [measure.speedup(value, medians[row.cell]) for value in values_of(row, runs)]
            axes.plot([place] * len(speeds), speeds, "o", label="each run", **RUN)
            top = max([*speeds, measure.speedup(row.median, medians[row.cell])])
            axes.annotate(number(row.median), (place, top), (0, 4), textcoords="offset points", ha="center", fontsize=8)
    axes.set_xticks(range(len(cells)), cells)
    axes.set_title(f"{measure.title}; above the bars: {measure.unit}")
    axes.set_ylabel(f"speed relative to {reference}")
    axes.margins(y=0.15)


RUN: dict[str, Any] = dict(color="white", markeredgecolor="black", markeredgewidth=0.8, markersize=3.5, linestyle="none")


def draw_costs(plt: Any, rows: list[Row], runs: list[dict[str, Any]]) -> Any:
    """Dots of the time or steps with each option, as multiples of plain DDPG's; one panel for each measure and cell."""
    panels = list(dict.fromkeys((row.measure, row.cell) for row in rows if row.library == "ours"))
    names = list(dict.fromkeys(row.library for row in rows if row.speedup is not None))[::-1]
    size = (figures.WIDTH, 1.6 + 0.22 * len(names))
    figure, axes = plt.subplots(1, len(panels), figsize=size, layout="constrained", squeeze=False, sharex=True, sharey=True)
    for ax, (measure, cell) in zip(axes[0], panels, strict=True):
        mine = [row for row in rows if (row.measure, row.cell) == (measure, cell) and row.speedup is not None]
        (plain,) = (row.median for row in rows if (row.measure, row.cell, row.library) == (measure, cell, "ours"))
        for row in mine:
            draw_cost(
                ax, names.index(row.library), row, [MEASURES[measure].speedup(plain, one) for one in values_of(row, runs)]
            )
        ax.axvline(1, color="black", linewidth=0.8, linestyle="--", label="plain DDPG, ours", zorder=0)
        title = MEASURES[measure].title.replace(", and", ",\nand")
        ax.set_title(f"{title}\n{cell}; times plain ({MEASURES[measure].unit})")
        ax.set_xlabel("cost as a multiple of plain DDPG's")
        ax.set_xscale("log")
        ax.set_xticks(TICKS, map(str, TICKS), minor=False)
        ax.set_xticks([], minor=True)
        ax.grid(axis="both", alpha=0.25)
    largest = max([2.0, *(row.speedup or 0.0 for row in rows)])
    axes[0, 0].set_xlim(TICKS[0] * 1.4, largest * (2.2 if len(panels) == 1 else 6))
    axes[0, 0].set_yticks(range(len(names)), [name.removeprefix("ours+") for name in names])
    axes[0, 0].set_ylim(-0.8, len(names) - 0.2)
    add_legend(figure, axes[0, 0])
    return figure


def add_legend(figure: Any, axes: Any) -> None:
    """Each label once, the single runs last."""
    handles, labels = axes.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    order = sorted(named, key=lambda label: (label == "each run", labels.index(label)))
    figures.legend_below(figure, [named[label] for label in order], columns=6)


def draw_cost(axes: Any, place: int, row: Row, costs: list[float]) -> None:
    who = 1 if row.library.startswith("sb3") else 0
    look = dict(color=figures.PALETTE[who], marker=figures.MARKERS[who], label=("ours", "SB3")[who] + ": median")
    axes.plot([row.speedup], [place], linestyle="none", markersize=7, **look)
    axes.plot(costs, [place] * len(costs), "o", label="each run", **RUN)
    text = f"{row.speedup:.2f}  ({number(row.median)})"
    behind = dict(xy=(max([row.speedup or 0, *costs]), place), xytext=(7, 0), textcoords="offset points")
    axes.annotate(text, **behind, va="center_baseline", fontsize=8, bbox=dict(facecolor="white", edgecolor="none", pad=0.5))
