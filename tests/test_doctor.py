"""Sick trainings, of which the doctor names the disease, and healthy ones, of which it says nothing."""

import argparse
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch as th
import yaml
from conftest import CountingEnv, DictPendulum
from gymnasium import spaces
from gymnasium.envs.classic_control.pendulum import PendulumEnv
from gymnasium.wrappers import NormalizeObservation, RescaleAction, TimeLimit, TransformObservation, TransformReward
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

from sb3_ddpg_ext import DDPG, RecurrentDDPG
from sb3_ddpg_ext.__main__ import main
from sb3_ddpg_ext.doctor import CHECKS, PAGE, diagnose, examine, register
from sb3_ddpg_ext.doctor.episodes import at_random, play
from sb3_ddpg_ext.doctor.run_folder import read_run

ROOT = Path(__file__).parents[1]
HEALTHY = dict(action_noise="normal_0.1", learning_starts=100, batch_size=64, policy_kwargs=dict(net_arch=[32, 32]), seed=0)
QUICK = {name: value for name, value in HEALTHY.items() if name != "seed"}
SICK = {}


def sick(name):
    """A decorator of what makes arguments for ``examine`` in which the check of this name, and no other, finds something."""

    def named(make):
        SICK.setdefault(name, []).append(make)
        return make

    return named


def trained(env="Pendulum-v1", steps=300, **changes):
    return DDPG("MlpPolicy", env, **(HEALTHY | changes)).learn(steps)


def scaled(factor, env=None):
    env = gym.make("Pendulum-v1") if env is None else env
    space = spaces.Box(-np.inf, np.inf, env.observation_space.shape, np.float32)
    return TransformObservation(env, lambda obs: np.float32(np.multiply(factor, obs)), space)


class NaNReward(gym.Wrapper):
    """Its 150th step goes wrong."""

    n = 0

    def step(self, action):
        self.n += 1
        obs, reward, *rest = self.env.step(action)
        return obs, np.nan if self.n == 150 else reward, *rest


class Terminating(gym.Wrapper):
    """A time limit that says it is an end."""

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, reward, terminated or truncated, False, info


class WithTime(gym.ObservationWrapper):
    """Shows the steps since the reset."""

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
        self.n = 0

    def reset(self, **kwargs):
        self.n = 0
        return super().reset(**kwargs)

    def step(self, action):
        self.n += 1
        return super().step(action)

    def observation(self, observation):
        return np.append(observation, np.float32(self.n / 200))


class Target(gym.Env):
    """Ten steps, each with a number to hit by the action, which is learnt in a few hundred of them."""

    observation_space, action_space = spaces.Box(-np.inf, np.inf, (1,), np.float32), spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, offset=0.0, factor=1.0):
        self.offset, self.factor = offset, factor

    def _observe(self):
        self.goal = self.np_random.uniform(-0.8, 0.8)
        return np.array([self.offset + self.factor * self.goal], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action):
        reward = -abs(float(action[0]) - self.goal)
        return self._observe(), reward, False, False, {}


@sick("environment-not-finite")
def nan_in_the_reward(folder):
    return dict(env=NaNReward(gym.make("Pendulum-v1")))


@sick("action-bounds")
def wide_bounds(folder):
    env = RescaleAction(gym.make("Pendulum-v1"), np.float32(-1e6), np.float32(1e6))
    return dict(what=trained(env), env=env)


@sick("action-bounds")
def lopsided_bounds(folder):
    env = RescaleAction(gym.make("Pendulum-v1"), np.float32(-1), np.float32(100))
    return dict(what=trained(env), env=env)


@sick("action-bounds")
def discrete_actions(folder):
    return dict(env="CartPole-v1")


@sick("observation-scale")
def large_observations(folder):
    return dict(what=trained(scaled(1000)), env=scaled(1000))


@sick("observation-scale")
def large_observations_in_the_replay_buffer(folder):
    return dict(what=trained(scaled(1000)))


@sick("observation-scale")
def tiny_observations(folder):
    return dict(what=trained(scaled(1e-3)), env=scaled(1e-3))


@sick("observation-scale")
def a_tiny_component(folder):
    return dict(env=scaled([1, 1, 1e-4]))


@sick("reward-scale")
def large_rewards(folder):
    env = TransformReward(gym.make("Pendulum-v1"), lambda reward: 1e4 * reward)
    return dict(what=trained(env), env=env)


@sick("reward-scale")
def tiny_rewards(folder):
    env = TransformReward(gym.make("Pendulum-v1"), lambda reward: 1e-5 * reward)
    return dict(what=trained(env), env=env)


@sick("time-limit-missing")
def without_limit(folder):
    return dict(what=trained(PendulumEnv()), env=PendulumEnv())


@sick("time-limit-as-end")
def limit_that_terminates(folder):
    env = Terminating(gym.make("Pendulum-v1"))
    return dict(what=trained(env), env=env)


@sick("time-limit-as-end")
def buffer_that_takes_limits_for_ends(folder):
    return dict(what=trained(replay_buffer_kwargs=dict(handle_timeout_termination=False)), env="Pendulum-v1")


@sick("no-noise")
def no_noise(folder):
    trained(action_noise=None).save(folder / "model")
    return dict(what=folder / "model.zip", env="Pendulum-v1")


@sick("no-noise")
def noise_of_sigma_zero(folder):
    trained(action_noise="normal_0").save(folder / "model")
    return dict(what=folder / "model", env="Pendulum-v1")


@sick("no-noise")
def noise_of_sb3_of_sigma_zero(folder):
    return dict(what=trained(action_noise=NormalActionNoise(np.zeros(1), np.zeros(1))))


@sick("learning-rate")
def learning_rate_of_zero(folder):
    return dict(what=trained(learning_rate=0.0), env="Pendulum-v1")


@sick("learning-rate")
def high_learning_rate_of_the_critic(folder):
    return dict(what=trained(steps=120, qf_learning_rate=0.1), env="Pendulum-v1")


@sick("learning-starts")
def too_short(folder):
    return dict(what=trained(learning_starts=1000), env="Pendulum-v1")


@sick("no-updates")
def no_gradient_steps(folder):
    return dict(what=trained(gradient_steps=0), env="Pendulum-v1")


@sick("no-updates")
def one_update_for_an_episode(folder):
    return dict(what=trained(steps=2400, train_freq=(1, "episode")), env="Pendulum-v1")


@sick("no-updates")
def log_without_updates(folder):
    model = DDPG("MlpPolicy", "Pendulum-v1", **(HEALTHY | dict(learning_starts=10_000)))
    model.set_logger(configure(str(folder), ["csv"]))
    model.learn(2400)
    return dict(what=folder)


@sick("buffer-too-small")
def buffer_of_less_than_an_episode(folder):
    return dict(what=trained(buffer_size=150, batch_size=8), env="Pendulum-v1")


@sick("buffer-too-small")
def buffer_of_two_minibatches(folder):
    return dict(what=trained(steps=600, buffer_size=512, batch_size=256), env="Pendulum-v1")


@sick("discount")
def short_sighted(folder):
    return dict(what=trained(gamma=0.5), env="Pendulum-v1")


@sick("discount")
def without_horizon(folder):
    return dict(what=trained(gamma=1.0), env="Pendulum-v1")


@sick("not-finite")
def nan_in_the_networks(folder):
    """Ours do not save such a model; Stable-Baselines3's does."""
    model = sb3.TD3("MlpPolicy", "Pendulum-v1", policy_kwargs=dict(net_arch=[8]))
    with th.no_grad():
        model.actor.mu[0].weight[0, 0] = np.nan
    model.save(folder / "model")
    return dict(what=folder / "model.zip", env="Pendulum-v1")


@sick("no-monitor")
def returns_of_nobody(folder):
    return dict(what=trained(DummyVecEnv([lambda: gym.make("Pendulum-v1")])), env="Pendulum-v1")


@sick("no-monitor")
def folder_without_monitor(folder):
    zoo_run(folder, **QUICK)
    (folder / "0.monitor.csv").unlink()
    return dict(what=folder)


@sick("stuck-actor")
def stuck(folder):
    """Observations too large by 300, and a scale of 1 again for the examination."""
    env = scaled(300)
    with pytest.warns(UserWarning, match="the actor has"):
        model = trained(env, steps=1300, learning_rate=3e-3)
    with th.no_grad():
        for net in (model.actor, model.critic):
            first = next(net.parameters())
            first[:, :3] *= 300
    return dict(what=model, env=scaled(1))


@sick("stuck-actor")
def log_of_a_stuck_actor(folder):
    model = DDPG("MlpPolicy", scaled(300), **(HEALTHY | dict(learning_rate=3e-3)))
    model.set_logger(configure(str(folder), ["csv"]))
    with pytest.warns(UserWarning, match="the actor has"):
        model.learn(2600, log_interval=1)
    return dict(what=folder)


@sick("dead-units")
def silenced_units(folder):
    """As one update of a huge rate leaves them."""
    model = trained()
    with th.no_grad():
        model.actor.mu[0].bias -= 100
    return dict(what=model, env="Pendulum-v1")


@sick("q-out-of-range")
def targets_of_the_wrong_sign(folder):
    policy_kwargs = HEALTHY["policy_kwargs"] | dict(target_q_range=(2000, 3000))  # Pendulum's rewards are negative
    return dict(what=trained(steps=800, gamma=0.9, learning_rate=3e-3, policy_kwargs=policy_kwargs), env="Pendulum-v1")


@sick("q-out-of-range")
def diverged_critic(folder):
    """As it is when the targets run away."""
    model = trained()
    with th.no_grad():
        model.critic.qf0[-1].bias += 1e5
    model.save(folder / "model")
    return dict(what=folder / "model.zip", env="Pendulum-v1")


@sick("vecnormalize-not-saved")
def killed_before_the_end(folder):
    zoo_run(folder, normalize=True, **QUICK)
    (folder / "Pendulum-v1" / "vecnormalize.pkl").unlink()
    return dict(what=folder)


@sick("vecnormalize-not-loaded")
def raw_environment(folder):
    return dict(what=trained(VecNormalize(DummyVecEnv([lambda: Monitor(gym.make("Pendulum-v1"))]))), env="Pendulum-v1")


@sick("vecnormalize-not-loaded")
def fresh_statistics(folder):
    envs = [VecNormalize(DummyVecEnv([lambda: Monitor(gym.make("Pendulum-v1"))])) for _ in range(2)]
    return dict(what=trained(envs[0]), env=envs[1])


@sick("evaluation-worse")
def evaluated_without_normalisation(folder):
    def make():
        return TimeLimit(Target(offset=20, factor=10), 10)

    env = Monitor(NormalizeObservation(make()), str(folder))
    model = DDPG("MlpPolicy", env, **(HEALTHY | dict(gamma=0.5, learning_rate=3e-3)))
    model.learn(1000, callback=EvalCallback(Monitor(make()), eval_freq=100, log_path=str(folder), verbose=0))
    return dict(what=folder)


CASES = [pytest.param(name, make, id=f"{name}-{make.__name__}") for name, makes in SICK.items() for make in makes]


@pytest.mark.parametrize(("name", "make"), CASES)
def test_sick(name, make, tmp_path):
    """The doctor names the disease and no other, shows a number, and says where to read on."""
    (finding,) = examine(**make(tmp_path))
    assert finding.name == name
    assert finding.link == f"{PAGE}#{name}"


def zoo_run(folder, env_id="Pendulum-v1", steps=300, **changes):
    """What ``rl_zoo3 train --algo ddpg_ext --env ENV -n STEPS -f ...`` leaves, moved to ``folder``."""
    from rl_zoo3.exp_manager import ExperimentManager

    from sb3_ddpg_ext.zoo import register as register_in_the_zoo

    register_in_the_zoo()
    args = argparse.Namespace(algo="ddpg_ext", env=env_id, seed=0, env_kwargs={}, gym_packages=[])
    logs = folder / "logs"
    manager = ExperimentManager(
        args, "ddpg_ext", env_id, str(logs), n_timesteps=steps, hyperparams=changes, seed=0, eval_freq=1000, verbose=0,
        log_interval=-1, device="cpu",
    )  # fmt: skip
    model, _ = manager.setup_experiment()
    manager.learn(model)
    manager.save_trained_model(model)
    run = logs / "ddpg_ext" / f"{env_id}_1"
    for path in run.iterdir():
        shutil.move(path, folder / path.name)
    shutil.rmtree(logs)
    return folder


@pytest.mark.parametrize(
    ("env_id", "steps"),
    [("Pendulum-v1", 2200), ("MountainCarContinuous-v0", 7000), ("Hopper-v5", 10_400)],
)
def test_healthy(env_id, steps, tmp_path):
    """By our own hyperparameters, while they learn: nothing looks wrong, and nearly everything was looked at."""
    diagnosis = diagnose(zoo_run(tmp_path, env_id, steps), trusted=True)
    assert diagnosis.findings == []
    assert diagnosis.unseen == []
    has_norms = {"observation-scale"} if env_id == "Hopper-v5" else set()  # whose scale the networks take care of
    assert set(CHECKS) - set(diagnosis.made) <= {"evaluation-worse"} | has_norms


@pytest.mark.slow
@pytest.mark.parametrize("env_id", ["Pendulum-v1", "MountainCarContinuous-v0"])
def test_healthy_to_the_end(env_id, tmp_path):
    """The whole training, with its evaluations."""
    diagnosis = diagnose(zoo_run(tmp_path, env_id, -1), trusted=True)
    assert diagnosis.findings == []
    assert diagnosis.made == list(CHECKS)


def test_every_check_has_a_sick_training():
    """And a section of the page, whose heading is its name, in the same order, with the four parts of a section."""
    assert set(SICK) == set(CHECKS)
    sections = re.findall(r"^## (\S+)\n\n(.*?)(?=^## |\Z)", (ROOT / PAGE).read_text(), re.MULTILINE | re.DOTALL)
    assert {name for name, _ in sections} == set(CHECKS)
    for name, text in sections:
        assert re.findall(r"^- \*\*(.*?):\*\*", text, re.MULTILINE) == ["In the log", "Cause", "Cure", "Command"], name


WELL = {
    "noise that falls to 0": lambda: dict(what=trained(action_noise="normal_lin_0.5_0", steps=250), env="Pendulum-v1"),
    "noise in the parameters": lambda: dict(what=trained(action_noise="adaptive-param_0.2"), env="Pendulum-v1"),
    "random actions mixed in": lambda: dict(what=trained(action_noise="epsilon_0.1"), env="Pendulum-v1"),
    "noise of SB3": lambda: dict(what=trained(action_noise=NormalActionNoise(np.zeros(1), np.ones(1))), env="Pendulum-v1"),
    "learning rate that falls to 0": lambda: dict(what=trained(learning_rate="lin_1e-3"), env="Pendulum-v1"),
    "not trained yet": lambda: dict(what=DDPG("MlpPolicy", "Pendulum-v1", **HEALTHY), env="Pendulum-v1"),
    "random steps only so far": lambda: dict(what=trained(steps=101), env="Pendulum-v1"),
    "bounds beside 0": lambda: dict(env=RescaleAction(gym.make("Pendulum-v1"), np.float32(0), np.float32(1))),
    "large observations, normalised": lambda: dict(what=trained(scaled(1000), policy_kwargs=NORMALISED), env=scaled(1000)),
    "large rewards, scaled": lambda: dict(what=trained(large_rewards_env(), policy_kwargs=SCALED), env=large_rewards_env()),
    "a constant component": lambda: dict(env=scaled([1, 1e-9, 1])),
    "rewards of 0": lambda: dict(env=TransformReward(gym.make("Pendulum-v1"), lambda reward: 0.0)),
    "time in the observation": lambda: dict(env=WithTime(Terminating(gym.make("Pendulum-v1")))),
    "episodes of one step": lambda: dict(env=Terminating(TimeLimit(PendulumEnv(), 1))),
    "its VecNormalize": lambda: under_vec_normalize(),
    "a memory": lambda: dict(what=RecurrentDDPG("MlpLstmPolicy", "Pendulum-v1", **RECURRENT).learn(60), env="Pendulum-v1"),
    "a Dict": lambda: dict(what=DDPG("MultiInputPolicy", in_keys(), **HEALTHY).learn(200), env=in_keys()),
    "a VecEnv of Monitors": lambda: dict(what=trained(DummyVecEnv([lambda: Monitor(gym.make("Pendulum-v1"))] * 3))),
}
NORMALISED, SCALED = (dict(net_arch=[32, 32]) | {name: True} for name in ("normalize_observations", "scale_returns"))
RECURRENT = dict(action_noise="normal_0.1", learning_starts=30, batch_size=4, policy_kwargs=dict(net_arch=[8]), seed=0)


def large_rewards_env():
    return TransformReward(gym.make("Pendulum-v1"), lambda reward: 1e4 * reward)


def under_vec_normalize():
    env = VecNormalize(DummyVecEnv([lambda: Monitor(scaled(1000))]))
    return dict(what=trained(env), env=env)


def in_keys():
    return DictPendulum(gym.make("Pendulum-v1"))


@pytest.mark.parametrize("make", WELL.values(), ids=WELL)
def test_no_false_alarm(make):
    """What looks like a disease and is none."""
    assert examine(**make()) == []


class BangBang(nn.Module):
    """Full force by the sign of the velocity, different from state to state."""

    def forward(self, features):
        return features[:, 2:].sign() * 20


def test_bang_bang_is_not_stuck():
    """An actor at its bounds, first with units that are all alive, in a model with enough updates."""
    model = trained(steps=1200, policy_kwargs=dict(net_arch=[4]))
    model.actor.mu = nn.Sequential(BangBang(), nn.Tanh())
    assert [finding.name for finding in examine(model, "Pendulum-v1")] == ["stuck-actor"]  # flat everywhere: it learns no more
    model.actor.mu = nn.Sequential(BangBang(), nn.Hardtanh(-0.995, 0.995))
    assert examine(model, "Pendulum-v1") == []


def test_vec_normalize_is_left_as_it_was():
    """Its statistics do not move by being looked at."""
    given = under_vec_normalize()
    before = given["env"].obs_rms.mean.copy(), given["env"].obs_rms.count, given["env"].training
    examine(**given)
    after = given["env"].obs_rms.mean, given["env"].obs_rms.count, given["env"].training
    np.testing.assert_array_equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_goes_on_as_if_it_had_not_been_looked_at():
    """With an environment of its own, the examination of a model changes neither its parameters nor its random numbers."""
    actions = []
    for looks in (False, True):
        model = trained(steps=200)
        if looks:
            examine(model, "Pendulum-v1")
        model.learn(100, reset_num_timesteps=False)
        actions.append(model.predict(np.array([1, 0, 0.5], np.float32))[0])
    np.testing.assert_array_equal(*actions)


def test_same_seed_same_findings():
    """The numbers in the symptoms too."""
    assert examine(env=scaled(1000), seed=3) == examine(env=scaled(1000), seed=3) != examine(env=scaled(1000), seed=4)


def test_episodes():
    """Lengths, what ended them, and returns; the last episode has not ended."""
    env = DummyVecEnv([lambda: CountingEnv([(3, "terminated"), (2, "truncated")])])
    played = play(env, at_random(env), 9)
    assert (played.ends, played.lengths, played.is_cut) == ([3, 5, 8], [3, 2, 3], [False, True, False])
    np.testing.assert_array_equal(played.observations[:, 1], [0, 1, 2, 0, 1, 0, 1, 2, 0])
    np.testing.assert_allclose(played.returns(0.5)[0], [1 + 2 / 2 + 3 / 4, 2 + 3 / 2, 3])
    assert played.limit is None
    with pytest.raises(ValueError, match="num_envs=2 must be 1"):
        play(DummyVecEnv([CountingEnv] * 2), at_random(env))


def test_check_of_ones_own():
    """It is asked with the evidence that its arguments name, and left out without it; a name is given once."""
    mine = register("many-steps", "cause", "cure")
    try:
        mine.by(lambda training: f"{training.lengths.sum():.0f} steps" if training.lengths.sum() > 100 else None)
        assert [finding.symptom for finding in examine(trained(), "Pendulum-v1")] == ["200 steps"]
        assert "many-steps" not in diagnose(env="Pendulum-v1").made
        with pytest.raises(ValueError, match="name='many-steps' must not be taken"):
            register("many-steps", "cause", "cure")
    finally:
        del CHECKS["many-steps"]


@pytest.fixture(scope="module")
def normalised(tmp_path_factory):
    return zoo_run(tmp_path_factory.mktemp("run"), normalize=True, **QUICK)


def test_pickles_are_opened_for_those_who_trust(normalised):
    """Without trust what the model does is left out and said to be; with it, everything is looked at."""
    wary, trusting = diagnose(normalised), diagnose(normalised, trusted=True)
    assert wary.findings == trusting.findings == []
    assert "vecnormalize.pkl: a pickle" in wary.unseen[0].replace(" is", ":")
    assert trusting.unseen == []
    assert set(trusting.made) - set(wary.made) == {"observation-scale", "stuck-actor", "dead-units", "q-out-of-range"}


def test_model_in_its_folder(normalised):
    """The file alone leads to the same."""
    assert diagnose(normalised / "Pendulum-v1.zip", trusted=True) == diagnose(normalised, trusted=True)


def test_folder_runs_no_code(normalised, tmp_path):
    """YAML that asks for a function, a pickle in the place of statistics, a wrapper, a package: nothing of it is run."""
    folder = tmp_path / "run"
    shutil.copytree(normalised, folder)
    own, ran = folder / "Pendulum-v1", tmp_path / "ran"
    trap = f"!!python/object/apply:os.mkdir [{ran}]"
    (own / "args.yml").write_text(f"trap: {trap}\nenv: Pendulum-v1\n")
    (own / "vecnormalize.pkl").write_bytes(pickle.dumps(Touching(ran)))
    (own / "config.yml").write_text("env_wrapper: antigravity.fly\n")
    yaml.unsafe_load((own / "args.yml").read_text())
    assert ran.exists(), "the trap is one"
    ran.rmdir()
    diagnosis = diagnose(folder)
    assert not ran.exists()
    assert "antigravity" not in sys.modules
    assert any("env_wrapper" in text and "--trusted" in text for text in diagnosis.unseen)


class Touching:
    """Its pickle makes a file when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_files_of_sb3(tmp_path):
    """They are pickles: refused, and examined for those who trust them."""
    sb3.DDPG("MlpPolicy", "Pendulum-v1", learning_starts=1000, policy_kwargs=dict(net_arch=[8])).learn(300).save(
        tmp_path / "theirs"
    )
    with pytest.raises(ValueError, match=r"theirs.zip: a pickle, which can run any code and was not opened; --trusted"):
        examine(tmp_path / "theirs.zip", "Pendulum-v1")
    found = examine(tmp_path / "theirs.zip", "Pendulum-v1", trusted=True)
    assert [finding.name for finding in found] == ["no-noise", "learning-starts"]


class OwnNoise(NormalActionNoise):
    """Of a user's class, which no file of ours holds without a pickle."""


def test_noise_that_is_a_pickle(tmp_path):
    """The rest of the model is looked at without it."""
    noise = OwnNoise(np.zeros(1), np.zeros(1), dtype=np.float32)
    trained(action_noise=noise).save(tmp_path / "model")
    diagnosis = diagnose(tmp_path / "model.zip", "Pendulum-v1")
    assert diagnosis.findings == []
    assert "action_noise" in diagnosis.unseen[0]
    assert "no-noise" not in diagnosis.made
    assert [finding.name for finding in examine(tmp_path / "model.zip", "Pendulum-v1", trusted=True)] == ["no-noise"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(), "what=None and env=None"),
        (dict(what="nowhere"), "what='nowhere' must be the file of a model"),
        (dict(env="Nothing-v0"), "env='Nothing-v0' must be"),
        (dict(env=gym.make("Pendulum-v1"), env_kwargs=dict(g=9.81)), "is for the id of an environment"),
        (dict(what=ROOT / "docs"), "must have a model"),
        (dict(what=ROOT / "setup.cfg"), "must be a file that save has written"),
    ],
    ids=["nothing", "no file", "no environment", "arguments of an object", "no folder", "no model"],
)
def test_refused(given, message):
    """With what is allowed."""
    with pytest.raises(ValueError, match=message):
        examine(**given)


def test_another_environment():
    """Than the model's."""
    with pytest.raises(ValueError, match="env has the observation_space"):
        examine(trained(steps=10), "MountainCarContinuous-v0")


@pytest.mark.parametrize("text", ["", "l\n", '#{"t_start": 0}\nr,l\n', '#{"t_start": 0}\nr,l,t\n1,two,3\n'])
def test_damaged_monitor(text, tmp_path):
    """It is named."""
    (tmp_path / "0.monitor.csv").write_text(text)
    with pytest.raises(ValueError, match=r"0.monitor.csv' must be a file of Monitor"):
        read_run(tmp_path)


def test_files_that_are_still_written(tmp_path):
    """A last line that is not whole is left out; empty files say nothing."""
    (tmp_path / "0.monitor.csv").write_text('#{"t_start": 5}\nr,l,t\n1.5,10,2\n2,1')
    (tmp_path / "1.monitor.csv").write_text('#{"t_start": 4}\nr,l,t\n7,20,1\n')
    (tmp_path / "progress.csv").write_text("")
    run = read_run(tmp_path)
    assert (run.training.returns.tolist(), run.training.lengths.tolist(), run.progress) == ([7, 1.5], [20, 10], None)
    (tmp_path / "progress.csv").write_text("a,b\n1,\n2,x\n")
    np.testing.assert_equal(read_run(tmp_path).progress, dict(a=np.array([1.0, 2]), b=np.array([np.nan, np.nan])))


def doctor(*words):
    command = [sys.executable, "-m", "sb3_ddpg_ext", "doctor", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"})


@pytest.mark.slow
def test_command(tmp_path):
    """What is printed, and the exit status: 0 for nothing, 1 for a finding, 2 for what cannot be looked at."""
    trained(gamma=0.5).save(tmp_path / "model")
    well, ill = (
        doctor(tmp_path / "model.zip"),
        doctor(tmp_path / "model.zip", "--env", "Pendulum-v1", "--env-kwargs", "g:9.81"),
    )
    assert (well.returncode, ill.returncode, doctor("--env", "Nothing-v0").returncode) == (0, 1, 2)
    assert "model.zip: nothing looks wrong" in well.stdout
    assert "Not looked at:\n  - what happens in the environment; --env" in well.stdout
    for part in ("model.zip: 1 thing looks wrong", "seen   gamma=0.5 looks 2 steps ahead", "more   docs/doctor.md#discount"):
        assert part in ill.stdout


def test_command_for_programs(monkeypatch, capsys, tmp_path):
    """The same as JSON, and nothing else, also of a model that talks."""
    path = tmp_path / "model.zip"
    trained(gamma=0.5, verbose=1).save(path)
    monkeypatch.setattr(sys, "argv", ["sb3_ddpg_ext", "doctor", str(path), "--env", "Pendulum-v1", "--json"])
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main()
    report = json.loads(capsys.readouterr().out)
    diagnosis = diagnose(path, "Pendulum-v1")
    assert (left.value.code, report["examined"]) == (1, str(path))
    assert report["findings"] == [finding._asdict() for finding in diagnosis.findings]
    assert [finding["name"] for finding in report["findings"]] == ["discount"]
    assert (report["checks"], report["not_looked_at"]) == (diagnosis.made, [])
