"""A training that goes on from a checkpoint is the one that was never stopped."""

import gc
import json
import os
import random
import signal
import subprocess
import sys
import time
import warnings
import zipfile
from collections import deque

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.envs.classic_control import PendulumEnv
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack, VecNormalize

from sb3_ddpg_ext import DDPG, RecurrentDDPG, checkpoint
from sb3_ddpg_ext.buffers import HindsightReplayBuffer
from sb3_ddpg_ext.checkpoint import ExactCheckpoint, resume
from sb3_ddpg_ext.checkpoints import environment_state, restore_environment
from sb3_ddpg_ext.packing import Packer, read_packed, write_packed
from sb3_ddpg_ext.wrappers import Resumable

try:
    import pygame
except ImportError:
    pygame = None

SMALL = dict(batch_size=16, learning_starts=30, buffer_size=150, device="cpu", seed=3)
TOTAL, EVERY = 260, 100


def pendulum(n=1, **kwargs):
    return lambda: make_vec_env("Pendulum-v1", n, **kwargs)


def flipping(n=2):
    return lambda: make_vec_env(lambda: BitFlippingEnv(n_bits=3, continuous=True, max_steps=5), n)


def sb3_noise(n_dims=1):
    return OrnsteinUhlenbeckActionNoise(np.zeros(n_dims), 0.2 * np.ones(n_dims))


SEQUENCES = dict(sequence_length=5, overlap=2)
RECURRENT = dict(policy="MlpLstmPolicy", batch_size=4, policy_kwargs=dict(critic_loss="huber"))
CASES = {
    "plain": (pendulum(), {}),
    "eager, TD3": (pendulum(), dict(learner="eager", policy_delay=2, target_policy_noise=0.2)),
    "noise in actions and parameters": (pendulum(2), dict(action_noise="ou_0.2,adaptive-param_0.2")),
    "pink noise": (pendulum(), dict(action_noise="pink_0.3")),
    "schedules": (pendulum(), dict(action_noise="normal_lin_0.5_0.05,epsilon_0.1", learning_rate="lin_1e-3")),
    "noise of SB3": (pendulum(), dict(action_noise=sb3_noise())),
    "noise of SB3, two environments": (pendulum(2), dict(action_noise=sb3_noise())),
    "priorities, n steps": (pendulum(), dict(n_steps=3, replay_buffer_kwargs=dict(sampling="prioritized"))),
    "statistics in the model": (pendulum(2), dict(policy_kwargs=dict(normalize_observations=True, scale_returns=True))),
    "VecNormalize": (lambda: VecNormalize(make_vec_env("Pendulum-v1", 2)), {}),
    "stacked observations": (lambda: VecFrameStack(make_vec_env("Pendulum-v1", 2), 3), {}),
    "whole episodes": (pendulum(), dict(train_freq=(1, "episode"), gradient_steps=10)),
    "hindsight": (flipping(), dict(policy="MultiInputPolicy", replay_buffer_class=HindsightReplayBuffer)),
    "hindsight of SB3": (flipping(), dict(policy="MultiInputPolicy", replay_buffer_class=HerReplayBuffer)),
    "buffer of SB3": (pendulum(), dict(replay_buffer_class=ReplayBuffer)),
    "folder": (pendulum(2), dict(buffer_size=2000, replay_buffer_kwargs=dict(path="FOLDER", sampling="prioritized"))),
    "LSTM": (
        pendulum(2),
        dict(policy="MlpLstmPolicy", batch_size=4, replay_buffer_kwargs=SEQUENCES | dict(stored_state=True)),
    ),
    "GRU": (
        pendulum(),
        dict(policy="MlpGruPolicy", batch_size=4, replay_buffer_kwargs=SEQUENCES | dict(sampling="prioritized")),
    ),
    "processes": (pendulum(2, wrapper_class=Resumable, vec_env_cls=SubprocVecEnv), {}),
}


def build(case, folder):
    make_env, given = CASES[case]
    kwargs = SMALL | given
    policy = kwargs.pop("policy", "MlpPolicy")
    replay = dict(kwargs.pop("replay_buffer_kwargs", {}))
    if "path" in replay:
        replay["path"] = folder
    kwargs["policy_kwargs"] = dict(net_arch=[8, 8]) | kwargs.get("policy_kwargs", {})
    cls = RecurrentDDPG if "Lstm" in policy or "Gru" in policy else DDPG
    return cls(policy, make_env(), replay_buffer_kwargs=replay, **kwargs)


def everything_of(model):
    """All numbers that a training ends with."""
    arrays = [value.numpy().copy() for value in model.policy.state_dict().values() if isinstance(value, th.Tensor)]
    for optimizer in (model.actor.optimizer, model.critic.optimizer):
        states = optimizer.state_dict()["state"].values()
        arrays += [value.numpy().copy() for state in states for value in state.values()]
    buffer = model.replay_buffer
    arrays += [np.array(part) for part in (buffer.rewards, buffer.actions, np.random.get_state()[1], th.get_rng_state())]
    last = model._last_obs
    return arrays + [np.array(part) for part in (last.values() if isinstance(last, dict) else [last])]


@pytest.mark.parametrize("case", CASES)
def test_the_same_to_the_last_bit(case, tmp_path):
    """Networks, optimisers, replay buffer, random streams and evaluations, whatever runs in between."""
    make_env = CASES[case][0]

    def callbacks(folder):
        return [EvalCallback(make_env(), eval_freq=37, n_eval_episodes=1, verbose=0), ExactCheckpoint(folder, EVERY, keep=9)]

    model = build(case, tmp_path / "folder")
    first = callbacks(tmp_path / "checkpoints")
    expected = everything_of(model.learn(TOTAL, callback=first))
    best = first[0].best_mean_reward
    model.env.close()
    del model, first
    gc.collect()
    found = sorted((tmp_path / "checkpoints").iterdir(), key=lambda path: int(path.stem.split("_")[1]))
    assert len(found) >= 2
    np.random.seed(1)
    th.manual_seed(1)
    again = callbacks(tmp_path / "again")
    model = resume(found[0], make_env(), trusted=True)
    assert model.num_timesteps < TOTAL
    for one, other in zip(expected, everything_of(model.learn(TOTAL, callback=again)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert again[0].best_mean_reward == best
    model.env.close()


def test_the_log_goes_on(tmp_path):
    """Means of losses, of episodes, and counts are those of the whole training."""
    rows = {}
    for name in ("whole", "resumed"):
        if name == "whole":
            model = DDPG("MlpPolicy", pendulum()(), policy_kwargs=dict(net_arch=[8]), **SMALL)
        else:
            model = resume(tmp_path / "c" / "checkpoint_250_steps.zip", pendulum()())
        model.learn(650, log_interval=1, callback=ExactCheckpoint(tmp_path / "c", 250, keep=9))
        rows[name] = {key: value for key, value in model.logger.name_to_value.items() if "time/" not in key}
    assert rows["whole"].keys() == rows["resumed"].keys()
    assert {"train/critic_loss", "train/n_updates"} <= rows["whole"].keys()
    assert rows["whole"] == rows["resumed"]


PROGRAM = """
import sys, numpy as np, torch as th
from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.checkpoint import ExactCheckpoint, resume
from pathlib import Path
th.set_num_threads(1)
folder, total = Path(sys.argv[1]), int(sys.argv[2])
try:
    model = resume(folder, "Pendulum-v1")
    print("begun", model.num_timesteps, flush=True)
except FileNotFoundError:
    model = DDPG("MlpPolicy", "Pendulum-v1", policy_kwargs=dict(net_arch=[8]), batch_size=16, learning_starts=30, seed=3,
                 buffer_size=5000, action_noise="pink_0.3", replay_buffer_kwargs=eval(sys.argv[3]), device="cpu")
    print("begun", 0, flush=True)
model.learn(total, callback=ExactCheckpoint(folder, 100))
print("ended", sum(p.double().sum().item() for p in model.policy.parameters()), model.num_timesteps)
"""


def run(folder, total, kwargs="{}", **popen):
    command = [sys.executable, "-W", "error::UserWarning:sb3_ddpg_ext", "-c", PROGRAM, str(folder), str(total), kwargs]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, **popen)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_kills(kind, tmp_path):
    """A program that is killed again and again ends with the same networks as one that is left alone."""
    kwargs = {name: "{}" if kind == "memory" else repr(dict(path=str(tmp_path / name))) for name in ("whole", "killed")}
    expected = run(tmp_path / "c_whole", 4500, kwargs["whole"]).communicate()[0].splitlines()[-1]
    rng, begun, rest = np.random.default_rng(0), [], ""
    while not rest:
        process = run(tmp_path / "c_killed", 4500, kwargs["killed"], start_new_session=True)
        begun.append(int(process.stdout.readline().split()[1]))
        time.sleep(rng.uniform(0.1, 0.5))
        if process.poll() is None and len(begun) < 10:
            os.killpg(process.pid, signal.SIGKILL)
        rest = process.communicate()[0]
    assert rest.splitlines()[-1] == expected
    assert len(begun) > 2
    assert begun == sorted(begun)


class Clock(gym.Env):
    """Cannot be pickled."""

    observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Box(-1, 1, (1,))

    def __init__(self):
        self.n, self.lock = 0, __import__("threading").Lock()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.n += 1
        return np.full(1, self.n / 20, np.float32), 1.0, False, self.n == 20, {}


class Talking(Clock):
    """Cannot be pickled, and says its state."""

    def get_state(self):
        return {"n": self.n}

    def set_state(self, state):
        self.n = state["n"]


def test_what_cannot_go_on_exactly_is_said(tmp_path):
    """The episode is begun anew; nothing is stored that did not happen."""
    model = DDPG("MlpPolicy", Clock(), policy_kwargs=dict(net_arch=[8]), **SMALL)
    model.learn(35)
    reasons = checkpoint.save(model, tmp_path / "c")
    assert len(reasons) == 1
    assert "Clock cannot be pickled" in reasons[0]
    with pytest.warns(UserWarning, match="does not go on exactly: the state of .*Clock"):
        loaded = resume(tmp_path / "c.zip", Clock())
    loaded.learn(60)
    follows = loaded.replay_buffer.next_observations[:60, 0, 0]
    np.testing.assert_allclose(follows[34:37], [15 / 20, 1 / 20, 2 / 20], rtol=1e-6)


def test_an_environment_with_a_state_of_its_own(tmp_path):
    """It is asked."""
    model = DDPG("MlpPolicy", Talking(), policy_kwargs=dict(net_arch=[8]), **SMALL).learn(35)
    assert checkpoint.save(model, tmp_path / "c") == []
    loaded = resume(tmp_path / "c.zip", Talking()).learn(37)
    np.testing.assert_allclose(loaded.replay_buffer.next_observations[35:37, 0, 0], [16 / 20, 17 / 20], rtol=1e-6)


def test_processes_without_a_door_are_said(tmp_path):
    model = DDPG("MlpPolicy", pendulum(2, vec_env_cls=SubprocVecEnv)(), policy_kwargs=dict(net_arch=[8]), **SMALL)
    assert "wrap each of them in sb3_ddpg_ext.wrappers.Resumable" in checkpoint.save(model, tmp_path / "c")[0]
    model.env.close()


def test_a_state_outside_python_is_not_taken():
    """As that of PyBullet, of which a pickle has only the number."""
    env = pendulum()()
    outside = type("BulletClient", (), {"__module__": "pybullet_utils.bullet_client"})
    module = type(sys)("pybullet_utils.bullet_client")
    module.BulletClient = outside
    sys.modules.update({"pybullet_utils": type(sys)("pybullet_utils"), module.__name__: module})
    try:
        env.envs[0].unwrapped.physics = outside()
        with pytest.raises(ValueError, match="is outside Python, in pybullet_utils"):
            environment_state(env)
    finally:
        del sys.modules["pybullet_utils"], sys.modules["pybullet_utils.bullet_client"]


def test_other_environments_are_refused(tmp_path):
    model = DDPG("MlpPolicy", pendulum()(), policy_kwargs=dict(net_arch=[8]), **SMALL)
    checkpoint.save(model, tmp_path / "c")
    with pytest.raises(ValueError, match="must be made of what it was when it was saved"):
        resume(tmp_path / "c.zip", VecNormalize(pendulum()()))


def test_classes_that_have_moved():
    """Older checkpoints name the module in which they were."""
    model = DDPG("MlpPolicy", "Pendulum-v1", policy_kwargs=dict(net_arch=[8]), **SMALL)
    state = environment_state(model.env)
    older = [name.replace("env_checks.ShapeCheck", "validation.ShapeCheck") for name in state.layers]
    assert older != state.layers
    restore_environment(model.env, state._replace(layers=older))


def test_rotation(tmp_path):
    """``keep`` of them stay; a torn one is passed over."""
    model = DDPG("MlpPolicy", pendulum()(), policy_kwargs=dict(net_arch=[8]), **SMALL)
    model.learn(75, callback=ExactCheckpoint(tmp_path, every=20, keep=2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint_60_steps.zip", "checkpoint_75_steps.zip"]
    newest = tmp_path / "checkpoint_75_steps.zip"
    newest.write_bytes(newest.read_bytes()[:-100])
    assert resume(tmp_path, pendulum()()).num_timesteps == 60
    with pytest.raises(FileNotFoundError, match="must be a checkpoint, or a folder with one"):
        resume(tmp_path / "nothing", pendulum()())
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match="must be a checkpoint; it is another file"):
        resume(tmp_path / "model.zip", pendulum()())


def test_a_checkpoint_is_a_model(tmp_path):
    """It can be loaded to act, and says how much is left."""
    model = DDPG("MlpPolicy", pendulum()(), policy_kwargs=dict(net_arch=[8]), **SMALL).learn(50)
    checkpoint.save(model, tmp_path / "c")
    obs = np.array([[1.0, 0.0, 0.5]], np.float32)
    np.testing.assert_array_equal(
        DDPG.load(tmp_path / "c").predict(obs, deterministic=True)[0], model.predict(obs, deterministic=True)[0]
    )
    assert resume(tmp_path / "c.zip", pendulum()()).learn().num_timesteps == 50
    assert resume(tmp_path / "c.zip", pendulum()()).learn(20, reset_num_timesteps=False).num_timesteps == 70


@pytest.mark.parametrize("n_more", [10, 60, 120])
def test_a_full_folder_says_what_it_has_lost(n_more, tmp_path):
    """Its oldest transitions, which newer ones have taken the place of, also if it is at the same position again."""
    kwargs = SMALL | dict(buffer_size=60, replay_buffer_kwargs=dict(path=tmp_path / "folder"))
    model = DDPG("MlpPolicy", pendulum()(), policy_kwargs=dict(net_arch=[8]), **kwargs).learn(80)
    checkpoint.save(model, tmp_path / "c")
    model.learn(n_more, reset_num_timesteps=False)
    del model
    with pytest.warns(UserWarning, match="has overwritten, or lost, transitions"):
        assert resume(tmp_path / "c.zip", pendulum()()).replay_buffer.full


def test_a_folder_of_another_training(tmp_path):
    """Is not taken for that of the checkpoint, though it has as many transitions."""
    kwargs = SMALL | dict(replay_buffer_kwargs=dict(path=tmp_path / "folder"))
    model = DDPG("MlpPolicy", pendulum()(), policy_kwargs=dict(net_arch=[8]), **kwargs).learn(40)
    checkpoint.save(model, tmp_path / "c")
    model.replay_buffer.reset()
    model.learn(50)
    del model
    with pytest.warns(UserWarning, match="has overwritten, or lost, transitions"):
        resume(tmp_path / "c.zip", pendulum()())


def test_a_folder_that_went_another_way(tmp_path):
    """It has as many transitions, but others; what was there before the parting is there still."""
    build = pendulum()
    kwargs = SMALL | dict(replay_buffer_kwargs=dict(path=tmp_path / "folder"), policy_kwargs=dict(net_arch=[8]))
    model = DDPG("MlpPolicy", build(), **kwargs).learn(30)
    for name, n in (("a", 10), ("b", 30), ("c", 30)):
        model.learn(n, reset_num_timesteps=False)
        assert checkpoint.save(model, tmp_path / name) == []
    del model
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = resume(tmp_path / "b.zip", build())
    model.learn(50, reset_num_timesteps=False)  # past "c", otherwise
    checkpoint.save(model, tmp_path / "d")
    rewards = model.replay_buffer.rewards[:40].copy()
    del model
    with pytest.warns(UserWarning, match="has overwritten, or lost, transitions"):
        resume(tmp_path / "c.zip", build())
    for name in ("d", "b", "a"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = resume(tmp_path / f"{name}.zip", build())
        np.testing.assert_array_equal(model.replay_buffer.rewards[:40], rewards)
        del model
    with pytest.warns(UserWarning, match="has overwritten, or lost, transitions"):
        resume(tmp_path / "d.zip", build())


def test_a_checkpoint_after_a_folder_was_loaded_into(tmp_path):
    """Is exact, also before anything is added."""
    kwargs = SMALL | dict(policy_kwargs=dict(net_arch=[8]))
    DDPG("MlpPolicy", pendulum()(), **kwargs).learn(40).save_replay_buffer(tmp_path / "buffer")
    model = DDPG("MlpPolicy", pendulum()(), replay_buffer_kwargs=dict(path=tmp_path / "folder"), **kwargs)
    model.load_replay_buffer(tmp_path / "buffer")
    checkpoint.save(model, tmp_path / "c")
    del model
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resume(tmp_path / "c.zip", pendulum()()).replay_buffer.size() == 40


class Rising(BaseCallback):
    """Counts the steps, and has a lock, which no file can hold."""

    def __init__(self):
        super().__init__()
        self.count, self.lock = 0, __import__("threading").Lock()

    def _on_step(self):
        self.count += 1
        return True


class Refusing(PendulumEnv):
    """Knows its state, and raises when it is to take one over."""

    def get_state(self):
        return {}

    def set_state(self, state):
        raise RuntimeError("no simulator here")


class Watching(BaseCallback):
    """Has environments of its own."""

    def __init__(self, env):
        super().__init__()
        self.own_env = env

    def _on_step(self):
        return True


def test_errors_of_environments_are_theirs(tmp_path):
    """And no damage of the file; what cannot be the state of callbacks is."""

    model = DDPG("MlpPolicy", pendulum()(), policy_kwargs=dict(net_arch=[8]), **SMALL)
    first, second = (Watching(DummyVecEnv([Refusing])) for _ in range(2))
    checkpoint.save(model, tmp_path / "c", first)
    with pytest.raises(RuntimeError, match=r"^no simulator here"):
        resume(tmp_path / "c.zip", pendulum()()).learn(10, callback=second)
    with zipfile.ZipFile(tmp_path / "c.zip") as old, zipfile.ZipFile(tmp_path / "d.zip", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(
                name, content.replace(b'"callbacks", [', b'"callbacks", [3, ') if name.endswith("e.json") else content
            )
    with pytest.raises(ValueError, match=r"d\.zip.*undamaged"):
        resume(tmp_path / "d.zip", pendulum()()).learn(10, callback=Rising())


@pytest.mark.parametrize("trusted", [None, True, False])
def test_long_lists_are_read_again(trusted, tmp_path, monkeypatch):
    """Only what is repeated is bounded; what the whole repeats too often is said, and is read if the file is trusted."""
    monkeypatch.setattr("sb3_ddpg_ext.packing.archive.MOST_PARTS", 1000)
    model = DDPG("MlpPolicy", pendulum()(), policy_kwargs=dict(net_arch=[8]), **SMALL)
    long, again = Watching(list(range(3000))), Watching(None)
    assert checkpoint.save(model, tmp_path / "c", long) == []
    resume(tmp_path / "c.zip", pendulum()(), trusted=trusted).learn(5, callback=again)
    assert again.own_env == long.own_env
    repeated = Watching(list(range(600)))
    repeated.second = repeated.third = repeated.own_env
    (reason,) = checkpoint.save(model, tmp_path / "d", repeated)
    assert "only be read with trusted=True (it must have at most 1000 parts once more" in reason
    if trusted:
        with pytest.warns(UserWarning, match=r"with trusted=True \(it must"):
            resume(tmp_path / "d.zip", pendulum()(), trusted=True).learn(5, callback=again)
        assert again.second is again.third
        assert len(again.third) == 600
    else:
        with pytest.raises(ValueError, match=r"d\.zip.*at most 1000 parts"):
            resume(tmp_path / "d.zip", pendulum()(), trusted=trusted)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    """Is no other file: the error of the system says what is wrong."""
    checkpoint.save(DDPG("MlpPolicy", pendulum()(), policy_kwargs=dict(net_arch=[8]), **SMALL), tmp_path / "c")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "c.zip")

    monkeypatch.setattr("sb3_ddpg_ext.files.open_path", refuse)
    with pytest.raises(PermissionError):
        resume(tmp_path / "c.zip", pendulum()())


def test_callbacks_go_on(tmp_path):
    """With what of them can be kept; the rest is said."""
    model = DDPG("MlpPolicy", pendulum()(), policy_kwargs=dict(net_arch=[8]), **SMALL)
    with pytest.warns(UserWarning, match=r"will not go on exactly: Rising.lock"):
        model.learn(50, callback=[Rising(), ExactCheckpoint(tmp_path, 40, keep=9)])
    counting = Rising()
    with pytest.warns(UserWarning, match="exactly"):
        resume(tmp_path / "checkpoint_40_steps.zip", pendulum()()).learn(50, callback=[counting, ExactCheckpoint(tmp_path)])
    assert counting.count == 50


class Anew(BaseCallback):
    """Knows something from the second step on, and draws when a rollout begins."""

    def _on_rollout_start(self):
        th.rand(1)
        self.model.actor.mu[0].bias.data.add_(1e-3)

    def _on_step(self):
        self.seen = getattr(self, "seen", 0) + 1
        return True


class Sharing(gym.Env):
    """Two arrays lie in the same memory, one list is known by two names; with a lock that it can be rid of."""

    observation_space, action_space = spaces.Box(-np.inf, np.inf, (2,)), spaces.Box(-1, 1, (1,))

    def __init__(self, is_pickled=False):
        self.memory, self.names = np.zeros(4), [0]
        self.part, self.others = self.memory[1:3], self.names
        self.random = random.Random(0) if is_pickled else None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.part.astype(np.float32), {}

    def step(self, action):
        self.memory += 0.01 * float(action[0])
        self.names[0] += 1
        return self.part.astype(np.float32), float(self.others[0] % 3), False, self.others[0] % 20 == 0, {}


def run_with(make_env, make_callbacks, folder, resumed_from=None, **kwargs):
    callbacks = [*make_callbacks(), ExactCheckpoint(folder, 50, keep=9), *make_callbacks()]
    if resumed_from is not None:
        model = resume(resumed_from, make_env(), trusted=True)
    else:
        model = DDPG("MlpPolicy", make_env(), policy_kwargs=dict(net_arch=[8]), **SMALL | kwargs)
    return everything_of(model.learn(120, callback=callbacks)), callbacks


@pytest.mark.parametrize("is_pickled", [False, True])
def test_views_and_callbacks_that_draw(is_pickled, tmp_path):
    """Views stay views; each rollout is begun once, also for callbacks before and behind the checkpoint's."""
    args = lambda: Sharing(is_pickled), lambda: [Anew()]
    expected, _ = run_with(*args, tmp_path / "first")
    found, callbacks = run_with(*args, tmp_path / "second", tmp_path / "first" / "checkpoint_50_steps.zip")
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [callbacks[0].seen, callbacks[2].seen] == [120, 120]


class Named(gym.Env):
    """Has data by names that often are those of windows, clocks and files, and generators with children."""

    observation_space, action_space = spaces.Box(-np.inf, np.inf, (4,)), spaces.Box(-1, 1, (1,))

    def __init__(self):
        self.window, self.clock, self.path = deque([0.0, 0.0], maxlen=2), 0, "left"
        self.tensor = self.same = th.zeros(1)
        self.child = None

    def _obs(self):
        return np.float32([sum(self.window), self.clock, self.path == "left", float(self.same)])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        (self.child,) = self.np_random.spawn(1)
        return self._obs(), {}

    def step(self, action):
        self.window.append(float(action[0]) + self.child.normal())
        self.clock += 1
        self.path = "right" if self.clock % 3 else "left"
        self.tensor += 0.01
        return self._obs(), float(self.child.normal()), False, self.clock % 20 == 0, {}


def test_names_children_and_tensors(tmp_path):
    """An attribute is known by what it is, not by its name."""
    expected, _ = run_with(Named, list, tmp_path / "first")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found, _ = run_with(Named, list, tmp_path / "second", tmp_path / "first" / "checkpoint_50_steps.zip")
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)


class Around(Named):
    """Has a simulator by the name of what is inside a wrapper, a network, a tensor that is turned, and the global stream."""

    def __init__(self):
        super().__init__()
        self.env, self.net = Sharing(), th.nn.Linear(2, 1)
        self.turned, self.flight_path, self.random = th.randn(7, 5).T, None, np.random.mtrand._rand
        self.font = [pygame.Surface((2, 2))] if pygame else None

    def reset(self, *, seed=None, options=None):
        obs, info = super().reset(seed=seed)
        self.flight_path = [3, 2, 1] * 20
        return obs, info

    def step(self, action):
        seen, *_ = self.env.step(action)
        obs, _, done, _, info = super().step(action)
        with th.no_grad():
            self.net.weight += 0.01
            worth = float(self.net(th.from_numpy(seen)) + (self.turned @ th.ones(7))[0])
        return obs, worth + self.flight_path.pop() + self.random.normal(), done, self.clock % 20 == 0, info

    @property
    def clock(self):
        return vars(self)["clock"]

    @clock.setter
    def clock(self, value):
        vars(self)["clock"] = value


def test_what_is_inside_an_environment(tmp_path):
    """Also by the names of other things, with a renderer of one's own that no pickle has."""
    expected, _ = run_with(Around, list, tmp_path / "first")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found, _ = run_with(Around, list, tmp_path / "second", tmp_path / "first" / "checkpoint_50_steps.zip")
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)


class Slots(gym.Env):
    """Has its state where no dict of attributes is."""

    __slots__ = ("count",)
    observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Box(-1, 1, (1,))

    def __init__(self):
        self.count = 0


def nested():
    env = Named()
    for _ in range(100_000):
        env.same = (env.same, 1)
    return env


@pytest.mark.parametrize(("make", "reason"), [(Slots, "in __slots__"), (nested, "nested too deeply|cannot be pickled")])
def test_states_that_no_file_has(make, reason):
    """Are a reason."""
    with pytest.raises(ValueError, match=reason):
        environment_state(make())


def test_functions_and_files_that_have_changed():
    """They are not taken from a checkpoint, which is said."""
    old, new = Named(), Named()
    old.phase, new.phase, old.current_file, new.current_file = old.reset, new.step, "data_7.csv", None
    with pytest.warns(UserWarning, match="phase was the function Named.reset") as caught:
        restore_environment(new, environment_state(old))
    assert any("Named.current_file stays None" in str(each.message) for each in caught)


def test_memory_that_nobody_writes_to_may_be_shared():
    """Two arrays of the same bytes, and one that another library has lent."""
    old, new = Named(), Named()
    data = bytes(16)
    old.one, old.other, old.lent = np.frombuffer(data), np.frombuffer(data), np.from_dlpack(th.arange(3))
    restore_environment(new, environment_state(old))
    np.testing.assert_array_equal(new.other, [0, 0])
    np.testing.assert_array_equal(new.lent, [0, 1, 2])


def test_a_name_of_a_path_that_was_not_there():
    """No checkpoint sets it, which is said."""
    old, new = Named(), Named()
    old.path, new.path = "right", None
    with pytest.warns(UserWarning, match=r"Named\.path stays None, since it is named like a path.*there it is 'right'"):
        restore_environment(new, environment_state(old))
    old.path, new.path = "logs/old", "logs/new"
    restore_environment(new, environment_state(old))
    assert new.path == "logs/new"


def of_mujoco():
    data = gym.make("Hopper-v5").unwrapped.data
    return data, data.qpos


def in_one_memory(kind):
    env = Named()
    env.array = np.zeros(3)
    env.other = {
        "tensor and array": lambda: th.from_numpy(env.array), "parts of a tensor": lambda: env.tensor[:1],
        "bfloat16": lambda: th.zeros(2, dtype=th.bfloat16), "MuJoCo": of_mujoco,
        "gradient": lambda: th.zeros(2, requires_grad=True),
    }[kind]()  # fmt: skip
    return env


@pytest.mark.parametrize("is_pickled", [False, True])
@pytest.mark.parametrize("kind", ["tensor and array", "parts of a tensor", "MuJoCo"])
def test_memory_that_could_not_be_shared_again(kind, is_pickled):
    """Is a reason, whether the environment is a pickle or not."""
    if kind == "MuJoCo":
        pytest.importorskip("mujoco")
    env = in_one_memory(kind)
    env.random = random.Random(0) if is_pickled else None
    with pytest.raises(ValueError, match="memory of"):
        environment_state(env)


@pytest.mark.parametrize("kind", ["bfloat16", "gradient"])
def test_tensors_that_no_array_is_like(kind):
    """Are pickled."""
    env, again = in_one_memory(kind), in_one_memory(kind)
    env.other = env.other + 1 if kind == "bfloat16" else env.other
    state = environment_state(env)
    assert state.pickled is not None
    restore_environment(again, state)
    assert again.other.dtype == env.other.dtype
    assert again.other.requires_grad == env.other.requires_grad
    assert again.other.tolist() == env.other.tolist()
    with pytest.raises(ValueError, match="with trusted=False, which reads no pickles"):
        restore_environment(again, state, trusted=False)


class Breaking(BaseCallback):
    """Breaks the actor after 80 steps."""

    def _on_step(self):
        if self.num_timesteps == 80:
            self.model.actor.mu[0].bias.data.fill_(np.nan)
        return True


def test_the_way_back_from_nan_is_the_same(tmp_path):
    """A checkpoint is also where an uninterrupted training goes back to."""
    args = pendulum(), lambda: [Breaking()]
    with pytest.warns(UserWarning, match=r"what they were after 2\d updates, and the training goes on"):
        expected, _ = run_with(*args, tmp_path / "first", on_nan="rollback")
    with pytest.warns(UserWarning, match=r"what they were after 2\d updates, and the training goes on"):
        found, _ = run_with(*args, tmp_path / "second", tmp_path / "first" / "checkpoint_50_steps.zip")
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_callbacks(tmp_path):
    """Those of the same class go on; which others there are is said."""
    model = DDPG("MlpPolicy", pendulum()(), policy_kwargs=dict(net_arch=[8]), **SMALL)
    model.learn(50, callback=[Anew(), ExactCheckpoint(tmp_path, 40, keep=9)])
    found = tmp_path / "checkpoint_40_steps.zip"
    own = Anew()
    with pytest.warns(UserWarning, match="callback must be what it was .*: Breaking, ExactCheckpoint had no state then, or"):
        resume(found, pendulum()()).learn(50, callback=[Breaking(), own])
    assert own.seen == 50


def test_nothing_is_pickled_without_need(tmp_path):
    """A checkpoint of arrays and numbers is read by ``trusted=False``."""
    model = DDPG("MlpPolicy", pendulum()(), policy_kwargs=dict(net_arch=[8]), action_noise="ou_0.2", **SMALL).learn(50)
    checkpoint.save(model, tmp_path / "c")
    assert resume(tmp_path / "c.zip", pendulum()(), trusted=False).num_timesteps == 50
    with zipfile.ZipFile(tmp_path / "c.zip") as archive:
        assert json.loads(archive.read("checkpoint/state.json"))


def test_it_takes_little_time(tmp_path):
    """A checkpoint of a folder does not write its transitions again."""
    sizes = {}
    for name, kwargs in {"memory": {}, "folder": dict(path=tmp_path / "folder")}.items():
        big = SMALL | dict(buffer_size=50_000, replay_buffer_kwargs=kwargs)
        model = DDPG("MlpPolicy", pendulum()(), policy_kwargs=dict(net_arch=[8]), **big)
        obs = np.zeros((1, 3), np.float32)
        for _ in range(40_000):
            model.replay_buffer.add(obs, obs, np.zeros((1, 1)), np.zeros(1), np.zeros(1), [{}])
        begin = time.perf_counter()
        checkpoint.save(model, tmp_path / name)
        assert time.perf_counter() - begin < 5
        sizes[name] = (tmp_path / f"{name}.zip").stat().st_size
    assert sizes["memory"] > 40_000 * 5 * 4 > 4 * sizes["folder"]


class Counting:
    """Counts, outside of what JSON has."""

    def __init__(self):
        self.n = 0

    def one_more(self):
        self.n += 1
        return self.n


class Drawn(gym.Env):
    """Draws from the space of its actions, by methods of its parts, and has a number of many digits."""

    observation_space = gym.spaces.Box(-1e6, 1e6, (3,), np.float64)

    def __init__(self):
        self.action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
        self.generator, self.counting, self.n = np.random.default_rng(0), Counting(), 0
        self.draw, self.count, self.many = self.generator.normal, self.counting.one_more, 10**5000

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3), {}

    def step(self, action):
        self.n += 1
        return np.array([self.action_space.sample()[0], self.draw(), self.count()]), 0.0, False, self.n % 7 == 0, {}


class WithFunction(BaseCallback):
    """Has a function, as that of a schedule, and a number of many digits."""

    def __init__(self):
        super().__init__()
        self.function, self.many = (lambda step: step), 10**5000

    def _on_step(self):
        return True


@pytest.mark.parametrize("is_pickled", [False, True])
def test_draws_from_the_space_of_actions_and_methods_of_parts(is_pickled, tmp_path):
    """One stream is one again for model and environment; functions of callbacks and a progress bar are no reason."""

    class Plain(Drawn):
        def __init__(self):
            super().__init__()
            del self.draw, self.count, self.counting

        def draw(self):
            return self.generator.normal()

        def count(self):
            return self.n

    make = Drawn if is_pickled else Plain
    arguments = dict(buffer_size=200, learning_starts=60, policy_kwargs=dict(net_arch=[4]), device="cpu", seed=0)
    model = DDPG("MlpPolicy", make(), **arguments)
    callbacks = [ExactCheckpoint(tmp_path, every=40, keep=9), WithFunction()]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.learn(80, callback=callbacks, progress_bar=True)
        resumed = checkpoint.resume(tmp_path / "checkpoint_40_steps.zip", make(), trusted=is_pickled)
        resumed.learn(80, callback=[ExactCheckpoint(tmp_path, every=10**6), WithFunction()])
    np.testing.assert_array_equal(resumed.replay_buffer.observations[:80], model.replay_buffer.observations[:80])
    np.testing.assert_array_equal(resumed.replay_buffer.actions[:80], model.replay_buffer.actions[:80])


def test_an_object_in_the_place_of_a_method():
    """No checkpoint sets it, which is a reason."""

    class One(Drawn):
        def count(self):
            """Not called."""

    for each in (Counting(), Counting().one_more):
        env = One()
        env.counting, env.count = getattr(each, "__self__", None), each
        with pytest.raises(ValueError, match="One has an object in place of its method count"):
            environment_state(env)


@pytest.mark.parametrize("make", [
    lambda numbers: numbers.transpose(1, 0, 2) * 1.0,
    lambda numbers: numbers[:, :2],
    lambda numbers: numbers[:, :, ::-1],
    lambda numbers: th.from_numpy(numbers).permute(1, 0, 2),
    lambda numbers: th.from_numpy(numbers)[:, :2],
])  # fmt: skip
def test_numbers_lie_as_they_did(make, tmp_path):
    """In the same order in memory, with the same gaps, on which the last bits of sums depend."""

    class One(Drawn):
        def __init__(self, seed):
            super().__init__()
            del self.draw, self.count, self.counting
            self.numbers = make(np.random.default_rng(seed).random((4, 3, 5)))

    env, other = One(0), One(1)
    state = environment_state(env)
    packer, file = Packer(), tmp_path / "state.zip"
    packed = packer.pack(state)
    with zipfile.ZipFile(file, "w") as archive:
        write_packed(archive, "state.json", packed, packer)
    with zipfile.ZipFile(file) as archive:
        text, unpacker = read_packed(archive, "state.json")
        restore_environment(other, unpacker.unpack(text), trusted=True)
    strides = (lambda each: each.stride()) if isinstance(env.numbers, th.Tensor) else (lambda each: each.strides)
    assert strides(other.numbers) == strides(env.numbers)
    assert bool((other.numbers == env.numbers).all())
