"""Every picture: no colour alone tells lines apart, each colour has a name, no band of few seeds, no bar on a log axis."""

import itertools
import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from conftest import write_study

from sb3_ddpg_ext.calibration import Calibration
from sb3_ddpg_ext.cli.bench.report import summarise
from sb3_ddpg_ext.cli.data import study as study_data
from sb3_ddpg_ext.cli.plot import bench as plot_bench
from sb3_ddpg_ext.cli.plot import curves as plot_curves
from sb3_ddpg_ext.cli.plot import figures, roofline
from sb3_ddpg_ext.cli.plot import noise as plot_noise
from sb3_ddpg_ext.cli.plot import q as plot_q
from sb3_ddpg_ext.cli.plot import results as plot_results
from sb3_ddpg_ext.cli.plot import study as plot_study
from sb3_ddpg_ext.cli.plot.noise_theory import Training
from sb3_ddpg_ext.cli.reports import report

matplotlib = pytest.importorskip("matplotlib")
RESULTS = Path(__file__).parent.parent / "results"


def curves_figure(labels=7, seeds=3):
    rng = np.random.default_rng(0)
    curves = [
        plot_curves.Curve(f"label {i}", np.arange(1, 6) * 1000, rng.normal(size=(seeds, 5)) + i % 3) for i in range(labels)
    ]
    return plot_curves.draw(figures.pyplot(), curves, "title")


def results_figure(name):
    return plot_results.draw(figures.pyplot(), plot_results.group(plot_results.read(RESULTS / name)), "title")


def noise_figure(*specs):
    args = Namespace(action_dim=1, steps=40, seed=0, env="Pendulum-v1")
    rows = []
    for spec in specs:
        noise = plot_noise.parse(spec, 1)
        rows.append(plot_noise.examine(spec, noise, plot_noise.make_source(noise, args), Training(20, 40)))
    return plot_noise.draw(figures.pyplot(), rows)


def bench_figure(name):
    runs = json.loads((RESULTS / name).read_text())["runs"]
    draw = plot_bench.draw_speeds if name == "bench.json" else plot_bench.draw_costs
    return draw(figures.pyplot(), summarise(runs), runs)


def study_figure(folder, seeds):
    study = study_data.read_study(write_study(folder, seeds=range(seeds)))
    return plot_study.draw_group(figures.pyplot(), study, study_data.groups(study)[0], study.environments)


def aggregate_figure(folder, seeds):
    study = study_data.read_study(write_study(folder, seeds=range(seeds)))
    shown = study_data.groups(study)
    ranges = study_data.ranges_of(study)
    scores = [study_data.aggregate(study, group, study.environments, ranges) for group in shown]
    return plot_study.draw_aggregates(figures.pyplot(), study, shown, scores, False)


def report_figure(folder, monkeypatch):
    """The one that ``report`` saves."""
    (folder / "0.monitor.csv").write_text('#{"t_start": 0.0, "env_id": "E"}\nr,l,t\n' + "1.5,10,0.1\n" * 30)
    kept = []
    monkeypatch.setattr(figures, "save", lambda figure, *rest: kept.append(figure))
    evaluation = report.Evaluation("E-v0", "ddpg_ext", 0, 3.0, 0.1, 100, 2.0, 30, 300, 3.0)
    report.draw_learning_curve(str(folder), evaluation, folder / "a.png")
    return kept[0]


PICTURES = {
    "curves": lambda path, patch: curves_figure(),
    "curves of five": lambda path, patch: curves_figure(seeds=5),
    "results": lambda path, patch: results_figure("exploration_MountainCarContinuous-v0.csv"),
    "results of three": lambda path, patch: results_figure("exploration_HalfCheetah-v5.csv"),
    "noise": lambda path, patch: noise_figure("normal_0.1", "ou_0.2", "param_0.1"),
    "noise with a mass": lambda path, patch: noise_figure("epsilon_0.1"),
    "speeds": lambda path, patch: bench_figure("bench.json"),
    "options": lambda path, patch: bench_figure("bench_options.json"),
    "buffers": lambda path, patch: bench_figure("bench_buffers.json"),
    "profile": lambda path, patch: roofline.draw(
        figures.pyplot(), json.loads((RESULTS / "bench_profile.json").read_text())["runs"]
    ),
    "study": lambda path, patch: study_figure(path, 3),
    "study of five": lambda path, patch: study_figure(path, 5),
    "aggregate": lambda path, patch: aggregate_figure(path, 5),
    "report": report_figure,
    "q": lambda path, patch: plot_q.draw(figures.pyplot(), Calibration(np.arange(5.0), np.arange(5.0)), "title"),
}


@pytest.fixture(params=PICTURES)
def picture(request, tmp_path, monkeypatch):
    figure = PICTURES[request.param](tmp_path, monkeypatch)
    yield figure
    figures.pyplot().close(figure)


def bars_on_log_axes(figure):
    """Rectangles and filled steps whose length means something on an axis that is logarithmic."""
    from matplotlib.patches import Rectangle, StepPatch

    axes = [one for one in figure.axes if "log" in (one.get_xscale(), one.get_yscale()) and one.get_label() != "<colorbar>"]
    return [patch for one in axes for patch in one.patches if isinstance(patch, (Rectangle, StepPatch))]


def shown_colours(figure):
    """Of lines, marks and bars, without greys."""
    from matplotlib.colors import to_hex

    artists = [artist for axes in figure.axes for artist in (*axes.lines, *axes.patches) if axes.get_label() != "<colorbar>"]
    colours = {to_hex(one.get_color() if hasattr(one, "get_color") else one.get_facecolor()) for one in artists}
    return {colour for colour in colours if len({colour[1:3], colour[3:5], colour[5:7]}) > 1}


def named_colours(figure):
    """Of legends, and of lines whose label stands in the picture."""
    from matplotlib.colors import to_hex

    places = [figure, *figure.subfigs]
    legends = [legend for place in places for legend in place.legends]
    legends += [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    handles = [handle for legend in legends for handle in legend.legend_handles]
    for axes in figure.axes:
        texts = {text.get_text() for text in axes.texts}
        handles += [line for line in axes.lines if line.get_label() in texts]
    return {to_hex(one.get_color() if hasattr(one, "get_color") else one.get_facecolor()) for one in handles}


def test_no_bar_on_a_log_axis(picture):
    """A bar's length would depend on where the axis happens to begin."""
    assert bars_on_log_axes(picture) == []


def test_every_colour_has_a_name(picture):
    """In a legend, or at the line's end."""
    assert shown_colours(picture) <= named_colours(picture)


def test_readable(picture):
    """Where a README shows it 800 pixels wide, no letter of it is smaller than 11 pixels."""
    from matplotlib.text import Text

    picture.draw_without_rendering()
    sizes = [text.get_fontsize() for text in picture.findobj(Text) if text.get_text() and text.get_visible()]
    assert picture.get_figwidth() <= figures.WIDTH
    assert min(sizes) / 72 * 800 / figures.WIDTH >= 11


def test_nothing_is_cut_off(picture):
    """Titles, names of axes, legends and notes lie within the picture."""
    picture.draw_without_rendering()
    texts = [text for place in (picture, *picture.subfigs) for text in (*place.texts, place._suptitle, place._supxlabel)]
    for axes in picture.axes:
        texts += [*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label]
    texts += [text for place in (picture, *picture.subfigs) for legend in place.legends for text in legend.get_texts()]
    texts += [legend.get_title() for place in (picture, *picture.subfigs) for legend in place.legends]
    for text in texts:
        if text is not None and text.get_text().strip():
            box, frame = text.get_window_extent(), picture.bbox.padded(1)
            assert frame.contains(box.x0, box.y0), text.get_text()
            assert frame.contains(box.x1, box.y1), text.get_text()


def test_the_walkers_find_something():
    """A bar on a log axis and a colour without a name are seen."""
    plt = figures.pyplot()
    figure, axes = plt.subplots()
    axes.bar([1, 2], [3, 4], color="C3")
    assert bars_on_log_axes(figure) == []
    axes.set_yscale("log")
    assert len(bars_on_log_axes(figure)) == 2
    assert shown_colours(figure) == {"#d62728"}
    assert named_colours(figure) == set()
    plt.close(figure)


def test_styles():
    """No two of 40 labels differ by their colour alone; the first have different colours."""
    for i, j in itertools.combinations(range(40), 2):
        one, other = figures.style(i), figures.style(j)
        assert (one["linestyle"], one["marker"]) != (other["linestyle"], other["marker"])
    assert len({figures.style(i)["color"] for i in range(7)}) == 7


def test_lines_of_a_picture_differ():
    """By style or marker, also where two have one colour; and each label is written once, beside the others."""
    figure = curves_figure(labels=10)
    (axes,) = figure.axes
    lines = [line for line in axes.lines if line.get_label().startswith("label")]
    assert len({(str(line._unscaled_dash_pattern), line.get_marker()) for line in lines}) == 10
    assert sorted(text.get_text() for text in axes.texts) == sorted([*(line.get_label() for line in lines), *[""] * 10])
    heights = sorted(text.get_position()[1] for text in axes.texts if text.get_text())
    assert min(np.diff(heights)) > 0.03
    figures.pyplot().close(figure)


def test_colours_for_the_colour_blind():
    """With no green cones (Machado et al. 2009) the colours of the palette are still apart; matplotlib's are not."""
    deuteranopia = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
    protanopia = np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]])

    def least_distance(palette):
        colours = np.array([matplotlib.colors.to_rgb(colour) for colour in palette])
        seen = [colours @ cones.T for cones in (deuteranopia, protanopia)]
        pairs = itertools.combinations(range(len(palette)), 2)
        return min(np.linalg.norm(one[i] - one[j]) for i, j in pairs for one in seen)

    assert least_distance(figures.PALETTE) > 0.19
    assert least_distance([f"C{i}" for i in range(7)]) < 0.12


@pytest.mark.parametrize("seeds", [1, 2, 3, 4, 5, 8])
def test_seeds_or_a_band(seeds):
    """Below five seeds a thin line for each and no band; from five on a band, and the note says which."""
    figure = curves_figure(labels=1, seeds=seeds)
    (axes,) = figure.axes
    lines = [line for line in axes.lines if len(line.get_xdata()) == 5]
    drawn = np.array([line.get_ydata() for line in lines])
    returns = np.random.default_rng(0).normal(size=(seeds, 5))
    np.testing.assert_allclose(drawn[-1], returns.mean(axis=0))
    note = figure._supxlabel.get_text()
    if seeds < 5:
        assert len(axes.collections) == 0
        np.testing.assert_allclose(drawn[:-1], returns if seeds > 1 else np.empty((0, 5)))
        assert "shaded" not in note
        assert ("thin: each seed" in note) == (seeds > 1)
    else:
        assert len(axes.collections) == 1
        assert len(lines) == 1
        assert "shaded: 95% t interval of the mean" in note
    figures.pyplot().close(figure)


def test_shares_stay_shares():
    """An interval of a share of successes ends at 0 and 1."""
    figure = plot_curves.draw(
        figures.pyplot(),
        [plot_curves.Curve("a", np.arange(2), np.array([[0.0, 1.0]] * 4 + [[0.2, 0.5]]))],
        "",
        plot_curves.SUCCESS,
    )
    heights = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert heights.min() == 0
    assert heights.max() == 1
    figures.pyplot().close(figure)


def test_labels_that_would_lie_upon_each_other():
    """They keep their order and their distance, within the axis while there is room."""
    places = np.array([0.5, 0.98, 0.5, 0.99, 0.01])
    moved = figures.apart(places, 0.1)
    assert np.diff(np.sort(moved)).min() >= 0.1 - 1e-12
    assert moved.max() <= 1
    assert moved.min() >= 0
    assert moved[4] == 0.01
    assert list(np.argsort(moved, kind="stable")) == list(np.argsort(places, kind="stable"))
    np.testing.assert_allclose(figures.apart(np.zeros(3), 0.6), [0, 0.6, 1.2])


def test_a_line_that_ends_early_does_not_seem_to_go_on():
    """What joins it to its label is neither of its colour nor of its style."""
    curves = [
        plot_curves.Curve("short", np.arange(3), np.ones((1, 3))),
        plot_curves.Curve("long", np.arange(6), np.zeros((1, 6))),
    ]
    figure = plot_curves.draw(figures.pyplot(), curves, "")
    short, long = (text.arrow_patch for text in figure.axes[0].texts if getattr(text, "arrow_patch", None))
    assert matplotlib.colors.to_hex(short.get_edgecolor()) == "#999999"
    assert matplotlib.colors.to_hex(long.get_edgecolor()) == figures.PALETTE[1].lower()
    figures.pyplot().close(figure)


def test_files(tmp_path):
    """A PNG, and with svg a drawing beside it, the same in each run."""
    for folder, svg in (("a", False), ("b", True), ("c", True)):
        figures.save(curves_figure(labels=2), tmp_path / folder / "x.png", svg)
    assert [path.name for path in sorted(tmp_path.rglob("*.*"))] == ["x.png", "x.png", "x.svg", "x.png", "x.svg"]
    assert (tmp_path / "a" / "x.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    drawing = (tmp_path / "b" / "x.svg").read_text()
    assert "<svg" in drawing
    assert drawing == (tmp_path / "c" / "x.svg").read_text()
