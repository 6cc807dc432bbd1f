"""What an experiment left in its folder: runs, evaluations on the way, and which configurations are compared."""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sb3_ddpg_ext.ablation.study import Study as StudyToRun
from sb3_ddpg_ext.cli.data.intervals import interquartile_interval, interquartile_mean
from sb3_ddpg_ext.cli.data.rows import make_numbers, read_rows

BASE = "base"  # the configuration of a one-at-a-time study that has the first level of each factor
NUMBERS = ("mean_return", "last_evaluations", "area")  # of a run: final episodes, last 10 evaluations, mean of the curve
TRAINING = ("train_last10", "train_best100")  # means of training episodes; empty where a run had fewer
RUN_COLUMNS = ("study", "env", "config", "seed", *NUMBERS)
CURVE_COLUMNS = ("env", "config", "seed", "step", "mean_return")
WRITER = "python -m sb3_ddpg_ext ablate"
MOST_LINES = 7  # in a panel
Key = tuple[str, str, int]  # environment, configuration, seed


class Group(NamedTuple):
    """Configurations that are compared with each other: ``{label: configuration}``, in the order of the study."""

    title: str
    configurations: dict[str, str]


class Plan(NamedTuple):
    """What a study is to run: each configuration with each seed in each environment."""

    environments: list[str]
    configurations: list[str]
    seeds: list[int]


@dataclass
class Study:
    """
    :param levels: of each configuration: factor -> name of its level
    :param runs: what the finished runs reached: the columns ``NUMBERS`` and ``TRAINING``, NaN where there is nothing
    :param curves: mean returns of the evaluations of a run, by their steps
    :param plan: what its file asks for, or None: then every configuration is to have the seeds that any of them has
    """

    name: str
    factors: list[str]
    levels: dict[str, dict[str, str]]
    runs: dict[Key, dict[str, float]]
    curves: dict[Key, dict[int, float]] = field(default_factory=dict)
    plan: Plan | None = None

    @property
    def environments(self) -> list[str]:
        return list(dict.fromkeys(env for env, _, _ in self.runs))

    def seeds(self, env: str, configuration: str) -> list[int]:
        """Those whose runs are finished."""
        return sorted(seed for own, other, seed in self.runs if (own, other) == (env, configuration))

    def values(self, env: str, configuration: str, column: str = "mean_return") -> np.ndarray:
        """Of each of these seeds."""
        return np.array([self.runs[env, configuration, seed][column] for seed in self.seeds(env, configuration)])

    def planned(self, environments: Sequence[str], configurations: Sequence[str]) -> Plan:
        """
        The part of the plan that is about these environments and configurations. Where all that have runs are given, those
        without runs are in it, too.
        """
        plan = self.plan or Plan(self.environments, list(self.levels), sorted({seed for _, _, seed in self.runs}))
        return Plan(
            _among(plan.environments, environments, self.environments),
            _among(plan.configurations, configurations, self.levels),
            plan.seeds,
        )

    def missing(self, plan: Plan) -> dict[tuple[str, str], list[int]]:
        """Seeds of a plan that have no finished run, by environment and configuration."""
        lacking = {
            (env, configuration): sorted(set(plan.seeds) - set(self.seeds(env, configuration)))
            for env in plan.environments
            for configuration in plan.configurations
        }
        return {key: seeds for key, seeds in lacking.items() if seeds}


def _among(planned: Sequence[str], given: Collection[str], with_runs: Collection[str]) -> list[str]:
    are_all = set(given) >= set(with_runs)
    return [name for name in planned if name in given or (are_all and name not in with_runs)]


def read_study(folder: Path) -> Study:
    """
    The files ``runs.csv`` and, if they are there, ``curves.csv`` and the study's own file beside the folder. A run that is
    there twice counts as it was last.

    :raises SystemExit: if a file is not of an experiment
    """
    path = folder / "runs.csv"
    rows = read_rows(path, RUN_COLUMNS, WRITER)
    make_numbers(rows, path, ["seed", *NUMBERS])
    columns = list(rows[0])
    factors = columns[columns.index("config") + 1 : columns.index("seed")]
    levels = {row["config"]: {factor: row[factor] for factor in factors} for row in rows}
    runs = {
        (row["env"], row["config"], int(row["seed"])): {name: row[name] for name in NUMBERS}
        | {name: float(row.get(name) or "nan") for name in TRAINING}
        for row in rows
    }
    return Study(rows[0]["study"], factors, levels, runs, read_evaluations(folder / "curves.csv"), read_plan(folder))


def read_plan(folder: Path) -> Plan | None:
    """
    Of the YAML file that the runs of a folder were made from, where it is beside it.

    :raises SystemExit: if that is no study
    """
    folder = folder.resolve()
    path = next((path for suffix in ("yml", "yaml") if (path := folder.with_name(f"{folder.name}.{suffix}")).exists()), None)
    if path is None:
        return None
    try:
        found = StudyToRun.read(path)
    except (ValueError, TypeError) as error:
        raise SystemExit(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    return Plan(list(found.environments), [name for name, _ in found.configurations()], found.seeds)


def read_evaluations(path: Path) -> dict[Key, dict[int, float]]:
    if not path.exists():
        return {}
    rows = read_rows(path, CURVE_COLUMNS, WRITER)
    make_numbers(rows, path, ["seed", "step", "mean_return"])
    curves: dict[Key, dict[int, float]] = defaultdict(dict)
    for row in rows:
        curves[row["env"], row["config"], int(row["seed"])][int(row["step"])] = row["mean_return"]
    return dict(curves)


def groups(study: Study) -> list[Group]:
    """
    One for each factor, base included, where configurations differ from a base in one factor; else all of them, or, where
    these are more than a panel holds, those that differ in the factor with the most levels.
    """
    base = study.levels.get(BASE) or {
        factor: Counter(levels[factor] for levels in study.levels.values()).most_common(1)[0][0] for factor in study.factors
    }
    differences = {name: [f for f in study.factors if levels[f] != base[f]] for name, levels in study.levels.items()}
    if not study.factors or max(map(len, differences.values())) > 1:
        return grid(study)
    found = []
    mark = f" ({BASE})" if BASE in study.levels or len(study.factors) > 1 else ""
    for factor in study.factors:
        own = {
            study.levels[name][factor] + ("" if changed else mark): name
            for name, changed in sorted(differences.items(), key=lambda item: bool(item[1]))
            if changed in ([], [factor])
        }
        if any(differences[name] for name in own.values()):
            found.append(Group(factor, own))
    return found or grid(study)


def grid(study: Study) -> list[Group]:
    """All configurations, or those that share the levels of all factors but one."""
    if len(study.levels) <= MOST_LINES or not study.factors:
        return [Group("configurations", {name: name for name in study.levels})]
    count = {factor: len({levels[factor] for levels in study.levels.values()}) for factor in study.factors}
    fitting = [factor for factor in study.factors if count[factor] <= MOST_LINES] or study.factors
    varied = max(fitting, key=lambda factor: count[factor])
    shared: dict[str, dict[str, str]] = defaultdict(dict)
    for name, levels in study.levels.items():
        title = " ".join(f"{factor}={level}" for factor, level in levels.items() if factor != varied)
        shared[title or varied][levels[varied]] = name
    return [Group(title, own) for title, own in shared.items()]


class Aggregate(NamedTuple):
    """A configuration over environments: interquartile mean of its scores and of each seed's, and its interval."""

    mean: float
    by_seed: np.ndarray
    interval: tuple[float, float] | None


def aggregate(
    study: Study, group: Group, environments: Sequence[str], ranges: dict[str, tuple[float, float]]
) -> dict[str, Aggregate]:
    """
    By label, over the environments where every configuration has a run, and the seeds that a configuration has in all of
    them; empty if there is one environment, or one configuration, only.

    :param ranges: the returns that are 0 and 1 in each environment
    """
    found, names = {}, group.configurations.values()
    environments = [env for env in environments if all(study.seeds(env, name) for name in names)]
    if len(environments) < 2 or len(names) < 2:
        return {}
    for label, configuration in group.configurations.items():
        seeds = sorted(set.intersection(*(set(study.seeds(env, configuration)) for env in environments)))
        if not seeds:
            continue
        returns = np.array([[study.runs[env, configuration, seed]["mean_return"] for env in environments] for seed in seeds])
        low, high = np.array([ranges[env] for env in environments]).T
        scores = (returns - low) / (high - low)
        by_seed = np.array([interquartile_mean(own) for own in scores])
        found[label] = Aggregate(interquartile_mean(scores), by_seed, interquartile_interval(scores))
    return found


def ranges_of(study: Study, references: Sequence[str] = ()) -> dict[str, tuple[float, float]]:
    """
    Of the returns of all runs in each environment, least and largest; or as ``references`` have it, ``ENV=LOW:HIGH``.

    :raises SystemExit: if a reference is not of this form, or its environment is not in the study
    """
    found = {}
    for env in study.environments:
        returns = [run["mean_return"] for (own, _, _), run in study.runs.items() if own == env]
        found[env] = (min(returns), max(returns) if max(returns) > min(returns) else min(returns) + 1)
    for text in references:
        env, _, ends = text.partition("=")
        try:
            low, high = map(float, ends.split(":"))
        except ValueError:
            low = high = 0.0
        if env not in found or not low < high:
            known = ", ".join(found)
            raise SystemExit(f"--reference {text} must be ENV=LOW:HIGH with LOW < HIGH and ENV one of {known}")
        found[env] = (low, high)
    return found
