"""``plot q``: which environment a saved model meets, and what a user can get wrong."""

import sys

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.__main__ import main
from sb3_ddpg_ext.calibration import Calibration
from sb3_ddpg_ext.cli.plot import q as plot_q
from sb3_ddpg_ext.cli.plot.figures import pyplot
from sb3_ddpg_ext.wrappers import StackedRenderings

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def model():
    return DDPG("MlpPolicy", "Pendulum-v1", buffer_size=1, policy_kwargs=dict(net_arch=[8]), seed=0)


@pytest.fixture
def run(monkeypatch, tmp_path):
    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["sb3_ddpg_ext", "plot", "q", *map(str, arguments)])
        main()

    return run


@pytest.fixture
def seen(monkeypatch):
    """What ``q_calibration`` is called with; it acts nowhere."""
    calls = []

    def record(*arguments):
        calls.append(arguments)
        return Calibration(np.array([1.0, 2.0]), np.array([0.0, 3.0]))

    monkeypatch.setattr(plot_q, "q_calibration", record)
    return calls


def test_arguments_arrive(model, run, seen, tmp_path):
    """Episodes, seed and the environment's arguments are those of the command line."""
    model.save(tmp_path / "model.zip")
    run("model.zip", "--env", "Pendulum-v1", "--episodes", 3, "--seed", 7, "--env-kwargs", "g:9.5")
    assert seen[0][2:] == (3, 7)
    assert seen[0][1].get_attr("g") == [9.5]
    assert (tmp_path / "q.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_numbers_in_words(model, run, seen, tmp_path, capsys):
    """Correlation and bias are printed, and stand above the picture beside the diagonal."""
    model.save(tmp_path / "model.zip")
    run("model.zip", "--env", "Pendulum-v1")
    assert "2 steps: correlation 1.000, mean estimate 1.50, mean return 1.50, bias +0.00" in capsys.readouterr().out
    figure = plot_q.draw(pyplot(), Calibration(np.array([1.0, 2.0]), np.array([0.0, 3.0])), "Task")
    axes = figure.axes[0]
    assert axes.get_title() == "Task\ncorrelation 1.00, bias +0.0"
    (diagonal,) = axes.lines
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    assert axes.collections[0].get_array().sum() == 2
    pyplot().close(figure)


def test_one_environment_for_a_model_of_several(run, seen, tmp_path):
    """How many there were in training does not matter, and no room is made for the replay buffer of training."""
    trained = DDPG("MlpPolicy", make_vec_env("Pendulum-v1", 2), buffer_size=20, policy_kwargs=dict(net_arch=[8]))
    trained.save(tmp_path / "m.zip")
    run("m.zip", "--env", "Pendulum-v1")
    assert seen[0][1].num_envs == 1
    assert seen[0][0].replay_buffer.buffer_size == 1


def test_images(run, tmp_path, capsys):
    """A model that sees renderings, with their channels first, gets them through the wrapper of its training."""
    env = StackedRenderings(gym.make("Pendulum-v1", render_mode="rgb_array"))
    DDPG("PaperCnnPolicy", env, buffer_size=1).save(tmp_path / "model.zip")
    wrapper = "sb3_ddpg_ext.wrappers.StackedRenderings"
    run("model.zip", "--env", "Pendulum-v1", "--wrapper", wrapper, "--episodes", 1)
    assert "34 steps: correlation" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["Pendulum-v1/vecnormalize.pkl", "best_mean_return_vecnormalize.pkl"])
def test_statistics_beside_the_model(model, run, seen, tmp_path, name):
    """Those of rl_zoo3 and of the callback that saves the best are found and used."""
    env = VecNormalize(make_vec_env("Pendulum-v1"))
    env.obs_rms.mean[:] = [1.0, 2.0, 3.0]
    (tmp_path / name).parent.mkdir(exist_ok=True)
    env.save(str(tmp_path / name))
    model.save(tmp_path / "best_mean_return.zip")
    run("best_mean_return.zip", "--env", "Pendulum-v1")
    assert seen[0][1].obs_rms.mean.tolist() == [1, 2, 3]


def test_statistics_of_another_environment(model, run, tmp_path):
    """They are named, where they do not fit."""
    (tmp_path / "Pendulum-v1").mkdir()
    VecNormalize(make_vec_env("MountainCarContinuous-v0")).save(str(tmp_path / "Pendulum-v1" / "vecnormalize.pkl"))
    model.save(tmp_path / "model.zip")
    with pytest.raises(SystemExit, match="does not fit the statistics in"):
        run("model.zip", "--env", "Pendulum-v1")


class WideActions(gym.ActionWrapper):
    """Pendulum's, twice as strong."""

    def __init__(self, env):
        super().__init__(env)
        self.action_space = gym.spaces.Box(-4, 4, (1,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "NoSuch-v0"], "--env NoSuch-v0"),
        (["--env", "MountainCarContinuous-v0"], "its observations are"),
        (["--wrapper", f"{__name__}.WideActions"], "its actions Box"),
        (["--wrapper", "StackedRenderings"], "--wrapper StackedRenderings must be PACKAGE.MODULE.CLASS"),
        (["--wrapper", "sb3_ddpg_ext.wrappers.Nothing"], "Nothing must be PACKAGE.MODULE.CLASS"),
        (["--wrapper", "no.such.Thing"], "--wrapper no.such.Thing cannot be imported"),
        (["--gym-packages", "no_such_package"], "--gym-packages no_such_package cannot be imported"),
    ],
    ids=str,
)
def test_wrong_arguments(model, run, tmp_path, arguments, message):
    """The error names them."""
    model.save(tmp_path / "model.zip")
    with pytest.raises(SystemExit, match=message):
        run("model.zip", "--env", "Pendulum-v1", *arguments)


def test_not_a_model(run, tmp_path):
    """A file of something else is named."""
    (tmp_path / "model.zip").write_text("nothing")
    with pytest.raises(SystemExit, match=r"model\.zip must be a zip file written by DDPG\.save"):
        run("model.zip", "--env", "Pendulum-v1")
    with pytest.raises(SystemExit, match=r"no\.zip is not there; it must be a zip file"):
        run("no.zip", "--env", "Pendulum-v1")


def test_trained(run, tmp_path, capsys):
    """A model that has learnt, without a stand-in: the end of an episode that its discount reaches is left out."""
    DDPG("MlpPolicy", "Pendulum-v1", learning_starts=50, batch_size=16, policy_kwargs=dict(net_arch=[8])).learn(80).save(
        tmp_path / "model.zip"
    )
    run("model.zip", "--env", "Pendulum-v1", "--episodes", 2, "--wrapper", "gymnasium.wrappers.FlattenObservation")
    out = capsys.readouterr().out
    assert "200 steps: correlation" in out
    assert "(200 steps near time limits left out)" in out
    assert (tmp_path / "q.png").stat().st_size > 1000
