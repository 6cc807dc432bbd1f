"""What the bench makes of its runs: medians, ratios, tables, a plot."""

import os
import platform
import statistics
from collections import defaultdict
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from sb3_ddpg_ext.cli.bench_task import LIBRARIES, MEASURES

PACKAGES = ("sb3_ddpg_ext", "stable_baselines3", "sbx-rl", "torch", "jax", "jaxlib", "numpy", "gymnasium", "mujoco")


class Row(NamedTuple):
    """One library in one cell, at the thread count with its best median."""

    measure: str
    cell: str
    library: str
    threads: int
    median: float
    low: float
    high: float
    n_runs: int
    speedup: float | None  # how many times as fast ours is


def summarise(runs: list[dict[str, Any]]) -> list[Row]:
    """
    :param runs: dicts with ``library``, ``cell``, ``threads`` and ``measures`` (name to value)
    :return: sorted by measure, then in the order of the runs
    """
    samples: dict[tuple[str, str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for measure, value in run["measures"].items():
            samples[measure, run["cell"], run["library"]][run["threads"]].append(value)
    best = {key: best_threads(key[0], by_threads) for key, by_threads in samples.items()}
    rows = []
    for key in sorted(samples, key=lambda key: list(MEASURES).index(key[0])):  # stable: cells and libraries stay in order
        measure, cell, library = key
        values, ours = samples[key][best[key]], (measure, cell, "ours")
        median, speedup = statistics.median(values), None
        if library != "ours" and ours in samples:
            speedup = MEASURES[measure].speedup(statistics.median(samples[ours][best[ours]]), median)
        rows.append(Row(measure, cell, library, best[key], median, min(values), max(values), len(values), speedup))
    return rows


def best_threads(measure: str, by_threads: dict[int, list[float]]) -> int:
    choose = max if MEASURES[measure].is_rate else min
    return choose(by_threads, key=lambda threads: statistics.median(by_threads[threads]))


def machine() -> dict[str, Any]:
    return {
        "processor": processor(),
        "cores": usable_cores(),
        "system": platform.platform(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Of Python and of what is installed among ``PACKAGES``."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def number(value: float) -> str:
    """Three significant digits, more only for whole numbers: 0.0123, 1.23, 12.3, 1235."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def markdown(header: list[str], lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    cells = [header, ["-" * width for width in widths], *lines]
    return "\n".join(
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in cells
    )


def tables(rows: list[Row]) -> str:
    """One table for each measure."""
    parts = []
    header = ["net/batch", "library", "threads", "median", "min to max", "runs", "ours is"]
    for name, measure in MEASURES.items():
        lines = [
            [
                row.cell, row.library, str(row.threads), number(row.median), f"{number(row.low)} to {number(row.high)}",
                str(row.n_runs), "" if row.speedup is None else f"{row.speedup:.2f}x as fast",
            ]
            for row in rows
            if row.measure == name
        ]  # fmt: skip
        if lines:
            parts.append(f"{measure.title}, {measure.unit}\n{markdown(header, lines)}")
    return "\n\n".join(parts)


def profile_table(profile: dict[str, Any]) -> str:
    """One profile: the phases with their share of the step, then the floor."""
    phases = profile["phases_us"]
    lines = [
        [name, "in other" if us is None else number(us), "" if us is None else f"{us / phases['step']:.1%}"]
        for name, us in phases.items()
    ]
    return (
        f"{profile['cell']}, threads: {profile['threads']}, learner: {profile['learner']}\n"
        f"{markdown(['one step with its update', 'us', 'share'], lines)}\n"
        f"one update with sampling: {profile['update_ms']:.3f} ms; matrix products alone: {profile['floor_ms']:.3f} ms "
        f"({profile['floor_flops'] / 1e6:.4g} MFLOP, {profile['floor_flops'] / profile['floor_ms'] / 1e6:.0f} GFLOP/s); "
        f"{profile['update_per_floor']:.2f} times the floor"
    )


def draw(rows: list[Row], title: str, path: Path) -> None:
    """Bars of the libraries' speed, relative to one of them, with the medians above; one panel for each measure."""
    try:
        import matplotlib
    except ImportError as error:
        raise SystemExit(f"--png needs matplotlib ({error}): pip install 'sb3_ddpg_ext[plots]'") from error

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    measures = list(dict.fromkeys(row.measure for row in rows))
    figure, panels = plt.subplots(len(measures), 1, figsize=(8, 3.2 * len(measures)), layout="constrained", squeeze=False)
    for axes, measure in zip(panels[:, 0], measures, strict=True):
        draw_panel(axes, [row for row in rows if row.measure == measure])
    panels[0, 0].legend(fontsize="small")
    figure.suptitle(title, fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_panel(axes: Any, rows: list[Row]) -> None:
    cells = list(dict.fromkeys(row.cell for row in rows))
    libraries = [library for library in LIBRARIES if library in {row.library for row in rows}]
    reference = "sb3" if "sb3" in libraries else libraries[0]
    medians = {row.cell: row.median for row in rows if row.library == reference}
    width = 0.8 / len(libraries)
    for i, library in enumerate(libraries):
        mine = [row for row in rows if row.library == library and row.cell in medians]
        places = [cells.index(row.cell) + (i - (len(libraries) - 1) / 2) * width for row in mine]
        speeds = [relative_speeds(row, medians[row.cell]) for row in mine]
        spread = [[middle - low for low, middle, _ in speeds], [high - middle for _, middle, high in speeds]]
        heights, colour = [middle for _, middle, _ in speeds], f"C{LIBRARIES.index(library)}"
        bars = axes.bar(places, heights, width, yerr=spread, label=library, color=colour)
        axes.bar_label(bars, [number(row.median) for row in mine], fontsize="x-small", padding=2)
    measure = MEASURES[rows[0].measure]
    axes.set_xticks(range(len(cells)), cells)
    axes.set_title(f"{measure.title}; above the bars: {measure.unit}", fontsize="small")
    axes.set_ylabel(f"speed relative to {reference}")
    axes.margins(y=0.15)


def relative_speeds(row: Row, reference: float) -> list[float]:
    """Slowest, median and fastest run, as multiples of the speed with the value ``reference``."""
    return sorted(MEASURES[row.measure].speedup(value, reference) for value in (row.low, row.median, row.high))
