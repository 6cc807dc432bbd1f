"""What the test modules share."""

import csv
import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces

th.set_num_threads(1)  # the tests run side by side


class DictPendulum(gym.Wrapper):
    """Pendulum with its observation split into a dict of two boxes."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        low, high = env.observation_space.low, env.observation_space.high
        self.observation_space = spaces.Dict(
            {"angle": spaces.Box(low[:2], high[:2]), "velocity": spaces.Box(low[2:], high[2:])}
        )

    def _split(self, obs):
        return {"angle": obs[:2], "velocity": obs[2:]}

    def reset(self, **kwargs):
        obs, info = self.env.reset(**kwargs)
        return self._split(obs), info

    def step(self, action):
        obs, *rest = self.env.step(action)
        return self._split(obs), *rest


class CountingEnv(gym.Env):
    """Observation = (episode, step), reward = step. The rules of each episode, (length, how it ends), repeat."""

    def __init__(self, rules=((5, "terminated"),), low=-1.0, high=1.0):
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Box(np.atleast_1d(np.float32(low)), np.atleast_1d(np.float32(high)))
        self.rules = rules
        self.episode = -1
        self.actions = []

    def _obs(self):
        return np.array([self.episode, self.steps], dtype=np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode += 1
        self.steps = 0
        return self._obs(), {}

    def step(self, action):
        self.actions.append(np.array(action))
        self.steps += 1
        length, end = self.rules[self.episode % len(self.rules)]
        terminated, truncated = (self.steps >= length and end in (word, "both") for word in ("terminated", "truncated"))
        return self._obs(), float(self.steps), terminated, truncated, {}


@pytest.fixture
def dict_pendulum():
    return DictPendulum(gym.make("Pendulum-v1"))


FACTORS = {"noise": ["normal", "ou", "pink", "adaptive-param"], "critic_norm": ["none", "layer"]}


def write_study(folder, seeds=range(3), environments=("A-v0", "B-v0"), factors=FACTORS, grid=False, skip=()):
    """The CSV files of an experiment: returns grow with the configuration's number; ``skip``: (env, config, seed)."""
    names = list(factors)
    if grid:
        chosen = [dict(zip(names, levels, strict=True)) for levels in itertools.product(*factors.values())]
        configurations = {" ".join(f"{name}={level}" for name, level in levels.items()): levels for levels in chosen}
    else:
        base = {name: levels[0] for name, levels in factors.items()}
        changes = {f"{name}={level}": {name: level} for name, levels in factors.items() for level in levels[1:]}
        configurations = {"base": base} | {label: base | change for label, change in changes.items()}
    rng, runs, curves = np.random.default_rng(0), [], []
    for (e, env), (c, (label, levels)), seed in itertools.product(
        enumerate(environments), enumerate(configurations.items()), seeds
    ):
        if (env, label, seed) in skip:
            continue
        returns = 100 * e + 10 * c + np.linspace(0, 50, 4) + rng.normal(size=4)
        curves += [[env, label, seed, 100 * (i + 1), round(value, 3)] for i, value in enumerate(returns)]
        final, mean = round(returns[-1] + rng.normal(), 3), round(returns.mean(), 3)
        runs.append(["demo", env, label, *levels.values(), seed, final, 1.0, mean, mean, 0, 0, 9, 400, 50, 8, "{}", "{}"])
    rest = ["train_last10", "train_best100", "episodes", "steps", "steps_per_second", "seconds", "settings", "versions"]
    reached = ["mean_return", "sd_return", "last_evaluations", "area"]
    folder.mkdir(parents=True, exist_ok=True)
    for name, header, rows in (
        ("runs", ["study", "env", "config", *names, "seed", *reached, *rest], runs),
        ("curves", ["env", "config", "seed", "step", "mean_return"], curves),
    ):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])
    return folder
