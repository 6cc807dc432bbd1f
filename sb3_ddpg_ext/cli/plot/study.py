"""``plot study``: what an experiment found, a picture for each factor and one over environments, with tables."""

import argparse
import re
from collections.abc import Sequence
from typing import Any

from sb3_ddpg_ext.cli.data.study import Aggregate, Group, Study, aggregate, groups, ranges_of, read_study
from sb3_ddpg_ext.cli.data.study_tables import all_tables, missing_notes
from sb3_ddpg_ext.cli.plot import figures
from sb3_ddpg_ext.cli.plot.curves import Curve, shared_curve


def run(args: argparse.Namespace) -> None:
    """Print the tables, write, draw."""
    plt = figures.pyplot()
    study = read_study(args.folder)
    environments = chosen("--env", args.env, study.environments)
    if args.env and study.plan is not None:  # no other environment counts as missing
        study.plan = study.plan._replace(environments=[env for env in study.plan.environments if env in environments])
    all_groups = {group.title: group for group in groups(study)}
    shown = [all_groups[title] for title in chosen("--factor", args.factor, list(all_groups))]
    ranges = ranges_of(study, args.reference)
    aggregates = [aggregate(study, group, environments, ranges) for group in shown]
    text = all_tables(study, environments, shown, aggregates)
    print(text)
    if args.md:
        args.md.parent.mkdir(parents=True, exist_ok=True)
        args.md.write_text(text + "\n")
    folder = args.png or args.folder
    for group in shown:
        path = folder / f"{slug(group.title)}.png"
        figures.save(draw_group(plt, study, group, environments), path, args.svg)
        print(f"Study: {path}")
    if any(aggregates):
        figure = draw_aggregates(plt, study, shown, aggregates, bool(args.reference))
        figures.save(figure, folder / "aggregate.png", args.svg)
        print(f"Study: {folder / 'aggregate.png'}")


def chosen(option: str, names: Sequence[str] | None, known: list[str]) -> list[str]:
    """Those asked for, or all."""
    for name in names or ():
        if name not in known:
            raise SystemExit(f"{option} {name} is not in the study; it must be one of {', '.join(known)}")
    return list(names or known)


def slug(title: str) -> str:
    return re.sub(r"[^\w.-]+", "_", title)


def draw_group(plt: Any, study: Study, group: Group, environments: Sequence[str]) -> Any:
    """A row for each environment: learning curves, and beside them the final returns of the seeds."""
    rows = [env for env in environments if any(study.seeds(env, name) for name in group.configurations.values())]
    height = max(2.4, 0.9 + 0.3 * len(group.configurations))
    figure, panels = plt.subplots(
        len(rows),
        2,
        figsize=(figures.WIDTH, 1.3 + height * len(rows)),
        layout="constrained",
        squeeze=False,
        width_ratios=[1.5, 1],
    )
    counts: list[int] = []
    for env, (left, right) in zip(rows, panels, strict=True):
        draw_curves(left, study, group, env)
        counts += draw_finals(right, study, group, env)
    panels[-1, 0].set_xlabel("environment steps")
    panels[-1, 1].set_xlabel("return of the final episodes")
    figure.suptitle(f"{study.name}: {group.title}")
    interval = "; bar: 95% t interval of the mean" if any(count >= figures.LEAST_SEEDS for count in counts) else ""
    notes = [f"left: {figures.curves_note(counts)}", f"right: marks: seeds; white diamond: their mean{interval}"]
    if not all(curve_of(study, env, name)[1] for env in rows for name in group.configurations.values()):
        notes.insert(1, "a curve ends where the first of its seeds ends")
    title = "\n".join([*notes, *missing_notes(study, rows, [group])[:1]])
    figures.legend_below(figure, handles_of(group), title=title)
    return figure


def handles_of(group: Group) -> list[Any]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], label=label, linewidth=2.2, markersize=5, **figures.style(i))
        for i, label in enumerate(group.configurations)
    ]


def draw_curves(axes: Any, study: Study, group: Group, env: str) -> None:
    for i, (label, name) in enumerate(group.configurations.items()):
        curve, _ = curve_of(study, env, name)
        if curve is not None:
            figures.draw_seeds(axes, curve.steps, curve.returns, label, i)
    axes.set(title=env, ylabel="return of evaluations")
    axes.margins(x=0)
    axes.grid(alpha=0.25)
    figures.thousands(axes)


def curve_of(study: Study, env: str, name: str) -> tuple[Curve | None, bool]:
    """Over the evaluations that all seeds of a configuration have, None if there are none; and whether that is all of them."""
    seeds = [found for (own, other, _), found in sorted(study.curves.items()) if (own, other) == (env, name)]
    return shared_curve(name, seeds) if seeds else (None, True)


def draw_finals(axes: Any, study: Study, group: Group, env: str) -> list[int]:
    """A row for each configuration, also for one without runs yet; how many seeds each has."""
    names = []
    for i, (label, name) in enumerate(group.configurations.items()):
        returns, own = study.values(env, name), figures.style(i)
        names.append(f"{label} ({len(returns)})")
        if len(returns):
            figures.draw_level(axes, i, returns, dict(color=own["color"], marker=own["marker"]))
    axes.set_yticks(range(len(names)), names)
    axes.yaxis.tick_right()
    axes.spines.left.set_visible(False)
    axes.set(title="at the end (seeds)", ylim=(len(names) - 0.4, -0.6))
    axes.grid(axis="x", alpha=0.25)
    return [len(study.seeds(env, name)) for name in group.configurations.values()]


def draw_aggregates(
    plt: Any, study: Study, shown: Sequence[Group], aggregates: Sequence[dict[str, Aggregate]], fixed: bool
) -> Any:
    """A panel for each group on one scale: the interquartile mean of each configuration over environments."""
    pairs = [(group, scores) for group, scores in zip(shown, aggregates, strict=True) if scores]
    heights = [len(scores) + 1.2 for _, scores in pairs]
    size = (figures.WIDTH, 1.4 + 0.32 * sum(heights))
    figure, panels = plt.subplots(
        len(pairs), 1, figsize=size, layout="constrained", squeeze=False, sharex=True, height_ratios=heights
    )
    for (group, scores), axes in zip(pairs, panels[:, 0], strict=True):
        draw_scores(axes, scores)
        axes.set_title(group.title, loc="left")
    ends = "the reference returns" if fixed else "the least and the largest final return of the study"
    title = f"Scores of an environment: 0 and 1 are {ends}.\nThe interquartile mean leaves out a quarter at each end."
    panels[-1, 0].set_xlabel("interquartile mean of scores over environments")
    figure.suptitle(f"{study.name}: all environments (seeds)")
    counts = [len(one.by_seed) for _, scores in pairs for one in scores.values()]
    figures.legend_below(figure, figures.level_legend(counts, SCORE_TEXTS), title=title)
    return figure


SCORE_TEXTS = ("one seed", "all seeds together", "95% stratified bootstrap interval")


def draw_scores(axes: Any, scores: dict[str, Aggregate]) -> None:
    for place, one in enumerate(scores.values()):
        figures.draw_level(axes, place, one.by_seed, ends=(one.mean, one.interval))
    axes.set_yticks(range(len(scores)), [f"{label} ({len(one.by_seed)})" for label, one in scores.items()])
    axes.set_ylim(len(scores) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.25)
