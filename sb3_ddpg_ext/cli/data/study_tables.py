"""The tables of a study: final returns for each environment and factor, scores over environments, runs that are missing."""

from collections.abc import Sequence

import numpy as np

from sb3_ddpg_ext.cli.bench.report import markdown
from sb3_ddpg_ext.cli.data.intervals import SPREAD, fixed, spread
from sb3_ddpg_ext.cli.data.study import Aggregate, Group, Study

HEADER = ["seeds", "mean of the final episodes", SPREAD]
TITLES = {
    "last_evaluations": "last 10 evaluations",
    "area": "mean of the curve",
    "train_last10": "last 10 training episodes",
    "train_best100": "best 100 training episodes",
}
SHOWN = ("last_evaluations", "area")


def returns_table(study: Study, env: str, group: Group, columns: Sequence[str] = SHOWN) -> str:
    """A row for each configuration that has finished runs; ``columns`` of ``TITLES`` are means of the seeds."""
    lines = []
    digits = digits_for(np.concatenate([study.values(env, name) for name in group.configurations.values()]))
    for label, name in group.configurations.items():
        returns = study.values(env, name)
        if len(returns):
            means = [fixed(study.values(env, name, column).mean(), digits) for column in columns]
            lines.append([label, str(len(returns)), fixed(returns.mean(), digits), spread(returns, digits), *means])
    return markdown([group.title, *HEADER, *(TITLES[column] for column in columns)], lines)


def digits_for(values: np.ndarray) -> int:
    """Behind the point: three figures of the largest return."""
    largest = np.abs(values).max(initial=0)
    return 0 if largest >= 100 else 1 if largest >= 10 else 2


def aggregate_table(group: Group, aggregates: dict[str, Aggregate]) -> str:
    lines = []
    for label, one in aggregates.items():
        ends = one.by_seed if one.interval is None else one.interval
        text = (", " if one.interval is None else " to ").join(fixed(value, 2) for value in ends)
        lines.append([label, str(len(one.by_seed)), fixed(one.mean, 2), text])
    return markdown([group.title, "seeds", "interquartile mean of all scores", "each seed's, or 95% interval"], lines)


def missing_notes(study: Study, environments: Sequence[str], groups: Sequence[Group], most: int = 12) -> list[str]:
    """A line for each configuration that lacks seeds, and how many runs that is; nothing where none does."""
    names = list(dict.fromkeys(name for group in groups for name in group.configurations.values()))
    plan = study.planned(environments, names)
    missing = study.missing(plan)
    if not missing:
        return []
    total = len(plan.environments) * len(plan.configurations) * len(plan.seeds)
    notes = [f"Unfinished: {sum(map(len, missing.values()))} of {total} runs are not there."]
    for (env, name), seeds in list(missing.items())[:most]:
        notes.append(f"- {name} on {env} lacks the seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}")
    return notes + ["- and others"] * (len(missing) > most)


def all_tables(
    study: Study, environments: Sequence[str], groups: Sequence[Group], aggregates: Sequence[dict[str, Aggregate]]
) -> str:
    """Each under a heading, then what is missing."""
    parts = []
    for group, scores in zip(groups, aggregates, strict=True):
        for env in environments:
            if any(study.seeds(env, name) for name in group.configurations.values()):
                parts.append(f"**{env}, {group.title}**\n\n{returns_table(study, env, group)}")
        if scores:
            parts.append(f"**All environments, {group.title}**\n\n{aggregate_table(group, scores)}")
    notes = missing_notes(study, environments, groups)
    return "\n\n".join([*parts, *(["\n".join([notes[0], "", *notes[1:]])] if notes else [])])
