"""What version 0.1 has saved is read, and goes on. The files of ``tests/data/0.1`` were written by its code."""

import json
import shutil
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.envs import BitFlippingEnv

from sb3_ddpg_ext import DDPG, RecurrentDDPG

DATA = Path(__file__).parent / "data" / "0.1"
EXPECTED = json.loads((DATA / "expected.json").read_text())


def flip_bits():
    return BitFlippingEnv(n_bits=3, continuous=True, max_steps=5)


def observations(space):
    """The five that the file of expectations has actions for."""
    rng = np.random.default_rng(0)
    if isinstance(space, gym.spaces.Dict):
        return {key: rng.integers(0, 2, (5, *part.shape)).astype(part.dtype) for key, part in space.spaces.items()}
    return rng.uniform(-1, 1, (5, *space.shape)).astype(space.dtype)


def acts_as_expected(model, name):
    actions, _ = model.predict(observations(model.observation_space), deterministic=True)
    np.testing.assert_allclose(actions, EXPECTED[name]["actions"], rtol=1e-5, atol=1e-6)


def goes_on(model):
    before = model._n_updates
    model.learn(model.num_timesteps and 12, reset_num_timesteps=False)
    assert model._n_updates > before


@pytest.fixture
def folder(tmp_path):
    """A copy: a buffer writes to its folder."""
    return shutil.copytree(DATA / "folder", tmp_path / "folder")


def test_a_model():
    """Networks, schedules, noise with its streams, priorities of the buffer: all are as they were."""
    model = DDPG.load(DATA / "model", env="Pendulum-v1")
    expected, buffer = EXPECTED["model"], EXPECTED["model_buffer"]
    acts_as_expected(model, "model")
    assert (model.num_timesteps, model._n_updates, model.tau) == tuple(
        expected[k] for k in ("num_timesteps", "n_updates", "tau")
    )
    assert repr(model.action_noise) == expected["noise"]
    model.load_replay_buffer(DATA / "model_buffer")
    loaded = model.replay_buffer
    assert (loaded.pos, loaded.full) == (buffer["pos"], buffer["full"])
    np.testing.assert_array_equal(loaded.rewards, np.float32(buffer["rewards"]))
    np.testing.assert_array_equal(loaded.next_observations, np.float32(buffer["next"]))
    np.testing.assert_array_equal(loaded.sampling.tree.values, buffer["tree"])
    assert loaded.sampling.largest == buffer["largest"]
    goes_on(model)


def test_a_folder(folder):
    """The transitions of a folder are those of the process that wrote them."""
    expected = EXPECTED["folder"]
    model = DDPG.load(DATA / "folder_model", env="Pendulum-v1", replay_buffer_kwargs=dict(path=str(folder)))
    acts_as_expected(model, "folder")
    loaded = model.replay_buffer
    assert (loaded.pos, loaded.full, loaded.is_on_disk) == (expected["pos"], expected["full"], True)
    np.testing.assert_array_equal(loaded.rewards, np.float32(expected["rewards"]))
    np.testing.assert_array_equal(loaded.next_observations, np.float32(expected["next"]))
    assert model.action_noise._sigma == expected["sigma"]
    goes_on(model)


def test_a_recurrent_model():
    """So are the stored states of sequences."""
    expected = EXPECTED["recurrent"]
    model = RecurrentDDPG.load(DATA / "recurrent", env="Pendulum-v1")
    acts_as_expected(model, "recurrent")
    model.load_replay_buffer(DATA / "recurrent_buffer")
    loaded = model.replay_buffer
    np.testing.assert_array_equal(loaded.rewards, np.float32(expected["rewards"]))
    np.testing.assert_array_equal(loaded.sampling.tree.values, expected["tree"])
    np.testing.assert_allclose(loaded.states.values, np.float32(expected["states"]), rtol=1e-6)
    goes_on(model)


def test_a_model_with_goals():
    """So are where in its episode each transition is, and its info."""
    expected = EXPECTED["her"]
    model = DDPG.load(DATA / "her", env=flip_bits())
    acts_as_expected(model, "her")
    model.load_replay_buffer(DATA / "her_buffer")
    loaded = model.replay_buffer
    np.testing.assert_array_equal(loaded.rewards, np.float32(expected["rewards"]))
    np.testing.assert_array_equal(loaded.episodes.before, expected["before"])
    np.testing.assert_array_equal(loaded.episodes.after, expected["after"])
    assert [len(info) for info in loaded.infos.values] == expected["infos"]
    goes_on(model)
