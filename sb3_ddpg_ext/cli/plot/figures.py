"""What all pictures share: colours that colour-blind readers can tell apart, line styles, markers, labels, notes, files."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sb3_ddpg_ext.cli.data.intervals import LEAST_SEEDS, mean_interval

WIDTH = 8.0  # inches, which a README shows as some 800 pixels, so that 10 points are 14 pixels
# Okabe and Ito (2008), "Color Universal Design", without the yellow, which white paper swallows
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (7, 2, 1, 2, 1, 2)))
MARKERS = "os^DvPX*"
SMALL = 9  # points
FONTS: dict[str, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "legend.fontsize": SMALL,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
}
FRAME: dict[str, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "sb3_ddpg_ext",
    "figure.max_open_warning": 0,
}


def pyplot() -> Any:
    """matplotlib's ``pyplot``, drawing into files only."""
    try:
        import matplotlib
    except ImportError as error:
        raise SystemExit(f"plot needs matplotlib ({error}): pip install 'sb3_ddpg_ext[plots]'") from error

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update(FONTS | FRAME)  # type: ignore[arg-type]
    return pyplot


def save(figure: Any, path: Path, svg: bool = False) -> None:
    """As ``path``, and with ``svg`` as a drawing beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    if svg:
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    pyplot().close(figure)


def style(i: int) -> dict[str, Any]:
    """Of the ``i``-th label: any two of the first 40 have another line or another marker, whatever their colours."""
    return dict(color=PALETTE[i % len(PALETTE)], linestyle=LINES[i % len(LINES)], marker=MARKERS[i % len(MARKERS)])


def draw_seeds(axes: Any, steps: np.ndarray, returns: np.ndarray, label: str, i: int, limits: Any = None) -> Any:
    """
    The mean of the seeds as a line. Around it the interval of the mean; below five seeds, each of them as a thin line.

    :param returns: of shape (seeds, steps)
    :param limits: within which the quantity lies; None for any
    :return: the line of the mean
    """
    own = style(i)
    ends = mean_interval(returns)
    if ends is not None:
        low, high = ends if limits is None else np.clip(ends, *limits)
        axes.fill_between(steps, low, high, color=own["color"], alpha=0.18, linewidth=0)
    elif len(returns) > 1:
        axes.plot(steps, returns.T, color=own["color"], linestyle=own["linestyle"], linewidth=0.8, alpha=0.6)
    every = (i % 3, max(3, len(steps) // 7))  # markers of several lines seldom lie upon each other
    (line,) = axes.plot(steps, returns.mean(axis=0), label=label, linewidth=2.2, markersize=5, markevery=every, **own)
    return line


def curves_note(counts: Iterable[int]) -> str:
    """What :func:`draw_seeds` has drawn for configurations with so many seeds."""
    counts, parts = list(counts), ["thick: mean of the seeds"]
    if max(counts) == 1:
        return "each line is one seed"
    if any(1 < count < LEAST_SEEDS for count in counts):
        parts.append("thin: each seed, where they are fewer than five")
    if any(count >= LEAST_SEEDS for count in counts):
        parts.append("shaded: 95% t interval of the mean over seeds")
    return "; ".join(parts)


def label_ends(axes: Any, lines: Sequence[Any]) -> None:
    """Write each line's label behind its last point, joined to it by a piece of the line, or by dots where it ends early."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    ends = [(line.get_xdata()[-1], line.get_ydata()[-1]) for line in lines]
    last = max(x for x, _ in ends)
    height = axes.figure.get_figheight() * 72 * 0.75  # points
    places = apart(np.array([(y - low) / (high - low) for _, y in ends]), 1.4 * SMALL / height)
    for line, end, place in zip(lines, ends, places, strict=True):
        joint = dict(arrowstyle="-", color=line.get_color(), linestyle=line.get_linestyle(), linewidth=1.5)
        if end[0] < last:  # nothing that looks as if it went on
            joint |= dict(color="0.6", linestyle=":", linewidth=0.8)
        joint |= dict(shrinkA=0, shrinkB=0)
        axes.annotate("", xy=end, xytext=(1.04, place), textcoords="axes fraction", arrowprops=joint, annotation_clip=False)
        axes.text(1.055, place, line.get_label(), transform=axes.transAxes, va="center_baseline", fontsize=SMALL)
        mark = dict(color=line.get_color(), marker=line.get_marker(), markersize=5, linestyle="none", label="_end")
        axes.plot([1.04], [place], transform=axes.transAxes, clip_on=False, **mark)


def apart(places: np.ndarray, least: float) -> np.ndarray:
    """The same numbers in the same order, moved until they are ``least`` from each other, from 0 on."""
    order, moved = np.argsort(places, kind="stable"), places.astype(float)
    reach = max(1.0, least * (len(places) - 1))
    for rank, i in enumerate(order):
        floor = 0.0 if rank == 0 else moved[order[rank - 1]] + least
        moved[i] = max(moved[i], floor)
    for rank, i in reversed(list(enumerate(order))):
        ceiling = reach if rank == len(order) - 1 else moved[order[rank + 1]] - least
        moved[i] = min(moved[i], ceiling)
    return moved


def draw_level(axes: Any, place: float, values: np.ndarray, look: dict[str, Any] | None = None, ends: Any = None) -> None:
    """
    One row of an axis with names: a dot for each seed, below them their mean, with its interval from five seeds on.

    :param place: of the row; rows are counted downwards
    :param look: of the dots; None for that of all pictures with a single kind of dots
    :param ends: mean and interval, where they are not those of the seeds' mean: ``(mean, (low, high) or None)``
    """
    mean, interval = (values.mean(), mean_interval(values)) if ends is None else ends
    axes.plot(values, np.full(len(values), place - 0.1), **(DOT | (look or {})))
    axes.plot([mean], [place + 0.2], **MEAN)
    if interval is not None:
        axes.plot(interval, [place + 0.2] * 2, **INTERVAL)


DOT: dict[str, Any] = dict(color=PALETTE[0], marker="o", linestyle="none", alpha=0.6, markersize=5.5)
MEAN: dict[str, Any] = dict(color="white", marker="D", linestyle="none", markersize=6, markeredgecolor="black", zorder=3)
LEVEL_TEXTS = ("a seed", "mean of the seeds", "95% t interval of the mean")
INTERVAL: dict[str, Any] = dict(color="black", linestyle="-", linewidth=2, zorder=2)


def level_legend(counts: Iterable[int], texts: Sequence[str] = LEVEL_TEXTS) -> list[Any]:
    """Handles for what :func:`draw_level` has drawn for so many seeds."""
    from matplotlib.lines import Line2D

    looks = [DOT, MEAN] + [INTERVAL] * any(count >= LEAST_SEEDS for count in counts)
    return [Line2D([], [], label=text, **look) for look, text in zip(looks, texts, strict=False)]


def legend_below(figure: Any, handles: Sequence[Any], columns: int = 4, title: str | None = None) -> None:
    """A legend under all panels, in as many columns as their labels leave room for."""
    look = dict(frameon=False, title=title, title_fontsize=SMALL, handlelength=3)
    widest = max(len(handle.get_label()) for handle in handles) * 0.6 * SMALL / 72 + 0.8  # inches, with the handle
    columns = max(1, min(columns, len(handles), int(figure.get_figwidth() / widest)))
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns, **look)


def thousands(axes: Any) -> None:
    """Steps as 20k and 1M."""
    from matplotlib.ticker import EngFormatter

    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def note_below(figure: Any, text: str) -> None:
    """A line under all panels."""
    figure.supxlabel(text, fontsize=SMALL, color="0.25")
