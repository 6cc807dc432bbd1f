"""The command ``ablate``: what it is told, what it does when a run fails, and who does the runs."""

import argparse
import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from sb3_ddpg_ext.ablation import Study
from sb3_ddpg_ext.ablation.parallel import BACKENDS, attempt
from sb3_ddpg_ext.cli.ablate import command as ablate
from sb3_ddpg_ext.cli.ablate import progress as ablate_progress

STUDY = {
    "environments": ["Pendulum-v1"],
    "steps": 200,
    "seeds": [0, 1],
    "evaluation": {"every": 100, "episodes": 1},
    "final_episodes": 1,
    "base": {"policy": "MlpPolicy", "learning_starts": 100, "policy_kwargs": {"net_arch": [8]}},
    "factors": {"tau": {"slow": {"tau": 0.001}, "fast": {"tau": 0.01}}},
}


@pytest.fixture
def study_file(tmp_path):
    path = tmp_path / "small.yml"
    path.write_text(yaml.safe_dump(STUDY, sort_keys=False))
    return path


def parse(*words):
    parser = argparse.ArgumentParser()
    ablate.add_parser(parser.add_subparsers())
    return parser.parse_args(["ablate", *map(str, words)])


def read(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_without_a_file():
    """Environments, seeds, levels and the base from the command line; lists keep their commas, 1e-3 is a number."""
    words = ["--env", "Pendulum-v1", "MountainCarContinuous-v0", "--seeds", "0-4", "--steps", "500", "--base", "tau=1e-2"]
    words += ["--set", "n_steps=1,3", "--set", "policy_kwargs.net_arch=[8],[16, 16]", "--set", "learning_rate=1e-3,lin_1e-3"]
    words += ["--design", "one-at-a-time", "--eval-every", "50", "--out", "somewhere/mine"]
    ((study, folder),) = ablate.read_studies(parse(*words))
    assert (study.name, folder) == ("mine", Path("somewhere/mine"))
    runs = study.runs()
    assert len(runs) == 2 * 5 * 4
    assert [run.config for run in runs[:4]] == [
        "base", "n_steps=3", "policy_kwargs.net_arch=[16, 16]", "learning_rate=lin_1e-3"
    ]  # fmt: skip
    base, n_step, network, rate = (run.hyperparams for run in runs[:4])
    assert (base["tau"], base["learning_rate"], base["n_steps"]) == (0.01, 0.001, 1)
    assert base["gamma"] == 0.98  # of the tuned hyperparameters, for want of another base
    assert n_step["n_steps"] == 3
    assert (base["policy_kwargs"]["net_arch"], network["policy_kwargs"]["net_arch"]) == ([8], [16, 16])
    assert rate["learning_rate"] == "lin_1e-3"
    assert (runs[0].steps, runs[0].evaluate_every) == (500, 50)


def test_command_line_over_a_file(study_file):
    """What the command line says takes the place of what the file says; the results lie beside the file."""
    ((study, folder),) = ablate.read_studies(parse(study_file, "--seeds", "7,9", "--steps", 300))
    assert folder == study_file.with_suffix("")
    assert study.seeds == [7, 9]
    assert study.runs()[0].steps == 300
    assert list(study.factors) == ["tau"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "a study needs a file, or --env"),
        (["--env", "Pendulum-v1", "--set", "n_steps"], "'n_steps' must be NAME=VALUE"),
        (["--env", "Pendulum-v1", "--set", "n_steps=1,1"], "must name each level once"),
        (["--env", "Pendulum-v1", "--set", "n_steps=[1"], "must be YAML"),
        (["--env", "Pendulum-v1", "--jobs", "0", "--dry-run"], "--jobs=0 must be at least 1"),
        (["none.yml"], "none.yml"),
        (["--env", "Pendulum-v1", "--preset", "nobody"], "nobody"),
    ],
)
def test_wrong_arguments(words, message, tmp_path, monkeypatch):
    """One line says what is wrong."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message):
        ablate.run(parse(*words))


def test_run_and_go_on(study_file, capsys):
    """A study that is complete is not run again, one with a further seed makes only that."""
    ablate.run(parse(study_file, "--seeds", "0"))
    out = capsys.readouterr().out
    assert "[1/2" in out
    assert "Pendulum-v1 tau=fast seed 0: -" in out
    first = read(study_file.with_suffix("") / "runs.csv")
    ablate.run(parse(study_file))
    assert "4 runs, 2 are finished" in capsys.readouterr().out
    rows = read(study_file.with_suffix("") / "runs.csv")
    assert rows[:2] == first
    assert [(row["config"], row["seed"]) for row in rows] == [
        ("tau=slow", "0"), ("tau=fast", "0"), ("tau=slow", "1"), ("tau=fast", "1")
    ]  # fmt: skip
    ablate.run(parse(study_file))
    assert "4 are finished" in capsys.readouterr().out


def test_dry_run_only_tells(study_file, capsys):
    """It lists what is missing and says how long that takes, by a short trial, and leaves no file."""
    ablate.run(parse(study_file, "--dry-run"))
    out = capsys.readouterr().out
    assert out.count("Pendulum-v1 tau=") == 4
    assert "4 runs, about" in out
    assert not study_file.with_suffix("").exists()


def test_estimate_goes_by_finished_runs():
    """The mean of the same configuration where there is one, else of the environment."""
    runs = Study("x", STUDY).runs()
    rows = [
        {"env": "Pendulum-v1", "config": "tau=slow", "seconds": "10"},
        {"env": "Pendulum-v1", "config": "x", "seconds": "20"},
    ]
    assert ablate.estimate(runs, rows) == 10 + 15 + 10 + 15


def test_changed_study_is_refused(study_file):
    """Runs with other settings are not mixed in silently; --drop-others forgets them."""
    ablate.run(parse(study_file, "--seeds", "0"))
    with pytest.raises(SystemExit, match=r"2 runs with settings that small no longer has.*--drop-others"):
        ablate.run(parse(study_file, "--seeds", "0", "--steps", "150"))
    ablate.run(parse(study_file, "--seeds", "0", "--steps", "150", "--drop-others"))
    assert [row["steps"] for row in read(study_file.with_suffix("") / "runs.csv")] == ["150", "150"]


def test_narrowed_study_goes_on_beside_its_other_runs(study_file, capsys):
    """--seeds and --env choose: finished runs of other seeds and environments stay, and settings of an environment hold."""
    own = {"learning_starts": 50}
    factors = {"tau": {"slow": {"tau": 0.005}}}
    study = {**STUDY, "environments": {"Pendulum-v1": {}, "PendulumNoVel-v1": own}, "factors": factors}
    study_file.write_text(yaml.safe_dump(study, sort_keys=False))
    ablate.run(parse(study_file, "--env", "PendulumNoVel-v1", "--seeds", "1"))
    ablate.run(parse(study_file, "--env", "Pendulum-v1", "--seeds", "0,5"))
    ablate.run(parse(study_file))
    assert "4 runs, 2 are finished" in capsys.readouterr().out
    rows = read(study_file.with_suffix("") / "runs.csv")
    assert [(row["env"], row["seed"]) for row in rows] == [
        ("PendulumNoVel-v1", "1"), ("Pendulum-v1", "0"), ("Pendulum-v1", "5"), ("Pendulum-v1", "1"), ("PendulumNoVel-v1", "0")
    ]  # fmt: skip


def test_only_some_configurations(study_file, capsys):
    """Finished runs of the others stay; a name that the study does not have is told."""
    ablate.run(parse(study_file, "--only", "tau=fast", "--seeds", "1"))
    ablate.run(parse(study_file, "--only", "tau=slow", "--dry-run"))
    assert "Pendulum-v1 tau=slow seed 0\nPendulum-v1 tau=slow seed 1\nsmall: 2 runs" in capsys.readouterr().out
    ablate.run(parse(study_file, "--only", "tau=fast", "--seeds", "0"))
    rows = read(study_file.with_suffix("") / "runs.csv")
    assert [(row["tau"], row["seed"]) for row in rows] == [("fast", "1"), ("fast", "0")]
    with pytest.raises(SystemExit, match="study 'small' has no 'tau=medium'; it has 'tau=slow', 'tau=fast'"):
        ablate.run(parse(study_file, "--only", "tau=medium"))


def test_failed_run_stops_no_other(study_file, capsys):
    """It is told with its traceback, the rest is made, and the command fails; nothing of it is in the files."""
    study = {**STUDY, "seeds": [0], "factors": {"tau": {"wrong": {"tau": 2}, "fast": {"tau": 0.01}}}}
    study_file.write_text(yaml.safe_dump(study, sort_keys=False))
    with pytest.raises(SystemExit, match="1 runs have failed"):
        ablate.run(parse(study_file))
    out = capsys.readouterr().out
    assert "FAILED Pendulum-v1 tau=wrong seed 0" in out
    assert "ValueError: tau=2 must be" in out
    assert [row["tau"] for row in read(study_file.with_suffix("") / "runs.csv")] == ["fast"]


def test_packages_that_register_environments(tmp_path, monkeypatch):
    """They are imported where a run is made; without them its environment is unknown."""
    (tmp_path / "my_tasks.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('MyPendulum-v0', 'gymnasium.envs.classic_control.pendulum:PendulumEnv', max_episode_steps=50)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "own.yml"
    path.write_text(yaml.safe_dump({**STUDY, "environments": ["MyPendulum-v0"], "seeds": [0]}, sort_keys=False))
    with pytest.raises(SystemExit, match="2 runs have failed"):
        ablate.run(parse(path))
    ablate.run(parse(path, "--gym-packages", "my_tasks"))
    assert [row["episodes"] for row in read(tmp_path / "own" / "runs.csv")] == ["4", "4"]


@pytest.mark.slow
@pytest.mark.parametrize("backend", list(BACKENDS))
def test_everyone_makes_the_same_rows(backend, study_file, tmp_path):
    """Whoever makes the runs, the numbers are those of one run after another in this process."""
    if backend == "ray":
        pytest.importorskip("ray", reason="Ray is an extra of its own: pip install 'sb3_ddpg_ext[ray]'")
    ablate.run(parse(study_file, "--out", tmp_path / "own"))
    ablate.run(parse(study_file, "--out", tmp_path / "others", "--jobs", "2", "--backend", backend))
    timing = ("study", "seconds", "steps_per_second", "commit")  # the last as the checkout may change meanwhile
    own, others = (
        sorted(
            (row["config"], row["seed"], [row[name] for name in row if name not in timing]) for row in read(path / "runs.csv")
        )
        for path in (tmp_path / "own", tmp_path / "others")
    )
    assert own == others


def test_an_interrupt_that_gets_lost_stops_at_the_next_run(study_file, monkeypatch, capsys):
    """Python drops what is raised in a destructor: Ctrl-C there still ends the study, with what is finished kept."""

    class Deaf:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def outcomes(runs, jobs):
        for i, run in enumerate(runs):
            if i == 1:
                thing = Deaf()
                del thing
            yield attempt(run, os.getpid())

    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)
    monkeypatch.setitem(BACKENDS, "processes", outcomes)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as ended:
        ablate.run(parse(study_file))
    assert ended.value.code == ablate.INTERRUPTED
    assert "Stopped; 2 runs are kept" in capsys.readouterr().out
    assert len(read(study_file.with_suffix("") / "runs.csv")) == 2
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_interrupted(study_file):
    """Ctrl-C keeps what is finished, leaves no process behind, and the same command goes on."""
    study_file.write_text(yaml.safe_dump({**STUDY, "steps": 1500, "seeds": list(range(8))}))
    command = [sys.executable, "-m", "sb3_ddpg_ext", "ablate", str(study_file), "--jobs", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    for line in process.stdout:
        if line.startswith("[3/"):
            break
    os.killpg(process.pid, signal.SIGINT)
    rest = process.stdout.read()
    assert process.wait(timeout=30) == ablate.INTERRUPTED, rest
    assert "the same command goes on with the rest" in rest
    assert "Traceback" not in rest
    kept = len(read(study_file.with_suffix("") / "runs.csv"))
    assert 3 <= kept < 16
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("a worker process is left")
    plan = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, check=True).stdout
    assert f"{16 - kept} runs" in plan


@pytest.mark.slow
def test_a_worker_that_dies_costs_no_other_run(study_file, monkeypatch, capsys):
    """Runs that were on their way in other workers are made again."""
    marker = study_file.parent / "died"
    code = (
        "import os, pathlib; from sb3_ddpg_ext.ablation import parallel; original = parallel.run_trial\n"
        f"marker = pathlib.Path({str(marker)!r})\n"
        "def dying(run):\n"
        "    if not marker.exists():\n"
        "        marker.touch()\n"
        "        os._exit(9)\n"
        "    return original(run)\n"
        "parallel.run_trial = dying\n"
    )
    (study_file.parent / "sitecustomize.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(study_file.parent)}
    command = [sys.executable, "-m", "sb3_ddpg_ext", "ablate", str(study_file), "--jobs", "2"]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert "A worker process has died" in out
    assert len(read(study_file.with_suffix("") / "runs.csv")) == 4


def test_bar_counts_runs(study_file):
    """In a terminal a line for each run stands above a bar that counts them."""
    from rich.progress import Progress, TextColumn

    runs = Study("x", STUDY).runs()
    with Progress(TextColumn("{task.fields[n_done]}"), disable=True) as progress:
        bar = ablate_progress.Bar(runs, progress)
        for outcome in BACKENDS["processes"](runs[:1], 1):
            bar.ended(outcome)
        (task,) = progress.tasks
        assert (task.fields["n_done"], task.completed, task.total) == (1, 200, 800)


@pytest.mark.parametrize(("seconds", "text"), [(5.4, "5 s"), (65, "1 min 05 s"), (7260, "2 h 01 min")])
def test_duration(seconds, text):
    assert ablate_progress.duration(seconds) == text
