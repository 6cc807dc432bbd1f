"""``plot curves``: numbers, pictures, errors."""

import sys

import numpy as np
import pytest

from sb3_ddpg_ext.__main__ import main
from sb3_ddpg_ext.cli.plot.curves import group, read_csv, read_folder

pytest.importorskip("matplotlib")


def write(folder, label, seed, steps, returns, env="Env-v0"):
    path = folder / label / str(seed) / "ddpg_ext" / f"{env}_1"
    path.mkdir(parents=True)
    np.savez(path / "evaluations.npz", timesteps=steps, results=returns, ep_lengths=np.ones_like(returns))


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["sb3_ddpg_ext", "plot", *map(str, arguments)])
    main()


def test_seeds_are_cut_to_what_they_share(tmp_path, capsys):
    """A run that was stopped early does not hide the others."""
    write(tmp_path, "plain", 0, [10, 20, 30], np.zeros((3, 2)))
    write(tmp_path, "plain", 1, [10, 20], np.array([[1.0, 3.0], [5.0, 7.0]]))
    (curve,) = group(read_folder(tmp_path))
    assert curve.steps.tolist() == [10, 20]
    assert curve.returns.tolist() == [[0, 0], [2, 6]]
    assert "plain: 2 evaluations up to step 20" in capsys.readouterr().out


def test_command(monkeypatch, tmp_path, capsys):
    """A row and a line for each label; with --svg a drawing too."""
    for label, value in (("plain", 1.0), ("better", 3.0)):
        for seed in range(3):
            write(tmp_path, label, seed, [10, 20], np.full((2, 4), value))
    run(monkeypatch, "curves", tmp_path, "--png", tmp_path / "curves.png", "--csv", tmp_path / "curves.csv", "--svg")
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "|" in line]
    assert [(row[1], row[3], row[7]) for row in rows[2:]] == [("better", "3", "3"), ("plain", "3", "1")]
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert "<svg" in (tmp_path / "curves.svg").read_text()
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
    with pytest.raises(SystemExit, match=r"must have evaluations: in files .*evaluations\.npz"):
        run(monkeypatch, "curves", tmp_path)


def test_other_steps(monkeypatch, tmp_path):
    """Seeds that were evaluated at other steps cannot be put together."""
    write(tmp_path, "plain", 0, [10, 20], np.zeros((2, 2)))
    write(tmp_path, "plain", 1, [15, 25], np.zeros((2, 2)))
    with pytest.raises(SystemExit, match="same steps"):
        run(monkeypatch, "curves", tmp_path)


def test_latest_of_a_seed(tmp_path):
    """The tenth training of a seed is later than its second."""
    for number in (2, 10, 9):
        path = tmp_path / "plain" / "0" / "ddpg_ext" / f"Env-v0_{number}"
        path.mkdir(parents=True)
        np.savez(path / "evaluations.npz", timesteps=[5], results=np.full((1, 2), float(number)))
    assert read_folder(tmp_path) == {("plain", "0"): {5: 10.0}}


def test_one_level_too_high(monkeypatch, tmp_path):
    """The folder above several labels is not taken for one with seeds."""
    write(tmp_path / "Env-v0", "plain", 0, [10], np.zeros((1, 2)))
    with pytest.raises(SystemExit, match=r"must be in a folder LABEL/SEED, SEED a number, or in ALGO/ENV_N"):
        run(monkeypatch, "curves", tmp_path)


def test_two_environments(monkeypatch, tmp_path):
    """Their returns have no common mean."""
    write(tmp_path, "plain", 0, [10], np.zeros((1, 2)))
    write(tmp_path, "plain", 1, [10], np.zeros((1, 2)), env="Other-v0")
    with pytest.raises(SystemExit, match="one environment, not of Env-v0, Other-v0"):
        run(monkeypatch, "curves", tmp_path)


def test_half_written(monkeypatch, tmp_path):
    """A file that a stopped training left is named."""
    write(tmp_path, "plain", 0, [10], np.zeros((1, 2)))
    (path,) = tmp_path.glob("**/evaluations.npz")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(SystemExit, match=r"evaluations\.npz must be a file of SB3's EvalCallback"):
        run(monkeypatch, "curves", tmp_path)


@pytest.mark.parametrize(("seeds", "expected"), [(1, "0"), (4, "0, 1, 2, 3"), (5, "0 to 4")])
def test_seeds_or_an_interval(monkeypatch, tmp_path, capsys, seeds, expected):
    """The table has each of up to four seeds, and the t interval of the mean of five: 2 -+ 1.96."""
    for seed in range(seeds):
        write(tmp_path, "plain", seed, [10], np.full((1, 2), float(seed)))
    run(monkeypatch, "curves", tmp_path, "--png", tmp_path / "a.png")
    head, _, row = (line for line in capsys.readouterr().out.splitlines() if "|" in line)
    assert "| mean at the end | each seed, or 95% interval |" in head
    assert row.split("|")[5].strip() == expected


def test_success(monkeypatch, tmp_path, capsys):
    """The share of successful episodes, in the table, the file and the picture; not of environments that know of none."""
    write(tmp_path / "logs", "her", 0, [10, 20], np.full((2, 4), -50.0))
    with pytest.raises(SystemExit, match="must have successes"):
        run(monkeypatch, "curves", tmp_path / "logs", "--success", "--png", tmp_path / "curves.png")
    (path,) = (tmp_path / "logs").glob("**/evaluations.npz")
    with np.load(path) as file:
        np.savez(path, **file, successes=np.array([[False] * 4, [True, True, True, False]]))
    out = ["--png", tmp_path / "curves.png", "--csv", tmp_path / "curves.csv"]
    run(monkeypatch, "curves", tmp_path / "logs", "--success", *out)
    assert "| her   | 1     | 20    | 0.75 " in capsys.readouterr().out
    assert (tmp_path / "curves.csv").read_text() == "label,seed,steps,success_rate\nher,0,10,0.0000\nher,0,20,0.7500\n"
    run(monkeypatch, "curves", tmp_path / "curves.csv", "--success", *out)
    with pytest.raises(SystemExit, match="columns label, seed, steps, mean_return"):
        run(monkeypatch, "curves", tmp_path / "curves.csv", *out)


def test_environments_of_a_log_folder(tmp_path):
    """Several are refused; --env takes one of them, of a seed the latest experiment."""
    for env, number, seed, value in (("A-v0", 1, 3, 1.0), ("A-v0", 2, 3, 2.0), ("B-v0", 1, 4, 9.0)):
        path = tmp_path / "ddpg_ext" / f"{env}_{number}"
        (path / env).mkdir(parents=True)
        (path / env / "args.yml").write_text(
            f"!!python/object/apply:collections.OrderedDict\n- - - algo\n    - ddpg_ext\n  - - seed\n    - {seed}\n"
        )
        np.savez(path / "evaluations.npz", timesteps=[10], results=np.full((1, 2), value), ep_lengths=np.ones((1, 2)))
    with pytest.raises(SystemExit, match=r"one environment, not of A-v0, B-v0; --env chooses"):
        read_folder(tmp_path)
    assert read_folder(tmp_path, env="A-v0") == {("ddpg_ext", "3"): {10: 2.0}}
    with pytest.raises(SystemExit, match=r"must have evaluations of C-v0: in files ALGO/ENV_N/evaluations\.npz"):
        read_folder(tmp_path, env="C-v0")
