"""``plot curves``: learning curves of several configurations, from the evaluations that rl_zoo3 makes during training."""

import argparse
import csv
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np

from sb3_ddpg_ext.cli.bench.report import markdown
from sb3_ddpg_ext.cli.data.intervals import SPREAD, fixed, spread
from sb3_ddpg_ext.cli.plot import figures

NUMBERED = re.compile(r"_(\d+)$")  # at the end of the names of rl_zoo3's folders
SEED = re.compile(r"^[- ]+ - seed\n +- (\d+)$", re.MULTILINE)  # in rl_zoo3's args.yml
Runs = dict[tuple[str, str], dict[int, float]]  # (label, seed) -> steps -> mean return, or share of successes


class Quantity(NamedTuple):
    """What is drawn of the evaluations: its name in SB3's files, in ours, at the axis; digits; least and largest."""

    key: str
    column: str
    title: str
    digits: int
    limits: tuple[float, float] | None

    @property
    def columns(self) -> list[str]:
        return ["label", "seed", "steps", self.column]


RETURN = Quantity("results", "mean_return", "return of evaluation episodes", 0, None)
SUCCESS = Quantity("successes", "success_rate", "share of successful evaluation episodes", 2, (0.0, 1.0))


@dataclass
class Curve:
    """
    The agents with one label.

    :param steps: of the evaluations, of shape (n,)
    :param returns: mean of the episodes of each, of shape (seeds, n)
    """

    label: str
    steps: np.ndarray
    returns: np.ndarray


def run(args: argparse.Namespace) -> None:
    """Print the table, draw, write."""
    plt = figures.pyplot()
    runs: Runs = {}
    quantity = SUCCESS if args.success else RETURN
    for source in args.sources:
        runs |= read_csv(source, quantity) if source.is_file() else read_folder(source, quantity, args.env)
    curves = group(runs)
    print(table(curves, quantity))
    if args.csv:
        write(runs, args.csv, quantity)
    figures.save(draw(plt, curves, args.title or args.sources[0].stem, quantity), args.png, args.svg)
    print(f"Curves: {args.png}")


def read_folder(folder: Path, quantity: Quantity = RETURN, env: str | None = None) -> Runs:
    """
    The evaluations in a log folder of rl_zoo3, with ALGO/ENV_N/evaluations.npz, or of LABEL/SEED/.../evaluations.npz, as
    results/networks.sh makes them; of a seed trained several times the latest.

    :param folder: the folder, that of an algorithm in it, or one experiment
    :param quantity: what is read of them
    :param env: id of the environment; None where there is one only
    :raises SystemExit: if there are none, or they are of several environments
    """
    files: dict[tuple[str, str], Path] = {}
    folder = folder.resolve()
    found = sorted(folder.glob("**/evaluations.npz"), key=age)
    names = {path: NUMBERED.sub("", path.parent.name) for path in found}
    wanted = None if env is None else env.replace("/", "-")
    for path in found:
        if wanted in (None, names[path]):
            files[label_and_seed(path, folder)] = path
    if not files:
        raise SystemExit(
            f"{folder} must have evaluations{'' if env is None else f' of {env}'}: in files ALGO/ENV_N/evaluations.npz, as "
            "rl_zoo3 train --eval-freq STEPS makes them, or LABEL/SEED/.../evaluations.npz, SEED a number"
        )
    if len(environments := sorted({names[path] for path in files.values()})) > 1:
        raise SystemExit(f"{folder} must have evaluations of one environment, not of {', '.join(environments)}; --env chooses")
    return {key: read_evaluations(path, quantity) for key, path in files.items()}


def label_and_seed(path: Path, folder: Path) -> tuple[str, str]:
    """Of LABEL/SEED/.../evaluations.npz in the folder; else rl_zoo3's algorithm, and the seed that its experiment notes."""
    label, seed, *deeper = (*path.relative_to(folder).parts, "", "")
    if seed.isdigit():
        return label, seed
    number = NUMBERED.search(path.parent.name)
    if number is None or len(deeper) > 3:
        raise SystemExit(f"{path} must be in a folder LABEL/SEED, SEED a number, or in ALGO/ENV_N, as rl_zoo3 makes them")
    arguments = path.parent / NUMBERED.sub("", path.parent.name) / "args.yml"
    noted = SEED.search(arguments.read_text()) if arguments.is_file() else None
    return path.parent.parent.name, noted[1] if noted else number[1]


def age(path: Path) -> tuple[str, int]:
    """Sorts the folders of rl_zoo3, ENV_1, ENV_2, ..., ENV_10."""
    number = NUMBERED.search(path.parent.name)
    return NUMBERED.sub("", str(path.parent)), int(number[1]) if number else 0


def read_evaluations(path: Path, quantity: Quantity) -> dict[int, float]:
    """What SB3's ``EvalCallback`` wrote: means over the episodes of each evaluation, by its step."""
    try:
        with np.load(path) as evaluations:
            if quantity is SUCCESS and SUCCESS.key not in evaluations:
                raise SystemExit(f"{path} must have successes: its environment says nothing about them (info['is_success'])")
            steps, means = evaluations["timesteps"].tolist(), evaluations[quantity.key].mean(axis=1).tolist()
        return dict(zip(steps, means, strict=True))
    except (OSError, EOFError, KeyError, ValueError, BadZipFile) as error:
        raise SystemExit(f"{path} must be a file of SB3's EvalCallback, written to its end ({error})") from error


def read_csv(path: Path, quantity: Quantity = RETURN) -> Runs:
    """What ``--csv`` wrote."""
    runs: Runs = defaultdict(dict)
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if list(reader.fieldnames or ()) != quantity.columns:
            raise SystemExit(f"{path} must be a file of plot curves --csv, with the columns {', '.join(quantity.columns)}")
        for row in reader:
            runs[row["label"], row["seed"]][int(row["steps"])] = float(row[quantity.column])
    return runs


def group(runs: Runs) -> list[Curve]:
    """A curve for each label, over the evaluations that all of its seeds have."""
    curves = []
    for label in sorted({label for label, _ in runs}):
        curve, is_whole = shared_curve(label, [evaluations for (own, _), evaluations in runs.items() if own == label])
        if curve is None:
            raise SystemExit(f"{label}: its seeds must have been evaluated at the same steps")
        if not is_whole:
            steps = curve.steps
            print(f"{label}: {len(steps)} evaluations up to step {steps[-1]}, which all of its seeds have, are shown")
        curves.append(curve)
    return curves


def shared_curve(label: str, seeds: list[dict[int, float]]) -> tuple[Curve | None, bool]:
    """Over the steps at which all seeds were evaluated, or None where there are none; and whether these are all steps."""
    steps = sorted(set.intersection(*map(set, seeds)))
    curve = Curve(label, np.array(steps), np.array([[own[step] for step in steps] for own in seeds]))
    return curve if steps else None, len(steps) == len(set.union(*map(set, seeds)))


def write(runs: Runs, path: Path, quantity: Quantity = RETURN) -> None:
    """A row for each evaluation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(quantity.columns)
        for (label, seed), evaluations in sorted(runs.items()):
            writer.writerows([label, seed, steps, f"{value:.{quantity.digits + 2}f}"] for steps, value in evaluations.items())


def table(curves: list[Curve], quantity: Quantity = RETURN) -> str:
    lines, n = [], quantity.digits
    for curve in curves:
        seeds, steps, last = str(len(curve.returns)), f"{curve.steps[-1]:,}", curve.returns[:, -1]
        lines.append([curve.label, seeds, steps, fixed(last.mean(), n), spread(last, n), fixed(curve.returns.mean(), n)])
    return markdown(["label", "seeds", "steps", "mean at the end", SPREAD, "mean of all evaluations"], lines)


def draw(plt: Any, curves: list[Curve], title: str, quantity: Quantity = RETURN) -> Any:
    """A line for each label, with its seeds or its interval."""
    figure, axes = plt.subplots(figsize=(figures.WIDTH, 4.4), layout="constrained")
    lines = [
        figures.draw_seeds(axes, curve.steps, curve.returns, f"{curve.label} ({len(curve.returns)})", i, quantity.limits)
        for i, curve in enumerate(curves)
    ]
    axes.set(xlabel="environment steps", ylabel=quantity.title, title=f"{title}: configuration (seeds)")
    axes.margins(x=0)
    figures.thousands(axes)
    axes.grid(alpha=0.25)
    figures.label_ends(axes, lines)
    figures.note_below(figure, figures.curves_note(len(curve.returns) for curve in curves))
    return figure
