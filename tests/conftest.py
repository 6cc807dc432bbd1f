"""What the test modules share, and ``--perturb``, which stands for another processor."""

import csv
import functools
import itertools
import signal
import threading
import zlib

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch as th
from gymnasium import spaces

from sb3_ddpg_ext import DDPG, native

th.set_num_threads(1)  # the tests run side by side
if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests press Ctrl-C, which `nohup make test &` would ignore

needs_library = pytest.mark.skipif(native.library("float") is None, reason="the package was installed without a C compiler")
FASTEST = "fused" if native.library("float") is None else "compiled"  # what learner="auto" takes for plain networks


def pytest_addoption(parser):
    group = parser.getgroup("perturbation")
    group.addoption("--perturb", type=float, metavar="SIZE", help="relative noise in each initial parameter, such as 1e-7")
    group.addoption("--perturb-seed", type=int, default=0, metavar="N", help="of that noise")


def pytest_configure(config):
    size, seed = config.getoption("--perturb"), config.getoption("--perturb-seed")
    for cls in (DDPG, sb3.TD3) if size else ():
        cls._setup_model = perturbing(cls._setup_model, size, seed)


def pytest_runtest_setup(item):
    if item.config.getoption("--perturb") and (mark := item.get_closest_marker("exact")):
        pytest.skip(f"not perturbed: {mark.kwargs['reason']}")


def perturbing(setup_model, size, seed):
    """``_setup_model``, and then the noise."""

    @functools.wraps(setup_model)
    def wrapped(model):
        setup_model(model)
        perturb(model.policy, size, seed)

    return wrapped


@th.no_grad()
def perturb(policy, size, seed):
    """
    Multiply each parameter by 1 plus noise that depends on the seed and on the parameter's name alone.

    So targets stay copies, two models that begin alike still do, also one of SB3, and no other random number changes.
    """
    seen = set()
    for net in ("actor", "critic"):
        for module in (getattr(policy, net), getattr(policy, f"{net}_target")):
            for name, parameter in module.named_parameters():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    generator = th.Generator().manual_seed(zlib.crc32(f"{seed} {net} {name}".encode()))
                    noise = th.randn(parameter.shape, generator=generator).to(parameter)
                    parameter.mul_(1 + size * noise)


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
def keep_float64(monkeypatch):
    """SB3 casts every observation to float32."""
    monkeypatch.setattr("stable_baselines3.common.policies.preprocess_obs", lambda obs, *args, **kwargs: obs)


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
