"""The kinds of tables that a comment in a Markdown file can ask for, each from files in ``results/``."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sb3_ddpg_ext.cli.bench import exported as bench_exported
from sb3_ddpg_ext.cli.bench.report import Row, markdown, number, summarise
from sb3_ddpg_ext.cli.bench.task import MEASURES
from sb3_ddpg_ext.cli.data.intervals import LEAST_SEEDS, SPREAD, fixed, spread
from sb3_ddpg_ext.cli.data.rows import make_numbers, read_rows
from sb3_ddpg_ext.cli.data.study import aggregate, groups, ranges_of, read_study
from sb3_ddpg_ext.cli.data.study_tables import SHOWN, all_tables, returns_table
from sb3_ddpg_ext.cli.data.study_tables import TITLES as STUDY_TITLES
from sb3_ddpg_ext.cli.plot import bench as plot_bench
from sb3_ddpg_ext.cli.plot import curves as plot_curves
from sb3_ddpg_ext.cli.plot.results import Configuration, group, read_labelled

SUMMARY_COLUMNS = ("env", "seed", "mean_return", "threshold", "train_steps")
TITLES = {"ours": "ours", "sb3": "SB3", "sbx": "SBX (JAX)"}


@dataclass
class Request:
    """
    What a comment says.

    :param options: those that are taken are gone from it
    :param name: of the comment, for errors
    """

    files: list[Path]
    options: dict[str, str]
    name: str

    def take(self, option: str, default: str) -> str:
        return self.options.pop(option, default)

    def whole(self, option: str, default: int) -> int:
        text = self.take(option, str(default))
        if not text.isdigit():
            raise SystemExit(f"{self.name}: {option}={text} must be a whole number")
        return int(text)

    def file(self) -> Path:
        if len(self.files) != 1:
            raise SystemExit(f"{self.name}: it must name one file, not {len(self.files)}")
        return self.files[0]


def returns(request: Request) -> str:
    """final returns by label, FILEs of report --csv side by side; titles="A;B", rows=a,b, digits=0, seeds=yes, solved=yes"""
    digits = request.whole("digits", 0)
    with_seeds, with_solved = request.take("seeds", "no") == "yes", request.take("solved", "no") == "yes"
    rows = [read_labelled(path) for path in request.files]
    found = [{one.label: one for one in group(own)} for own in rows]
    titles = request.take("titles", ";".join(own[0]["env"] for own in rows)).split(";")
    if not found or len(titles) != len(found):
        raise SystemExit(f"{request.name}: titles must be as many as files, of which there must be one")
    labels = chosen_rows(request, list(dict.fromkeys(label for one in found for label in one)))
    header, columns = ["label"], [[f"`{label}`" for label in labels]]
    for title, one in zip(titles, found, strict=True):
        header.append(f"{title}: mean ({spread_title(one.values())})")
        columns.append([return_cell(one[label], digits) if label in one else "" for label in labels])
        if with_seeds:
            header.append("seeds")
            columns.append([str(len(one[label].returns)) if label in one else "" for label in labels])
        if with_solved:
            header += ["solved", "mean of the solved"]
            columns.append([one[label].solved().replace("/", " of ") if label in one else "" for label in labels])
            columns.append([solved_mean(one[label], digits) if label in one else "" for label in labels])
    return markdown(header, [list(row) for row in zip(*columns, strict=True)])


def chosen_rows(request: Request, labels: list[str]) -> list[str]:
    """Those of ``rows=a,b``, in this order, or all."""
    rows = [label for label in request.take("rows", "").split(",") if label] or labels
    unknown = [label for label in rows if label not in labels]
    if unknown:
        raise SystemExit(f"{request.name}: rows={','.join(unknown)}: the labels of the files are {', '.join(labels)}")
    return rows


def spread_title(configurations: Iterable[Configuration]) -> str:
    few = {len(one.returns) < LEAST_SEEDS for one in configurations}
    return SPREAD if len(few) > 1 else "each seed" if few == {True} else "95% interval"


def return_cell(one: Configuration, digits: int) -> str:
    """E.g. ``146 (170, 104, 163)``; a single seed alone."""
    mean = fixed(one.mean, digits)
    return mean if len(one.returns) == 1 else f"{mean} ({spread(one.returns, digits)})"


def solved_mean(one: Configuration, digits: int) -> str:
    solved = one.returns[one.returns >= (np.inf if one.threshold is None else one.threshold)]
    return fixed(solved.mean(), digits) if len(solved) else ""


def summary(request: Request) -> str:
    """one row for each FILE of report --csv without labels: task, steps, seeds, mean, spread, worst and best seed, solved"""
    lines = []
    for path in request.files:
        rows = read_rows(path, SUMMARY_COLUMNS, "report --csv")
        make_numbers(rows, path, ["seed", "mean_return", "train_steps"], ["threshold"])
        values = np.array([row["mean_return"] for row in rows])
        one = Configuration("", values, rows[0]["threshold"])
        seeds = sorted(int(row["seed"]) for row in rows)
        steps = sorted({f"{round(row['train_steps'] / 1000)}k" for row in rows}, key=lambda text: int(text[:-1]))
        digits = 0 if np.abs(values).max() >= 1000 else 1
        lines.append([
            rows[0]["env"], " to ".join(dict.fromkeys((steps[0], steps[-1]))), consecutive(seeds), fixed(one.mean, digits),
            spread(values, digits), f"{fixed(values.min(), digits)}, {fixed(values.max(), digits)}",
            one.solved().replace("/", " of "),
        ])  # fmt: skip
    return markdown(["task", "steps", "seeds", "mean of the seeds", SPREAD, "worst, best seed", "solved"], lines)


def consecutive(seeds: list[int]) -> str:
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def curves(request: Request) -> str:
    """learning curves, FILE of plot curves --csv; success=yes"""
    quantity = plot_curves.SUCCESS if request.take("success", "no") == "yes" else plot_curves.RETURN
    return plot_curves.table(plot_curves.group(plot_curves.read_csv(request.file(), quantity)), quantity)


def bench(request: Request) -> str:
    """libraries beside each other, FILE of bench --json, and ratios of a second one, of --threads default; measure=learn"""
    measure = measure_of(request, "learn")
    second = request.files.pop() if len(request.files) == 2 else None
    rows, at_defaults = (
        [] if path is None else [row for row in summarise(plot_bench.read(path)["runs"]) if row.measure == measure]
        for path in (request.file(), second)
    )
    libraries = [name for name in TITLES if name in {row.library for row in rows}]
    others = [name for name in libraries if name != "ours"]
    found = {(row.cell, row.library): row for row in rows}
    lines = [
        [cell.replace("x", "-").replace("/", " / "), *(number(found[cell, name].median) for name in libraries),
         *(f"{found[cell, name].speedup:.2f}" for name in others),
         *(f"{row.speedup:.2f}" for row in at_defaults if row.cell == cell and row.library in others)]
        for cell in dict.fromkeys(row.cell for row in rows)
    ]  # fmt: skip
    unit = MEASURES[measure].unit
    header = [f"{TITLES[name]}, {unit}" for name in libraries] + [f"ours against {TITLES[name]}" for name in others]
    header += [f"against {TITLES[name]}, at defaults" for name in others if at_defaults]
    return markdown(["network / batch", *header], lines)


def buffers(request: Request) -> str:
    """replay buffers, FILE of bench --buffers --json: steps a second and sampling of ours and SB3's"""
    found = {(row.library, row.measure): row for row in summarise(plot_bench.read(request.file())["runs"])}
    names = list(
        dict.fromkeys(library.removeprefix("ours").removeprefix("+") for library, _ in found if library.startswith("ours"))
    )
    lines = []
    for name in names:
        ours, sb3 = (f"{library}+{name}" if name else library for library in ("ours", "sb3"))
        mine, theirs = found[ours, "learn"].median, found.get((sb3, "learn"))
        lines.append([
            f"`{name}`" if name else "uniform, one step", number(mine), f"{mine / found['ours', 'learn'].median:.2f}",
            median_of(theirs), "" if theirs is None else f"{mine / theirs.median:.1f}",
            median_of(found[ours, "sample"]), median_of(found.get((sb3, "sample"))),
        ])  # fmt: skip
    header = ["buffer", "steps/s", "against one step", "SB3, steps/s", "against SB3", "sampling (us)", "SB3, sampling (us)"]
    return markdown(header, lines)


def costs(request: Request) -> str:
    """options and libraries beside plain DDPG of ours, FILE of bench --options --json; measure=update"""
    measure = measure_of(request, "update")
    rows = [row for row in summarise(plot_bench.read(request.file())["runs"]) if row.measure == measure]
    plain = next((row.median for row in rows if row.library == "ours"), None)
    if plain is None:
        raise SystemExit(f"{request.name}: the file must have runs of ours without an option")
    lines = [
        [TITLES.get(row.library, f"`{row.library.removeprefix('ours+')}`"), row.cell.replace("x", "-").replace("/", " / "),
         number(row.median), f"{number(row.low)} to {number(row.high)}", f"{row.median / plain:.2f}"]
        for row in rows
    ]  # fmt: skip
    return markdown(["what", "network / batch", f"median, {MEASURES[measure].unit}", "each run", "against ours"], lines)


def median_of(row: Row | None) -> str:
    return "" if row is None else number(row.median)


def measure_of(request: Request, default: str) -> str:
    measure = request.take("measure", default)
    if measure not in MEASURES:
        raise SystemExit(f"{request.name}: measure={measure} must be one of {', '.join(MEASURES)}")
    return measure


def study(request: Request) -> str:
    """the study in the folder FILE; env=NAME factor=NAME: one table of these alone, columns=last_evaluations,train_best100"""
    found = read_study(request.file())
    env, factor = request.take("env", ""), request.take("factor", "")
    shown = [one for one in groups(found) if factor in ("", one.title)]
    environments = [name for name in found.environments if env in ("", name)]
    if not shown or not environments:
        titles = ", ".join(one.title for one in groups(found))
        raise SystemExit(f"{request.name}: env must be one of {', '.join(found.environments)} and factor one of {titles}")
    if env and factor:
        columns = [name for name in request.take("columns", ",".join(SHOWN)).split(",") if name]
        unknown = [name for name in columns if name not in STUDY_TITLES]
        if unknown:
            raise SystemExit(f"{request.name}: columns={unknown[0]} must be some of {','.join(STUDY_TITLES)}")
        return returns_table(found, env, shown[0], columns)
    return all_tables(found, environments, shown, [aggregate(found, one, environments, ranges_of(found)) for one in shown])


def exported(request: Request) -> str:
    """exported actors, FILE of export --bench --json: size and time of one action of each format"""
    return bench_exported.table(json.loads(request.file().read_text())["rows"])


KINDS: dict[str, Callable[[Request], str]] = {
    "returns": returns, "summary": summary, "curves": curves, "bench": bench, "buffers": buffers, "costs": costs,
    "study": study, "export": exported,
}  # fmt: skip
