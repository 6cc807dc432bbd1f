"""Presets by name: in Python, in the command presets and in rl_zoo3."""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest
import torch as th
import yaml
from rl_zoo3.exp_manager import ExperimentManager
from stable_baselines3.common.callbacks import BaseCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.vec_env import VecNormalize

from sb3_ddpg_ext import DDPG, RecurrentDDPG, StopTrainingOnMeanReturn, presets
from sb3_ddpg_ext.__main__ import main
from sb3_ddpg_ext.presets import load_preset, preset_names
from sb3_ddpg_ext.wrappers import ScaledObservations
from sb3_ddpg_ext.zoo import find_config, register


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A preset without a default in a folder of its own, and one for another algorithm."""
    (tmp_path / "presets").mkdir()
    for name in presets.TUNED:
        shutil.copy(load_preset(name).path, tmp_path)
    about = {"source": "me", "claims": "nothing", "summary": "short", "algo": "ddpg_ext", "deviations": ["None is known."]}
    block = {
        "n_timesteps": 240,
        "policy": "MlpPolicy",
        "learning_starts": 100,
        "policy_kwargs": "dict(net_arch=[8], n_critics=2)",
        "normalize": {"norm_obs": True, "norm_reward": False},
        "callback": [{"stable_baselines3.common.callbacks.StopTrainingOnMaxEpisodes": {"max_episodes": 1}}],
    }
    (tmp_path / "presets" / "mine.yml").write_text(yaml.safe_dump({"about": about, "Pendulum-v1": block}))
    monkeypatch.setattr(presets, "hyperparams_folder", lambda: tmp_path)
    return tmp_path / "presets" / "mine.yml"


class Count(BaseCallback):
    def _on_step(self):
        return True


def test_every_file_is_a_preset():
    """Our own hyperparameters first, then the files of the folder; each knows its environments."""
    names = preset_names()
    assert names[:2] == ["ddpg_ext", "ddpg_ext_lstm"]
    assert {"weekend", "td3", "paper", "cleanrl"} <= set(names)
    assert "MountainCarContinuous-v0" in load_preset("weekend").environments
    assert "about" not in load_preset("weekend").environments


def test_unknown_names():
    """The known ones are listed, with the nearest."""
    with pytest.raises(ValueError, match=r"preset='wekend' is unknown; .*td3.*did you mean 'weekend'\?"):
        load_preset("wekend")


def test_blocks(mine):
    """The environment's own; where there is no default, another environment is an error that lists those there are."""
    preset = load_preset("mine")
    assert preset.hyperparams("Pendulum-v1")["n_timesteps"] == 240
    with pytest.raises(ValueError, match="'mine' has no default; env='Ant-v5' must be one of Pendulum-v1"):
        preset.hyperparams("Ant-v5")


def test_model_is_what_rl_zoo3_would_make(mine):
    """Normalisation, networks and callbacks are there; learn() has the preset's length, and ends as its callback says."""
    model = DDPG.from_preset("mine", "Pendulum-v1", seed=1, verbose=0, policy_kwargs={"critic_norm": "layer"}, tau=0.01)
    assert type(model) is DDPG
    assert isinstance(model.get_env(), VecNormalize)
    assert (model.seed, model.tau) == (1, 0.01)
    assert len(model.critic.q_networks) == 2  # the preset's policy_kwargs, with those given merged in
    assert any(isinstance(module, th.nn.LayerNorm) for module in model.critic.modules())
    count = Count()
    model.learn(callback=count)
    assert model.num_timesteps == count.num_timesteps == 200  # one episode, not 240


@pytest.mark.parametrize(
    ("env_id", "which"), [("HalfCheetah-v5", "its values for"), ("Pendulum-v1", "its default values, for")]
)
def test_rules_are_said(env_id, which, capsys):
    """At verbose=1: whose values they are, and how the preset fits tasks that it does not know."""
    DDPG.from_preset("modern", env_id, buffer_size=1000, verbose=1)
    said = capsys.readouterr().out
    assert f"Preset: modern, {which} {env_id}\nHow it fits tasks that it does not know:\n- Observations of any units: " in said
    assert said.count("\n- ") == len(load_preset("modern").about["rules"]) == 5
    DDPG.from_preset("modern", env_id, buffer_size=1000)
    assert capsys.readouterr().out == ""


def test_length_and_callbacks(mine):
    """A number takes the place of the preset's; its callbacks run beside a function, a list, or nothing."""
    model = DDPG.from_preset("mine", "Pendulum-v1", callback=None, n_timesteps=150)
    seen = []
    assert model.learn(callback=lambda *_: seen.append(1) or True).num_timesteps == 150
    assert len(seen) == 150
    assert model.learn(30, callback=[Count(), Count()]).num_timesteps == 30
    stopping = DDPG.from_preset("mine", "Pendulum-v1")
    assert stopping.learn(1000, callback=[Count()]).num_timesteps == 200
    assert isinstance(stopping.plan.callbacks[0], StopTrainingOnMaxEpisodes)


def test_learn_without_a_length():
    """Only a preset has one."""
    with pytest.raises(ValueError, match="total_timesteps=None must be an integer"):
        DDPG("MlpPolicy", "Pendulum-v1").learn()


def test_saved_and_loaded(mine, tmp_path):
    """The model is saved as any other; what the preset planned stays behind."""
    model = DDPG.from_preset("mine", "Pendulum-v1").learn()
    model.save(tmp_path / "model")
    loaded = DDPG.load(tmp_path / "model", env=model.get_env())
    assert loaded.plan is None
    obs = model.get_env().reset()
    assert (loaded.predict(obs, deterministic=True)[0] == model.predict(obs, deterministic=True)[0]).all()
    loaded.learn(50)


def test_classes(mine):
    """A recurrent preset makes a RecurrentDDPG; a class of one's own is kept; one that does not fit is refused."""

    class Mine(DDPG):
        pass

    assert type(Mine.from_preset("mine", "Pendulum-v1")) is Mine
    with pytest.raises(ValueError, match="preset='mine' is for DDPG, not for RecurrentDDPG"):
        RecurrentDDPG.from_preset("mine", "Pendulum-v1")


def test_recurrent_presets():
    """DDPG.from_preset looks at the preset's algorithm."""
    model = DDPG.from_preset("ddpg_ext_lstm", "PendulumNoVel-v1", buffer_size=1000)
    assert type(model) is RecurrentDDPG
    assert type(RecurrentDDPG.from_preset("ddpg_ext_lstm", "PendulumNoVel-v1", buffer_size=1000)) is RecurrentDDPG


def test_wrappers_and_stopping():
    """weekend's observations are scaled, and it stops when solved."""
    model = DDPG.from_preset("weekend", "MountainCarContinuous-v0")
    assert model.get_env().env_is_wrapped(ScaledObservations) == [True]
    assert any(isinstance(callback, StopTrainingOnMeanReturn) for callback in model.plan.callbacks)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("weekend", "Pendulum-v9"), ValueError, "'Pendulum-v9' must be a registered environment"),
        (("weekend", gym.make("Pendulum-v1")), TypeError, "must be the id of an environment.*gymnasium.register"),
        (("nobody", "Pendulum-v1"), ValueError, "preset='nobody' is unknown"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    """Errors name the argument, its value and what is allowed."""
    with pytest.raises(error, match=message):
        DDPG.from_preset(*arguments)


def run_main(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["sb3_ddpg_ext", *words])
    main()
    return capsys.readouterr().out


def test_command_lists_presets(monkeypatch, capsys):
    """A line each."""
    lines = run_main(monkeypatch, capsys, "presets").splitlines()
    assert [line.split()[0] for line in lines] == preset_names()
    assert all(len(line) <= 120 for line in lines)


@pytest.mark.parametrize("name", preset_names())
def test_command_describes_a_preset(name, monkeypatch, capsys):
    """Source, deviations and tasks; the command that it prints is one that works."""
    out = run_main(monkeypatch, capsys, "presets", name)
    about = load_preset(name).about
    flat = " ".join(out.split())
    assert " ".join(f"Source: {about['source']}".split()) in flat
    assert all(" ".join(text.split()) in flat for text in about["deviations"])
    assert f"-conf {name}" in out
    assert load_preset(name).environments[0] in out


def test_command_says_where_the_file_is(monkeypatch, capsys):
    """--path is for editors and for copies."""
    assert Path(run_main(monkeypatch, capsys, "presets", "td3", "--path").strip()).read_text().startswith("about:")
    with pytest.raises(SystemExit, match="preset='nobody' is unknown"):
        run_main(monkeypatch, capsys, "presets", "nobody")
    with pytest.raises(SystemExit, match="--path needs"):
        run_main(monkeypatch, capsys, "presets", "--path")


def test_conf(tmp_path, monkeypatch):
    """A bare name is a preset; files and modules are what they were to rl_zoo3; another word lists the presets."""
    monkeypatch.chdir(tmp_path)
    assert find_config("ddpg_ext", None) == str(load_preset("ddpg_ext").path)
    assert find_config("ddpg_ext", "td3") == str(load_preset("td3").path)
    assert find_config("ddpg_ext", "my/own.yml") == "my/own.yml"
    assert find_config("ddpg_ext", "json") == "json"
    with pytest.raises(ValueError, match=r"preset='tdd3' is unknown.*did you mean 'td3'"):
        find_config("ddpg_ext", "tdd3")
    with pytest.raises(ValueError, match="algo='ddpg_ext' must be 'ddpg_ext_lstm' for the preset 'ddpg_ext_lstm'"):
        find_config("ddpg_ext", "ddpg_ext_lstm")
    Path("td3").touch()
    assert find_config("ddpg_ext", "td3") == "td3"


def test_rl_zoo3_takes_a_preset(tmp_path):
    """The literal command, from another folder."""
    rl_zoo3 = Path(sys.executable).with_name("rl_zoo3")
    command = [rl_zoo3, "train", "--algo", "ddpg_ext", "--env", "Pendulum-v1", "-conf", "rl_adventure2", "-n", "150"]
    out = subprocess.run([*command, "--eval-freq", "-1"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert f"Loading hyperparameters from: {load_preset('rl_adventure2').path}" in out
    assert (tmp_path / "logs" / "ddpg_ext" / "Pendulum-v1_1" / "Pendulum-v1.zip").exists()


def test_rl_zoo3_evaluates_with_the_env_kwargs_of_the_file():
    """By itself it gives evaluation environments those of the command line alone, and images cannot be rendered."""
    register()
    manager = ExperimentManager(argparse.Namespace(), "ddpg_ext", "Pendulum-v1", "", config="paper_pixels", verbose=0)
    block = load_preset("paper_pixels").hyperparams("Pendulum-v1")
    *_, manager.env_wrapper, _, manager.vec_env_wrapper = manager._preprocess_hyperparams(dict(block))
    assert manager.create_envs(1, eval_env=True, no_log=True).observation_space.shape == (9, 64, 64)
    given = ExperimentManager(argparse.Namespace(), "ddpg_ext", "Pendulum-v1", "", config="paper_pixels", verbose=0,
                              eval_env_kwargs={"g": 1.0})  # fmt: skip
    given._preprocess_hyperparams(dict(block))
    assert given.eval_env_kwargs == {"g": 1.0}


def test_command_shows_all_presets_in_markdown(monkeypatch, capsys):
    """A row and a section for each, with its file; a name beside it is refused."""
    out = run_main(monkeypatch, capsys, "presets", "--markdown")
    for name in preset_names():
        preset = load_preset(name)
        assert f"](#{name.replace('_', '-')}) | {preset.about['summary']} |" in out
        assert f"## `{name}`" in out
        assert preset.path.read_text().rstrip() in out
    for arguments in (["td3"], ["--path"]):
        with pytest.raises(SystemExit, match="--markdown shows all presets"):
            run_main(monkeypatch, capsys, "presets", "--markdown", *arguments)
