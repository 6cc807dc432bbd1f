"""``plot study``: what is read, compared, averaged and said to be missing."""

import csv
import sys

import numpy as np
import pytest
from conftest import write_study

from sb3_ddpg_ext.__main__ import main
from sb3_ddpg_ext.cli.data.intervals import interquartile_interval
from sb3_ddpg_ext.cli.data.study import aggregate, groups, ranges_of, read_study
from sb3_ddpg_ext.cli.data.study_tables import digits_for, missing_notes, returns_table
from sb3_ddpg_ext.cli.plot import figures
from sb3_ddpg_ext.cli.plot import study as plot_study

pytest.importorskip("matplotlib")


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["sb3_ddpg_ext", "plot", "study", *map(str, arguments)])
    main()


def rows_of(folder):
    with (folder / "runs.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def finals(folder, env, configuration):
    return [float(row["mean_return"]) for row in rows_of(folder) if (row["env"], row["config"]) == (env, configuration)]


def test_what_is_read(tmp_path):
    """Factors are the columns between config and seed; a run that is there twice counts as it was last."""
    write_study(tmp_path)
    again = rows_of(tmp_path)[0] | {"mean_return": "777.0"}
    with (tmp_path / "runs.csv").open("a", newline="") as file:
        csv.writer(file).writerow(again.values())
    study = read_study(tmp_path)
    assert study.name == "demo"
    assert study.factors == ["noise", "critic_norm"]
    assert study.environments == ["A-v0", "B-v0"]
    assert study.seeds("A-v0", "base") == [0, 1, 2]
    assert study.values("A-v0", "base")[0] == 777.0
    assert list(study.values("B-v0", "noise=ou")) == finals(tmp_path, "B-v0", "noise=ou")
    assert sorted(study.curves["A-v0", "base", 1]) == [100, 200, 300, 400]


def test_one_factor_at_a_time(tmp_path):
    """A group for each factor, with the base first in each."""
    found = groups(read_study(write_study(tmp_path)))
    assert [group.title for group in found] == ["noise", "critic_norm"]
    assert found[0].configurations == {
        "normal (base)": "base", "ou": "noise=ou", "pink": "noise=pink", "adaptive-param": "noise=adaptive-param"
    }  # fmt: skip
    assert found[1].configurations == {"none (base)": "base", "layer": "critic_norm=layer"}


def test_base_that_is_still_to_come(tmp_path):
    """What most configurations share is left out of each other's groups all the same."""
    factors = {"noise": ["normal", "ou", "pink"], "norm": ["none", "layer", "batch"]}
    skip = [("A-v0", "base", seed) for seed in range(3)]
    found = groups(read_study(write_study(tmp_path, environments=["A-v0"], factors=factors, skip=skip)))
    assert [group.configurations for group in found] == [
        {"ou": "noise=ou", "pink": "noise=pink"}, {"layer": "norm=layer", "batch": "norm=batch"}
    ]  # fmt: skip


def test_grid(tmp_path):
    """All together while a panel holds them; else those that differ in the factor with the most levels."""
    small = groups(read_study(write_study(tmp_path / "a", factors={"x": ["0", "1"], "y": ["0", "1"]}, grid=True)))
    assert [list(group.configurations) for group in small] == [["x=0 y=0", "x=0 y=1", "x=1 y=0", "x=1 y=1"]]
    large = groups(read_study(write_study(tmp_path / "b", grid=True)))
    assert [group.title for group in large] == ["critic_norm=none", "critic_norm=layer"]
    assert large[1].configurations["pink"] == "noise=pink critic_norm=layer"


def test_no_factors(tmp_path):
    """A study of one configuration has a picture and a table too."""
    (group,) = groups(read_study(write_study(tmp_path, factors={})))
    assert group.configurations == {"base": "base"}


@pytest.mark.parametrize("seeds", [3, 6])
def test_table(tmp_path, seeds):
    """Means of the columns of the file; each seed, or an interval."""
    study = read_study(write_study(tmp_path, seeds=range(seeds)))
    lines = returns_table(study, "B-v0", groups(study)[0]).splitlines()
    header, _, base, ou, *_ = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    returns = finals(tmp_path, "B-v0", "noise=ou")
    assert header[0] == "noise"
    assert base[:2] == ["normal (base)", str(seeds)]
    assert ou[2] == f"{np.mean(returns):.0f}"
    assert ou[3] == (", ".join(f"{value:.0f}" for value in returns) if seeds == 3 else ou[3])
    assert (" to " in ou[3]) == (seeds == 6)
    area = [float(row["area"]) for row in rows_of(tmp_path) if (row["env"], row["config"]) == ("B-v0", "noise=ou")]
    assert ou[5] == f"{np.mean(area):.0f}"


def test_digits():
    """Three figures of the largest."""
    assert [digits_for(np.array(values)) for values in ([0.1, -2.0], [12.0], [-150.0, 3.0], [])] == [2, 1, 0, 2]


def test_command(tmp_path, monkeypatch, capsys):
    """Tables to the terminal and the file, a picture for each factor and one over environments, drawings with --svg."""
    write_study(tmp_path / "demo")
    run(monkeypatch, tmp_path / "demo", "--png", tmp_path / "out", "--md", tmp_path / "new" / "demo.md", "--svg")
    out = capsys.readouterr().out
    assert (tmp_path / "new" / "demo.md").read_text() == out[: out.index("Study: ")]
    assert "**B-v0, critic_norm**\n\n| critic_norm | seeds |" in out
    assert "**All environments, noise**" in out
    assert "Unfinished" not in out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"{name}.{kind}" for name in ("noise", "critic_norm", "aggregate") for kind in ("png", "svg")}


def test_parts_of_a_study(tmp_path, monkeypatch, capsys):
    """One environment and one factor; the pictures go beside the files."""
    write_study(tmp_path)
    run(monkeypatch, tmp_path, "--env", "A-v0", "--factor", "critic_norm")
    out = capsys.readouterr().out
    assert "B-v0" not in out
    assert "noise" not in out
    assert {path.name for path in tmp_path.iterdir()} == {"runs.csv", "curves.csv", "critic_norm.png"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "C-v0"], "--env C-v0 is not in the study; it must be one of A-v0, B-v0"),
        (["--factor", "tau"], "--factor tau is not in the study; it must be one of noise, critic_norm"),
        (["--reference", "A-v0=5"], "--reference A-v0=5 must be ENV=LOW:HIGH"),
        (["--reference", "A-v0=5:5"], "LOW < HIGH"),
        (["--reference", "C-v0=0:1"], "ENV one of A-v0, B-v0"),
    ],
)
def test_wrong_arguments(tmp_path, monkeypatch, arguments, message):
    """What is there is named, and nothing is drawn."""
    write_study(tmp_path)
    with pytest.raises(SystemExit, match=message):
        run(monkeypatch, tmp_path, *arguments)
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "has no column 'study'"),
        (lambda text: text.splitlines()[0], "has no rows"),
        (lambda text: text.replace("mean_return", "mean"), "has no column 'mean_return'; it must be a file of python -m"),
        (lambda text: text + "demo,A-v0,base,normal,none,9,nan\n", "line 32: mean_return='nan' must be a finite number"),
    ],
)
def test_wrong_files(tmp_path, change, message):
    """File, line and column are named."""
    path = write_study(tmp_path) / "runs.csv"
    path.write_text(change(path.read_text()))
    with pytest.raises(SystemExit, match=message) as caught:
        read_study(tmp_path)
    assert str(path) in str(caught.value)


def test_nothing_there(tmp_path):
    """A folder without runs is named."""
    with pytest.raises(SystemExit, match=r"runs\.csv cannot be read"):
        read_study(tmp_path)


UNFINISHED = [("A-v0", "noise=ou", 2), *(("B-v0", "critic_norm=layer", seed) for seed in range(3))]


def test_unfinished(tmp_path, monkeypatch, capsys):
    """What is there is drawn, with the number of its seeds, and what is missing is named in picture and text."""
    write_study(tmp_path, skip=UNFINISHED)
    run(monkeypatch, tmp_path)
    out = capsys.readouterr().out
    assert "Unfinished: 4 of 30 runs are not there." in out
    assert "- noise=ou on A-v0 lacks the seed 2\n- critic_norm=layer on B-v0 lacks the seeds 0, 1, 2" in out
    study = read_study(tmp_path)
    noise, norm = groups(study)
    figure = plot_study.draw_group(figures.pyplot(), study, noise, study.environments)
    names = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert names == ["normal (base) (3)", "ou (2)", "pink (3)", "adaptive-param (3)"]
    assert "Unfinished: 1 of 24 runs are not there." in figure.legends[0].get_title().get_text()
    figure = plot_study.draw_group(figures.pyplot(), study, norm, study.environments)
    assert [label.get_text() for label in figure.axes[3].get_yticklabels()] == ["none (base) (3)", "layer (0)"]
    figures.pyplot().close("all")


PLAN = """
environments: [A-v0, B-v0, C-v0]
seeds: 0-3
steps: 400
design: one-at-a-time
factors:
  noise: {normal: {}, ou: {action_noise: ou_0.1}, pink: {action_noise: pink_0.1}, adaptive-param: {}}
  critic_norm: {none: {}, layer: {}, batch: {}}
"""


@pytest.mark.parametrize("suffix", ["yml", "yaml"])
def test_runs_that_nobody_has_begun(tmp_path, suffix):
    """The study's file beside the folder says what is missing, also an environment, form or seed without runs."""
    folder = write_study(tmp_path / "demo.v2")
    (tmp_path / f"demo.v2.{suffix}").write_text(PLAN)
    study = read_study(folder)
    lacking = study.missing(study.planned(study.environments, list(study.levels)))
    assert lacking["A-v0", "base"] == [3]
    assert lacking["B-v0", "critic_norm=batch"] == [0, 1, 2, 3]
    assert lacking["C-v0", "noise=ou"] == [0, 1, 2, 3]
    assert missing_notes(study, study.environments, groups(study))[0] == "Unfinished: 42 of 72 runs are not there."
    assert missing_notes(study, ["A-v0"], groups(study)[:1])[0] == "Unfinished: 4 of 16 runs are not there."


@pytest.mark.parametrize(
    ("environments", "text"),
    [
        (["A-v0"], "Unfinished: 9 of 24 runs are not there."),
        (["A-v0", "B-v0"], "Unfinished: 18 of 48 runs are not there."),
        (["B-v0", "A-v0", "A-v0"], "Unfinished: 18 of 48 runs are not there."),
    ],
)
def test_missing_runs_of_chosen_environments(tmp_path, monkeypatch, capsys, environments, text):
    """C-v0, of which nothing was run, is not among them."""
    folder = write_study(tmp_path / "demo")
    (tmp_path / "demo.yml").write_text(PLAN)
    run(monkeypatch, folder, "--env", *environments)
    out = capsys.readouterr().out
    assert text in out
    assert "C-v0" not in out


def test_runs_that_nobody_asks_for_any_more(tmp_path):
    """Forms and environments that are no longer in the study's file lack nothing."""
    folder = write_study(tmp_path / "demo", skip=[("B-v0", "noise=ou", 0)])
    (tmp_path / "demo.yml").write_text(
        "{environments: [A-v0], seeds: 0-2, steps: 9, design: one-at-a-time, factors: {noise: {normal: {}, pink: {}}}}"
    )
    study = read_study(folder)
    assert missing_notes(study, study.environments, groups(study)) == []


@pytest.mark.parametrize("text", ["seeds: [0", "environments: 7", "{}"])
def test_wrong_plan(tmp_path, text):
    """A file beside the folder that is no study is named."""
    folder = write_study(tmp_path / "demo.v2")
    (tmp_path / "demo.v2.yml").write_text(text)
    with pytest.raises(SystemExit, match=r"demo\.v2\.yml"):
        read_study(folder)


def test_many_missing_runs(tmp_path):
    """Are counted; only the first are named."""
    skip = [(env, f"x={i}", 1) for env in ("A-v0", "B-v0") for i in range(1, 9)]
    study = read_study(write_study(tmp_path, seeds=range(2), factors={"x": list(map(str, range(9)))}, skip=skip))
    notes = missing_notes(study, study.environments, groups(study))
    assert notes[0] == "Unfinished: 16 of 36 runs are not there."
    assert len(notes) == 14
    assert notes[-1] == "- and others"


def test_curves_of_an_unfinished_study(tmp_path):
    """A study whose evaluations are not there yet still shows its final returns."""
    write_study(tmp_path)
    (tmp_path / "curves.csv").unlink()
    study = read_study(tmp_path)
    figure = plot_study.draw_group(figures.pyplot(), study, groups(study)[0], study.environments)
    left, right = figure.axes[:2]
    assert left.lines == [] or len(left.lines) == 0
    assert len(right.lines) == 8
    figures.pyplot().close(figure)


def test_runs_of_different_lengths(tmp_path, capsys):
    """The mean goes as far as all seeds go, and the picture says so; seeds without a common step have no curve."""
    path = write_study(tmp_path) / "curves.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *(row for row in rows if not row.startswith("A-v0,noise=ou,1,400"))]) + "\n")
    study = read_study(tmp_path)
    figure = plot_study.draw_group(figures.pyplot(), study, groups(study)[0], study.environments)
    lengths = {line.get_label(): len(line.get_xdata()) for line in figure.axes[0].lines}
    assert lengths["ou"] == 3
    assert lengths["pink"] == 4
    assert "a curve ends where the first of its seeds ends" in figure.legends[0].get_title().get_text()
    rows = [row.replace(",100,", ",150,") for row in rows if row.split(",")[3] == "100"]
    path.write_text("\n".join([header, *(row.replace(",150,", f",{i},") for i, row in enumerate(rows))]) + "\n")
    assert plot_study.curve_of(read_study(tmp_path), "A-v0", "base") == (None, False)
    assert capsys.readouterr().out == ""
    figures.pyplot().close(figure)


def test_each_picture_has_its_own_scale(tmp_path):
    """What is compared shares a panel and its scale; a level that fails in one factor does not flatten the others."""
    path = write_study(tmp_path) / "runs.csv"
    header, *rows = path.read_text().splitlines()
    column = header.split(",").index("mean_return")
    for i, row in enumerate(rows):
        if row.startswith("demo,A-v0,critic_norm=layer"):
            cells = row.split(",")
            rows[i] = ",".join([*cells[:column], "-100000", *cells[column + 1 :]])
    path.write_text("\n".join([header, *rows]) + "\n")
    study = read_study(tmp_path)
    noise, norm = (plot_study.draw_group(figures.pyplot(), study, group, study.environments) for group in groups(study)[:2])
    assert norm.axes[1].get_xlim()[0] < -100_000
    assert noise.axes[1].get_xlim()[0] > -5_000


def test_seeds_in_the_pictures(tmp_path):
    """Below five each seed is a line and a dot; from five on a band and an interval."""
    for seeds in (3, 5):
        study = read_study(write_study(tmp_path / str(seeds), seeds=range(seeds)))
        figure = plot_study.draw_group(figures.pyplot(), study, groups(study)[0], study.environments)
        curves, ends = figure.axes[:2]
        assert len(curves.lines) == (4 * (3 + 1) if seeds == 3 else 4)
        assert len(curves.collections) == (0 if seeds == 3 else 4)
        assert len(ends.lines) == 4 * (2 if seeds == 3 else 3)
        np.testing.assert_allclose(sorted(ends.lines[0].get_xdata()), sorted(finals(tmp_path / str(seeds), "A-v0", "base")))
        figures.pyplot().close(figure)


def test_scores(tmp_path):
    """Returns between the least and the largest of the study, over the seeds that a configuration has everywhere."""
    write_study(tmp_path, seeds=range(6), skip=[("A-v0", "noise=ou", 5)])
    study = read_study(tmp_path)
    ranges = ranges_of(study)
    every = [float(row["mean_return"]) for row in rows_of(tmp_path) if row["env"] == "A-v0"]
    assert ranges["A-v0"] == (min(every), max(every))
    found = aggregate(study, groups(study)[0], study.environments, ranges)
    scores = np.array(
        [
            [(finals(tmp_path, env, "noise=ou")[seed] - ranges[env][0]) / (ranges[env][1] - ranges[env][0]) for env in ranges]
            for seed in range(5)
        ]
    )
    assert found["ou"].mean == pytest.approx(np.sort(scores.ravel())[2:8].mean())
    np.testing.assert_allclose(found["ou"].by_seed, scores.mean(axis=1))
    assert found["ou"].interval == pytest.approx(interquartile_interval(scores))
    assert len(found["pink"].by_seed) == 6
    assert aggregate(study, groups(study)[0], ["A-v0"], ranges) == {}


def test_references(tmp_path, monkeypatch, capsys):
    """Take the place of the study's own range, and the picture says so."""
    write_study(tmp_path)
    assert ranges_of(read_study(tmp_path), ["A-v0=-10:90.5"])["A-v0"] == (-10.0, 90.5)
    run(monkeypatch, tmp_path, "--factor", "critic_norm")
    first = capsys.readouterr().out
    run(monkeypatch, tmp_path, "--factor", "critic_norm", "--reference", "A-v0=0:1000", "B-v0=0:1000")
    assert capsys.readouterr().out != first


def test_environments_that_not_all_have(tmp_path):
    """Scores are over the environments where every configuration has runs."""
    study = read_study(write_study(tmp_path, environments=["A-v0", "B-v0", "C-v0"], skip=UNFINISHED))
    noise, norm = groups(study)
    assert len(aggregate(study, noise, study.environments, ranges_of(study))["ou"].by_seed) == 2
    over_two = aggregate(study, norm, study.environments, ranges_of(study))
    expected = aggregate(study, norm, ["A-v0", "C-v0"], ranges_of(study))
    assert {label: one.mean for label, one in over_two.items()} == {label: one.mean for label, one in expected.items()}
