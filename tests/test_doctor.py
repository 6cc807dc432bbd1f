"""Sick trainings, of which the doctor names the disease, and healthy ones, of which it says nothing."""

import argparse
import json
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
from gymnasium import spaces
from gymnasium.envs.classic_control.pendulum import PendulumEnv
from gymnasium.wrappers import NormalizeObservation, RescaleAction, TimeLimit, TransformObservation, TransformReward
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_ddpg_ext import DDPG, RecurrentDDPG
from sb3_ddpg_ext.doctor import CHECKS, PAGE, diagnose, examine, register
from sb3_ddpg_ext.doctor.episodes import at_random, play
from sb3_ddpg_ext.doctor.evidence import Evidence
from sb3_ddpg_ext.doctor.run_folder import read_progress, read_run, read_yaml

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
    """By our own hyperparameters, while they learn: of their files nothing looks wrong, and nearly everything was looked at."""
    diagnosis = diagnose(zoo_run(tmp_path, env_id, steps), trusted=True)
    assert diagnosis.findings == []
    assert diagnosis.unseen == []
    assert set(CHECKS) - set(diagnosis.made) <= {"evaluation-worse"}


@pytest.mark.slow
@pytest.mark.parametrize("env_id", ["Pendulum-v1", "MountainCarContinuous-v0"])
def test_healthy_to_the_end(env_id, tmp_path):
    """The whole training, with its evaluations."""
    diagnosis = diagnose(zoo_run(tmp_path, env_id, -1), trusted=True)
    assert diagnosis.findings == []
    assert diagnosis.made == list(CHECKS)
