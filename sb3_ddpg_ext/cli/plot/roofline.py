"""``plot bench`` of a profile: how far updates are from their matrix products alone."""

from typing import Any

from sb3_ddpg_ext.cli.bench.task import Cell
from sb3_ddpg_ext.cli.plot import figures


def draw(plt: Any, runs: list[dict[str, Any]]) -> Any:
    """
    GFLOP/s of whole updates, and of their products one after the other by torch, against the width of the networks; a panel
    for each number of threads.

    :param plt: matplotlib's ``pyplot``
    :param runs: of ``bench --profile --json``
    """
    counts = sorted({run["threads"] for run in runs})
    size = (figures.WIDTH, 3.6)
    figure, panels = plt.subplots(1, len(counts), figsize=size, layout="constrained", squeeze=False, sharey=True)
    for axes, n_threads in zip(panels[0], counts, strict=True):
        mine = [run for run in runs if run["threads"] == n_threads]
        places = [Cell.parse(run["cell"]).net[0] for run in mine]
        learners = " and ".join(dict.fromkeys(run["learner"] for run in mine))
        # FLOP per millisecond are GFLOP per second times a million.
        for i, (what, label) in enumerate(
            (("update_ms", f"update, {learners}, sampling included"), ("floor_ms", "its products, by torch"))
        ):
            axes.plot(places, [run["floor_flops"] / run[what] / 1e6 for run in mine], label=label, **figures.style(i))
        axes.set_xscale("log", base=2)
        axes.set_xticks(places, [run["cell"].replace("x", "-") for run in mine], rotation=30, ha="right", minor=False)
        axes.set_title(f"threads: {n_threads or 'default'}")
        axes.set_xlabel("networks / batch")
    panels[0, 0].set_ylim(bottom=0)
    panels[0, 0].set_ylabel("GFLOP/s")
    figures.legend_below(figure, panels[0, 0].get_legend_handles_labels()[0])
    return figure
