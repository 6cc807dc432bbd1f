"""Studies: what is run, what a run measures, and files that lose nothing."""

import argparse
import csv
import os
import random
import signal
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.ablation import Result, Store, Study, run_trial
from sb3_ddpg_ext.ablation import trial as trial_module
from sb3_ddpg_ext.ablation.study import read_seeds
from sb3_ddpg_ext.cli.ablate import command as ablate

TINY = {
    "environments": ["Pendulum-v1"],
    "steps": 300,
    "seeds": [0, 1],
    "evaluation": {"every": 100, "episodes": 1},
    "final_episodes": 2,
    "base": {"policy": "MlpPolicy", "learning_starts": 100, "policy_kwargs": {"net_arch": [8]}},
    "factors": {
        "noise": {"none": {}, "pink": {"action_noise": "pink_0.3"}},
        "norm": {"none": {}, "layer": {"policy_kwargs": {"critic_norm": "layer"}}},
    },
}


def make_study(**changes):
    return Study("tiny", {**TINY, **changes})


def without_training(study):
    """Results in place of trainings, each with three evaluations."""
    return [
        Result(run, {"mean_return": i + 0.5, "steps": run.steps, "seconds": 1.5}, [(100, i), (200, i + 1), (300, i + 2)])
        for i, run in enumerate(study.runs())
    ]


def read(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


# --- what is run


def test_grid():
    """Every level with every other, for every environment and seed; levels are merged into the base."""
    study = make_study(environments=["Pendulum-v1", "MountainCarContinuous-v0"], design="grid")
    runs = study.runs()
    assert len(runs) == 2 * 2 * 4
    configs = ["noise=none norm=none", "noise=none norm=layer", "noise=pink norm=none", "noise=pink norm=layer"]
    assert [run.config for run in runs[:4]] == configs
    assert [(run.env, run.seed) for run in runs[::4]] == [
        ("Pendulum-v1", 0), ("Pendulum-v1", 1), ("MountainCarContinuous-v0", 0), ("MountainCarContinuous-v0", 1)
    ]  # fmt: skip
    both = runs[3]
    assert both.levels == {"noise": "pink", "norm": "layer"}
    assert both.hyperparams["action_noise"] == "pink_0.3"
    assert both.hyperparams["policy_kwargs"] == {"net_arch": [8], "critic_norm": "layer"}
    assert runs[0].hyperparams["policy_kwargs"] == {"net_arch": [8]}


def test_one_at_a_time():
    """The base has the first level of each factor; each other level is put into it alone."""
    runs = make_study(design="one-at-a-time", seeds=[4]).runs()
    assert [run.config for run in runs] == ["base", "noise=pink", "norm=layer"]
    assert [tuple(run.levels.values()) for run in runs] == [("none", "none"), ("pink", "none"), ("none", "layer")]


def test_numbers_and_settings_by_environment():
    """steps and evaluation.every may be mappings, environments may have settings of their own, which levels overrule."""
    study = make_study(
        environments={"Pendulum-v1": {"gamma": 0.9, "action_noise": "normal_0.1"}, "MountainCarContinuous-v0": None},
        steps={"Pendulum-v1": 200, "MountainCarContinuous-v0": 4e2},
        evaluation={"every": {"Pendulum-v1": 50, "MountainCarContinuous-v0": 60}, "episodes": 3},
        factors={"noise": {"own": {}, "pink": {"action_noise": "pink_0.3"}}},
        seeds=[0],
    )
    own, pink, car, _ = study.runs()
    assert (own.steps, own.evaluate_every, own.evaluation_episodes) == (200, 50, 3)
    assert (car.steps, car.evaluate_every) == (400, 60)
    assert own.hyperparams["gamma"] == pink.hyperparams["gamma"] == 0.9
    assert (own.hyperparams["action_noise"], pink.hyperparams["action_noise"]) == ("normal_0.1", "pink_0.3")
    assert "gamma" not in car.hyperparams


def test_presets_and_algorithms():
    """A preset gives the environment's block, its length and its algorithm; text in it is merged like the rest."""
    study = make_study(
        environments=["Pendulum-v1"],
        steps=None,
        seeds=[0],
        base={"preset": "ddpg_ext"},
        factors={"critics": {"1": {}, "2": {"policy_kwargs": {"n_critics": 2}}, "sb3": {"algo": "td3"}}},
    )
    one, two, sb3 = study.runs()
    assert (one.algo, sb3.algo) == ("ddpg_ext", "td3")
    assert one.steps == 20_000
    assert one.hyperparams["policy_kwargs"] == {"net_arch": [256, 256]}
    assert two.hyperparams["policy_kwargs"] == {"net_arch": [256, 256], "n_critics": 2}


def test_settings_tell_runs_apart():
    """They are the same for another name or seed, and differ where anything else does; a class counts by its name."""
    first = make_study().runs()[0]
    renamed = make_study(factors={"noise": {"nothing": {}}, "other": {"x": {}}}).runs()[0]
    assert first.settings == renamed.settings
    assert len({run.settings for run in make_study().runs()}) == 4
    assert make_study(steps=301).runs()[0].settings != first.settings
    assert make_study(final_episodes=3).runs()[0].settings != first.settings
    relu, again, elu = (
        make_study(factors={}, base={"policy_kwargs": f"dict(activation_fn={name})"}).runs()[0].settings
        for name in ("nn.ReLU", "nn.ReLU", "nn.ELU")
    )
    assert relu == again != elu


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"environments": []}, "environments must name one"),
        ({"seed": [1]}, "key 'seed' is unknown; it must be one of environments, steps, seeds"),
        ({"seeds": "a"}, "seeds='a' must be"),
        ({"seeds": [1, 1]}, r"seeds=\[1, 1\] must be one at least, each once"),
        ({"design": "random"}, r"design='random' must be one of \['grid', 'one-at-a-time'\]"),
        ({"evaluation": {"freq": 1}}, "evaluation: the key 'freq' is unknown"),
        ({"steps": {"CartPole-v1": 1}}, "steps must have a number for Pendulum-v1; it has CartPole-v1"),
        ({"steps": None}, "steps must be a number: no preset has one for Pendulum-v1"),
        ({"steps": 0}, "steps=0 must be"),
        ({"factors": {"noise": {}}}, "factors: noise must have one level"),
        ({"factors": {"noise": {"a": {}, "b": {}}}}, "'noise=b' and 'noise=a' are the same settings in Pendulum-v1"),
    ],
)
def test_wrong_values(changes, message):
    """Errors say what is wrong and what is allowed."""
    with pytest.raises(ValueError, match=message):
        make_study(**changes).runs()


@pytest.mark.parametrize(
    "changes", [{"environments": "Pendulum-v1"}, {"factors": ["noise"]}, {"base": "td3"}, {"seeds": [0.5]}]
)
def test_wrong_types(changes):
    """Likewise for a value of the wrong type."""
    with pytest.raises(TypeError, match=next(iter(changes))):
        make_study(**changes)


def test_seeds():
    """Forms that the command line and YAML have."""
    assert read_seeds("2-4") == [2, 3, 4]
    assert read_seeds([5, 1]) == [5, 1]
    assert read_seeds(7) == [7]


# --- one run


def test_run_is_what_learn_makes():
    """A run trains the same parameters as DDPG by hand with the same seed, evaluations or not, and evaluates those."""
    run = make_study(factors={}, seeds=[3]).runs()[0]
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        evaluate = trial_module._evaluate_at_the_end
        patch.setattr(trial_module, "_evaluate_at_the_end", lambda model, *rest: kept.append(model) or evaluate(model, *rest))
        result = run_trial(run)
    by_hand = DDPG("MlpPolicy", "Pendulum-v1", learning_starts=100, policy_kwargs={"net_arch": [8]}, seed=3)
    by_hand.learn(300)
    assert all(th.equal(a, b) for a, b in zip(kept[0].policy.parameters(), by_hand.policy.parameters(), strict=True))
    env = gym.make("Pendulum-v1")
    env.reset(seed=trial_module.EVALUATION_SEED)
    mean, sd = evaluate_policy(by_hand, env, 2, warn=False)
    assert result.values["mean_return"] != 0
    assert [step for step, _ in result.evaluations] == [100, 200, 300]
    assert result.values["steps"] == 300
    assert result.values["episodes"] == 1
    assert sd > 0
    assert mean < 0


def test_run_measures_the_last_parameters(monkeypatch):
    """The final figures are of the model as training left it, by as many episodes as asked for."""
    run = make_study(factors={}, final_episodes=7, seeds=[0]).runs()[0]
    seen = []
    monkeypatch.setattr(trial_module, "evaluate_policy", lambda model, env, n, **_: (seen.append(n) or [1.0, 3.0], [1, 1]))
    values = run_trial(run).values
    assert seen == [7]
    assert (values["mean_return"], values["sd_return"]) == (2.0, 1.0)


def test_normalised_observations_are_evaluated_with_the_statistics_of_the_training(monkeypatch):
    """VecNormalize's statistics are copied before the last evaluation; without that they are of no observation at all."""
    run = make_study(factors={}, base={**TINY["base"], "normalize": {"norm_obs": True, "norm_reward": False}}).runs()[0]
    statistics = []
    evaluate = trial_module.evaluate_policy
    monkeypatch.setattr(
        trial_module, "evaluate_policy", lambda *args, **kwargs: statistics.append(args) or evaluate(*args, **kwargs)
    )
    run_trial(run)
    model, env, _ = statistics[-1]
    assert env.obs_rms.count > 100
    assert np.array_equal(env.obs_rms.mean, model.get_vec_normalize_env().obs_rms.mean)


def test_summaries():
    """The area under a curve divided by its length, the last ten evaluations, the best hundred episodes: by hand."""
    summary = trial_module._summary([(100, 0.0), (200, 10.0), (400, 20.0)])
    assert summary["area"] == pytest.approx((5 * 100 + 15 * 200) / 300, abs=1e-3)
    assert summary["last_evaluations"] == 10.0
    many = trial_module._summary([(step, float(step)) for step in range(1, 21)])
    assert many["last_evaluations"] == np.mean(range(11, 21))
    assert trial_module._summary([]) == {"last_evaluations": None, "area": None}
    returns = np.random.default_rng(0).normal(size=150).tolist()
    by_hand = max(np.mean(returns[i : i + 100]) for i in range(51))
    assert trial_module._best_mean(returns, 100) == pytest.approx(by_hand)
    assert trial_module._best_mean(returns[:99], 100) is None


def test_training_episodes_of_several_environments():
    """Their returns are counted in the order in which the episodes ended."""

    class Env:
        def env_method(self, name):
            return {"get_episode_times": [[1, 4], [2, 3]], "get_episode_rewards": [[10, 40], [20, 30]]}[name]

    assert trial_module._training_returns(Env()) == [10, 20, 30, 40]


def test_where_it_was_made():
    """versions() names the packages and the processor; commit() that of this checkout."""
    assert "torch" in trial_module.versions()
    assert trial_module.processor() in trial_module.versions()
    assert len(trial_module.commit().removesuffix("+changes")) in (0, 10)


# --- files


def test_store_keeps_runs(tmp_path):
    """What was added is there again, and is missing no longer."""
    study = make_study()
    results = without_training(study)
    with Store(tmp_path / "s", study.runs()) as store:
        for result in results[:3]:
            store.add(result)
    again = Store(tmp_path / "s", study.runs())
    assert again.missing(study.runs()) == study.runs()[3:]
    row, *_ = read(tmp_path / "s" / "runs.csv")
    assert row["study"] == "tiny"
    assert (row["noise"], row["norm"], row["seed"], row["mean_return"]) == ("none", "none", "0", "0.5")
    assert [row["step"] for row in read(tmp_path / "s" / "curves.csv")] == ["100", "200", "300"] * 3


def test_names_may_change(tmp_path):
    """A level or a factor that is renamed or added takes the finished runs with it, in both files."""
    study = make_study(design="one-at-a-time")
    with Store(tmp_path, study.runs()) as store:
        for result in without_training(study):
            store.add(result)
    factors = {
        "colour": {"white": {}, "rose": {"action_noise": "pink_0.3"}},
        "norm": TINY["factors"]["norm"],
        "tau": {"0": {}},
    }
    renamed = make_study(design="one-at-a-time", factors=factors)
    with Store(tmp_path, renamed.runs()) as store:
        assert not store.missing(renamed.runs())
        store.drop_others()  # writes
    rows = read(tmp_path / "runs.csv")
    assert [row["config"] for row in rows] == ["base", "colour=rose", "norm=layer"] * 2
    assert "noise" not in rows[0]
    assert {row["config"] for row in read(tmp_path / "curves.csv")} == {"base", "colour=rose", "norm=layer"}


def test_other_settings_are_kept_until_they_are_dropped(tmp_path):
    """Runs whose settings the study no longer has stay in the files, apart from the others."""
    with Store(tmp_path, make_study().runs()) as store:
        store.add(without_training(make_study())[0])
    changed = make_study(steps=400)
    with Store(tmp_path, changed.runs()) as store:
        assert len(store.others) == 1
        store.add(without_training(changed)[0])
        assert len(read(tmp_path / "runs.csv")) == 2
        store.drop_others()
    assert [row["steps"] for row in read(tmp_path / "runs.csv")] == ["400"]
    assert len(read(tmp_path / "curves.csv")) == 3


def test_curves_of_a_run_that_is_not_finished_are_dropped(tmp_path):
    """A process killed between the two files leaves evaluations without a run."""
    study = make_study()
    first, second, *_ = without_training(study)
    with Store(tmp_path, study.runs()) as store:
        store.add(first)
        runs = (tmp_path / "runs.csv").read_bytes()
        store.add(second)
    (tmp_path / "runs.csv").write_bytes(runs)
    with Store(tmp_path, study.runs()) as store:
        store.add(second)
    assert len(read(tmp_path / "curves.csv")) == 6


def test_one_process_at_a_time(tmp_path):
    """A folder that is held by another process is refused; one that was killed lets go."""
    runs = make_study().runs()
    pid = os.fork()
    if pid == 0:
        with Store(tmp_path, runs):
            (tmp_path / "held").touch()
            time.sleep(60)
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    with pytest.raises(BlockingIOError, match="in use by another process"), Store(tmp_path, runs):
        pass
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with Store(tmp_path, runs):
        pass


@pytest.mark.parametrize(("text", "message"), [("a,b\n1,2\n", "has no column 'study'"), (None, "line 2 must have")])
def test_files_that_are_no_results(tmp_path, text, message):
    """They are refused with their name."""
    study = make_study()
    if text is None:
        with Store(tmp_path, study.runs()) as store:
            store.add(without_training(study)[0])
        text = (tmp_path / "runs.csv").read_text()[:-20]
        text = text[: text.rindex(",")]
    (tmp_path / "runs.csv").write_text(text)
    with pytest.raises(ValueError, match=f"runs.csv.*{message}"):
        Store(tmp_path, study.runs())


def test_factor_with_the_name_of_a_column():
    """It would write over it."""
    with pytest.raises(ValueError, match="'seed' is a column"):
        Store(Path("nowhere"), make_study(factors={"seed": {"a": {}}}).runs())


@pytest.mark.slow
def test_killed_twenty_times(tmp_path):
    """A study killed at random moments has whole runs only, keeps those it had, makes none twice, and comes to its end."""
    study = make_study(seeds=list(range(14)))
    chance = random.Random(0)
    args = argparse.Namespace(jobs=1, backend="processes", dry_run=False, drop_others=False, env=None, only=None)
    before: dict[tuple, dict] = {}
    starts, kills = 0, 0
    while len(before) < len(study.runs()):
        starts += 1
        assert starts < 200
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            ablate.run_study(study, tmp_path, args)
            os._exit(0)
        if kills < 20:
            time.sleep(chance.uniform(0.05, 0.3))
            kills += 1
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        listed = read(tmp_path / "runs.csv") if (tmp_path / "runs.csv").exists() else []
        rows = {(row["config"], row["seed"]): row for row in listed}
        assert len(rows) == len(listed)
        assert all(None not in row.values() and row["commit"] is not None for row in rows.values())
        assert before.items() <= rows.items()
        for key in rows:
            steps = [row["step"] for row in read(tmp_path / "curves.csv") if (row["config"], row["seed"]) == key]
            assert steps == ["100", "200", "300"]
        before = rows
    assert kills == 20
    reference = [run_trial(run).values["mean_return"] for run in study.runs()[:3]]
    assert [float(before[run.config, str(run.seed)]["mean_return"]) for run in study.runs()[:3]] == reference
