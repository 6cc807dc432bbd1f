"""``plot curves``: learning curves of several configurations, from the evaluations that rl_zoo3 makes during training."""

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sb3_ddpg_ext.cli.bench_report import markdown
from sb3_ddpg_ext.cli.plot import pyplot, save

RESAMPLES = 2_000
LAYOUT = "LOGDIR/LABEL/SEED/.../evaluations.npz, as results/networks.sh makes it"


@dataclass
class Curve:
    """
    The agents with one label.

    :param steps: of the evaluations, of shape (n,)
    :param returns: of each episode, of shape (seeds, n, episodes)
    """

    label: str
    steps: np.ndarray
    returns: np.ndarray

    def interquartile_means(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Over all seeds and episodes of each evaluation, and the ends of its 95% interval by a bootstrap over seeds, stratified
        as in Agarwal et al. (2021), "Deep Reinforcement Learning at the Edge of the Statistical Precipice": three arrays of
        shape (n,).
        """
        draws = np.random.default_rng(0).integers(len(self.returns), size=(RESAMPLES, len(self.returns)))
        resampled = np.stack([interquartile_mean(self.returns[draw]) for draw in draws])
        low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
        return interquartile_mean(self.returns), low, high


def interquartile_mean(returns: np.ndarray) -> np.ndarray:
    """The mean of the middle half of seeds and episodes together, from (seeds, n, episodes) to (n,)."""
    ordered = np.sort(np.moveaxis(returns, 1, 0).reshape(returns.shape[1], -1), axis=1)
    cut = ordered.shape[1] // 4
    return ordered[:, cut : ordered.shape[1] - cut].mean(axis=1)


def run(args: argparse.Namespace) -> None:
    """Print the table, draw."""
    plt = pyplot()
    curves = [read(folder) for folder in label_folders(args.folder)]
    print(table(curves))
    if args.csv:
        write(curves, args.csv)
    save(draw(plt, curves, args.title or args.folder.name), args.png)
    print(f"Curves: {args.png}")


def label_folders(folder: Path) -> list[Path]:
    folders = sorted({path for path in folder.glob("*") if list(path.glob("*/**/evaluations.npz"))})
    if not folders:
        raise SystemExit(f"{folder} has no evaluations; there must be files {LAYOUT}")
    return folders


def read(folder: Path) -> Curve:
    """All seeds of a label, cut to the evaluations that all of them have."""
    files = [sorted(seed.glob("**/evaluations.npz")) for seed in sorted(folder.iterdir()) if seed.is_dir()]
    arrays = [np.load(of_seed[-1]) for of_seed in files if of_seed]  # the latest run of a seed
    steps = [array["timesteps"] for array in arrays]
    common = steps[0][: min(map(len, steps))]
    if any((own[: len(common)] != common).any() for own in steps):
        raise SystemExit(f"{folder}: its seeds must have been evaluated at the same steps")
    return Curve(folder.name, common, np.stack([array["results"][: len(common)] for array in arrays]))


def table(curves: list[Curve]) -> str:
    lines = []
    for curve in curves:
        mean, low, high = curve.interquartile_means()
        interval = f"{low[-1]:.0f} to {high[-1]:.0f}"
        seeds, steps = str(len(curve.returns)), f"{curve.steps[-1]:,}"
        lines.append([curve.label, seeds, steps, f"{mean[-1]:.0f}", interval, f"{mean.mean():.0f}"])
    return markdown(["label", "seeds", "steps", "IQM at the end", "95%", "mean over all evaluations"], lines)


def write(curves: list[Curve], path: Path) -> None:
    """A row for each evaluation: the mean return of its episodes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "run", "steps", "mean_return"])
        for curve in curves:
            for run, evaluations in enumerate(curve.returns.mean(axis=2)):
                rows = zip(curve.steps.tolist(), evaluations.tolist(), strict=True)
                writer.writerows([curve.label, run, step, f"{value:.2f}"] for step, value in rows)


def draw(plt: Any, curves: list[Curve], title: str) -> Any:
    """A line for each label, in its interval."""
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    for i, curve in enumerate(curves):
        mean, low, high = curve.interquartile_means()
        axes.plot(curve.steps, mean, label=f"{curve.label} ({len(curve.returns)})", color=f"C{i}")
        axes.fill_between(curve.steps, low, high, color=f"C{i}", alpha=0.15, linewidth=0)
    axes.set(xlabel="Environment steps", ylabel="Return of evaluation episodes, interquartile mean", title=title)
    axes.legend(title="configuration (seeds)", fontsize="small")
    axes.margins(x=0)
    return figure
