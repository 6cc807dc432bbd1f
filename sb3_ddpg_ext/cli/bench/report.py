"""What the bench makes of its runs: medians, ratios, tables."""

import os
import platform
import statistics
from collections import defaultdict
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from sb3_ddpg_ext.cli.bench.task import MEASURES

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
        "system": "-".join(filter(None, (platform.system(), platform.machine(), *platform.libc_ver()))),
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


def threads(n: int) -> str:
    """How a task's number of threads is written."""
    return str(n) if n else "default"


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
                row.cell, row.library, threads(row.threads), number(row.median), f"{number(row.low)} to {number(row.high)}",
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
        f"{profile['cell']}, threads: {threads(profile['threads'])}, learner: {profile['learner']}\n"
        f"{markdown(['one step with its update', 'us', 'share'], lines)}\n"
        f"one update with sampling: {profile['update_ms']:.3f} ms; matrix products alone: {profile['floor_ms']:.3f} ms "
        f"({profile['floor_flops'] / 1e6:.4g} MFLOP, {profile['floor_flops'] / profile['floor_ms'] / 1e6:.0f} GFLOP/s); "
        f"{profile['update_per_floor']:.2f} times the floor"
    )
