"""Learning curves from files of evaluations, and Q beside returns: numbers, pictures, errors."""

import sys

import numpy as np
import pytest

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.__main__ import main
from sb3_ddpg_ext.cli.plot_curves import Curve, group, interquartile_mean, read_csv, read_folder

pytest.importorskip("matplotlib")


def write(folder, label, seed, steps, returns):
    path = folder / label / str(seed) / "ddpg_ext" / "Env-v0_1"
    path.mkdir(parents=True)
    np.savez(path / "evaluations.npz", timesteps=steps, results=returns, ep_lengths=np.ones_like(returns))


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["sb3_ddpg_ext", "plot", *map(str, arguments)])
    main()


def test_interquartile_mean():
    """The mean of the middle half of the seeds at each evaluation; of less than four of all."""
    returns = np.random.default_rng(0).normal(size=(8, 3))
    assert np.allclose(interquartile_mean(returns), np.sort(returns, axis=0)[2:6].mean(axis=0))
    assert np.allclose(interquartile_mean(returns[:3]), returns[:3].mean(axis=0))


def test_interval():
    """Of seeds that agree it is a point, and it widens with their differences."""
    alike = Curve("a", np.arange(2), np.ones((5, 2)))
    assert [part.tolist() for part in alike.interquartile_means()] == [[1, 1]] * 3
    mean, low, high = Curve("b", np.arange(1), np.arange(10.0)[:, None]).interquartile_means()
    assert low[0] < mean[0] - 1
    assert high[0] > mean[0] + 1


def test_seeds_are_cut_to_what_they_share(tmp_path):
    """A run that was stopped early does not hide the others."""
    write(tmp_path, "plain", 0, [10, 20, 30], np.zeros((3, 2)))
    write(tmp_path, "plain", 1, [10, 20], np.array([[1.0, 3.0], [5.0, 7.0]]))
    (curve,) = group(read_folder(tmp_path))
    assert curve.steps.tolist() == [10, 20]
    assert curve.returns.tolist() == [[0, 0], [2, 6]]


def test_command(monkeypatch, tmp_path, capsys):
    """A row and a line for each label."""
    for label, value in (("plain", 1.0), ("better", 3.0)):
        for seed in range(3):
            write(tmp_path, label, seed, [10, 20], np.full((2, 4), value))
    run(monkeypatch, "curves", tmp_path, "--png", tmp_path / "curves.png", "--csv", tmp_path / "curves.csv")
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "|" in line]
    assert [(row[1], row[3], row[7]) for row in rows[2:]] == [("better", "3", "3"), ("plain", "3", "1")]
    assert (tmp_path / "curves.png").stat().st_size > 1000
    lines = (tmp_path / "curves.csv").read_text().splitlines()
    assert lines[:3] == ["label,seed,steps,mean_return", "better,0,10,3.00", "better,0,20,3.00"]
    assert len(lines) == 1 + 2 * 3 * 2


def test_files_and_folders_together(monkeypatch, tmp_path, capsys):
    """What was written goes on with new runs, and is read as it was."""
    write(tmp_path / "old", "plain", 0, [10, 20], np.full((2, 4), 1.0))
    run(monkeypatch, "curves", tmp_path / "old", "--png", tmp_path / "a.png", "--csv", tmp_path / "a.csv")
    assert read_csv(tmp_path / "a.csv") == read_folder(tmp_path / "old")
    write(tmp_path / "new", "plain", 1, [10, 20], np.full((2, 4), 3.0))
    capsys.readouterr()
    run(monkeypatch, "curves", tmp_path / "a.csv", tmp_path / "new", "--png", tmp_path / "b.png")
    assert "| plain | 2     | 20    | 2 " in capsys.readouterr().out


def test_another_file(monkeypatch, tmp_path):
    """The error says which columns there must be."""
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SystemExit, match="label, seed, steps, mean_return"):
        run(monkeypatch, "curves", tmp_path / "x.csv")


def test_nothing_there(monkeypatch, tmp_path):
    """The error says which files there must be."""
    with pytest.raises(SystemExit, match=r"has no evaluations.*evaluations\.npz"):
        run(monkeypatch, "curves", tmp_path)


def test_other_steps(monkeypatch, tmp_path):
    """Seeds that were evaluated at other steps cannot be put together."""
    write(tmp_path, "plain", 0, [10, 20], np.zeros((2, 2)))
    write(tmp_path, "plain", 1, [15, 25], np.zeros((2, 2)))
    with pytest.raises(SystemExit, match="same steps"):
        run(monkeypatch, "curves", tmp_path)


class TestQ:
    @pytest.fixture(scope="class")
    def model(self, tmp_path_factory):
        path = tmp_path_factory.mktemp("q") / "model.zip"
        DDPG("MlpPolicy", "Pendulum-v1", learning_starts=50, batch_size=16, policy_kwargs=dict(net_arch=[8])).learn(80).save(
            path
        )
        return path

    def test_command(self, model, monkeypatch, tmp_path, capsys):
        """Steps, correlation and bias in words, the pairs in a picture."""
        run(monkeypatch, "q", model, "--env", "Pendulum-v1", "--episodes", 2, "--png", tmp_path / "q.png")
        out = capsys.readouterr().out
        assert "200 steps: correlation" in out
        assert "(200 steps near time limits left out)" in out
        assert (tmp_path / "q.png").stat().st_size > 1000

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--env", "NoSuch-v0"], "--env NoSuch-v0"),
            (["--env", "MountainCarContinuous-v0"], "its observations are"),
        ],
        ids=str,
    )
    def test_wrong_environments(self, model, monkeypatch, arguments, message):
        """The error names it."""
        with pytest.raises(SystemExit, match=message):
            run(monkeypatch, "q", model, *arguments)

    def test_no_model(self, monkeypatch, tmp_path):
        """Nor is a missing file a traceback."""
        with pytest.raises(SystemExit, match="must be a zip file"):
            run(monkeypatch, "q", tmp_path / "no.zip", "--env", "Pendulum-v1")

    def test_wrapper(self, model, monkeypatch, tmp_path, capsys):
        """By its dotted name."""
        wrapper = "gymnasium.wrappers.FlattenObservation"
        run(
            monkeypatch, "q", model, "--env", "Pendulum-v1", "--wrapper", wrapper, "--episodes", 1, "--png", tmp_path / "q.png"
        )
        assert "100 steps" in capsys.readouterr().out
