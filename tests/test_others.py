"""What SB3's replay buffers hold, loaded into models whose buffers are ours."""

import numpy as np
import pytest
import stable_baselines3 as sb3
from conftest import CountingEnv
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.save_util import save_to_pkl
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.buffers import Episode, HindsightReplayBuffer, TransitionReplayBuffer, check_same_spaces

SMALL = dict(learning_starts=10, batch_size=8, device="cpu", seed=0)


def counting(n_envs=2):
    return DummyVecEnv([lambda: CountingEnv(((5, "terminated"), (7, "truncated"), (1, "terminated"))) for _ in range(n_envs)])


def in_folder(path, buffer_size=50):
    return DDPG("MlpPolicy", counting(1), buffer_size=buffer_size, replay_buffer_kwargs=dict(path=path), **SMALL)


@pytest.mark.parametrize("n_steps", [21, 80])
@pytest.mark.parametrize("kwargs", [{}, dict(optimize_memory_usage=True)], ids=["", "optimize_memory_usage"])
def test_transitions_are_taken_over(n_steps, kwargs, tmp_path):
    """All of them, with their time limits, from the oldest on; and replayed as the model replays."""
    if kwargs:
        kwargs |= dict(replay_buffer_kwargs=dict(handle_timeout_termination=False))
    its = sb3.DDPG("MlpPolicy", counting(), buffer_size=60, **SMALL, **kwargs).learn(n_steps * 2)
    its.save_replay_buffer(tmp_path / "buffer")
    prioritized = dict(sampling="prioritized", combined=True)
    model = DDPG("MlpPolicy", counting(), buffer_size=40, n_steps=3, replay_buffer_kwargs=prioritized, **SMALL)
    model.load_replay_buffer(tmp_path / "buffer")
    old, new = its.replay_buffer, model.replay_buffer
    assert type(new) is TransitionReplayBuffer
    assert (new.n_steps, new.combined, new.buffer_size) == (3, True, 30)
    order = np.roll(np.arange(30), -old.pos) if old.full else np.arange(old.pos)
    if kwargs and old.full:  # its oldest transition has lost its observation
        order = order[1:]
    assert new.size() == len(order) == min(n_steps, 30 - bool(kwargs and old.full))
    following = np.roll(old.observations, -1, axis=0) if kwargs else old.next_observations
    for name, array in dict(
        observations=old.observations, next_observations=following, actions=old.actions, rewards=old.rewards
    ).items():
        np.testing.assert_array_equal(getattr(new, name)[: len(order)], array[order], err_msg=name)
    ends = (old.dones * (1 - old.timeouts))[order]
    rows = np.arange(len(order) * 2)
    new.n_steps = 1
    np.testing.assert_array_equal(new.samples_of(rows).dones[:, 0].numpy(), ends.reshape(-1))
    model.learn(20)


def test_goals_are_taken_over(tmp_path):
    """Into the buffer that relabels them, episode by episode."""
    env = BitFlippingEnv(n_bits=3, continuous=True, max_steps=3)
    kwargs = dict(buffer_size=50, **SMALL)
    its = sb3.DDPG("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, **kwargs).learn(31)
    its.save_replay_buffer(tmp_path / "buffer")
    model = DDPG("MultiInputPolicy", env, replay_buffer_class=HindsightReplayBuffer, n_steps=2, **kwargs)
    with pytest.warns(UserWarning, match="trajectory in the replay buffer will be truncated"):
        model.load_replay_buffer(tmp_path / "buffer")
    old, new = its.replay_buffer, model.replay_buffer
    assert type(new) is HindsightReplayBuffer
    for key, array in old.observations.items():
        np.testing.assert_array_equal(new.observations[key][:31], array[:31], err_msg=key)
    after = (old.ep_start + old.ep_length - 1 - np.arange(50)[:, None])[:, 0].tolist()
    unfinished = int(old._current_ep_start[0])  # which SB3 ends when it is loaded
    assert new.episodes.n_after(np.arange(31)).tolist() == after[:unfinished] + list(range(30 - unfinished, -1, -1))
    model.learn(20)


def test_into_a_folder(tmp_path):
    """In place of what is there, if the size is that of the folder."""
    its = sb3.DDPG("MlpPolicy", counting(1), buffer_size=50, **SMALL).learn(30)
    its.save_replay_buffer(tmp_path / "buffer")
    model = in_folder(tmp_path / "folder")
    model.learn(12).load_replay_buffer(tmp_path / "buffer")
    assert model.replay_buffer.is_on_disk
    np.testing.assert_array_equal(model.replay_buffer.observations[:30], its.replay_buffer.observations[:30])
    other = in_folder(tmp_path / "other", buffer_size=60)
    before = other.learn(12).replay_buffer
    with pytest.raises(ValueError, match="buffer_size=50; it must be that of the folder, 60"):
        other.load_replay_buffer(tmp_path / "buffer")
    assert other.replay_buffer is before
    assert before.size() == 12


def test_what_does_not_fit(tmp_path):
    """Is refused, and the model keeps what it has."""
    model = DDPG("MlpPolicy", counting(1), buffer_size=50, **SMALL)
    before = model.replay_buffer
    sb3.DDPG("MlpPolicy", "Pendulum-v1", buffer_size=50, **SMALL).save_replay_buffer(tmp_path / "buffer")
    save_to_pkl(tmp_path / "dict.pkl", {})
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("not a buffer")
    for name, message in (
        ("buffer", r"has observation_space=Box.*; it must be the model's, Box"),
        ("dict.pkl", "must be a file that save_replay_buffer has written"),
        ("empty", "must be a file that save_replay_buffer has written"),
        ("text", "must be a file that save_replay_buffer has written"),
    ):
        with pytest.raises(ValueError, match=message):
            model.load_replay_buffer(tmp_path / name)
        assert model.replay_buffer is before


class Own(ReplayBuffer):
    """Keeps its next observations to itself."""

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "next_observations"}


def test_a_failure_half_way(tmp_path):
    """Leaves the folder as it was."""
    its = sb3.DDPG("MlpPolicy", counting(1), buffer_size=50, replay_buffer_class=Own, **SMALL).learn(30)
    its.save_replay_buffer(tmp_path / "buffer")
    model = in_folder(tmp_path / "folder")
    before = model.learn(12).replay_buffer
    with pytest.raises(AttributeError, match="next_observations"):
        model.load_replay_buffer(tmp_path / "buffer")
    assert model.replay_buffer is before
    assert before.size() == 12


@pytest.mark.parametrize("name", ["shape", "dtype", "n"])
def test_other_spaces(name):
    """Are told apart by what their numbers mean to the networks, and not by their bounds."""
    box = spaces.Box(0, 1, (3,), np.float32)
    other = {"shape": spaces.Box(0, 1, (4,), np.float32), "dtype": spaces.Box(0, 255, (3,), np.uint8), "n": spaces.Discrete(9)}
    own = spaces.Discrete(3) if name == "n" else box
    buffers = [TransitionReplayBuffer(5, space, box, "cpu") for space in (other[name], own, spaces.Box(-1, 2, (3,)))]
    with pytest.raises(ValueError, match="it must be the model's"):
        check_same_spaces(buffers[0], buffers[1], "file")
    if name != "n":
        check_same_spaces(buffers[2], buffers[1], "file")


def test_priorities_and_demonstrations(tmp_path):
    """What is taken over is new to the sampling, in a folder too, and the model's demonstrations stay."""
    its = sb3.DDPG("MlpPolicy", counting(1), buffer_size=50, **SMALL).learn(30)
    its.save_replay_buffer(tmp_path / "buffer")
    episode = Episode(np.zeros((6, 2), np.float32), np.zeros((5, 1), np.float32), np.zeros(5), True)
    for path in (None, tmp_path / "folder"):
        kwargs = dict(path=path, sampling="prioritized", demonstrations=[episode], demonstration_share=0.5)
        model = DDPG("MlpPolicy", counting(1), buffer_size=50, replay_buffer_kwargs=kwargs, **SMALL).learn(12)
        model.load_replay_buffer(tmp_path / "buffer")
        assert model.replay_buffer.sampling.tree.values[:50].tolist() == [1.0] * 30 + [0.0] * 20
        assert model.replay_buffer.sample(8).n_demonstrations == 4


def test_goals_into_a_folder(tmp_path):
    """With the infos of SB3's buffer, which are not for a folder, left out; the oldest of a full ring first."""
    env = BitFlippingEnv(n_bits=3, continuous=True, max_steps=3)
    kwargs = dict(buffer_size=20, **SMALL)
    infos = dict(copy_info_dict=True)
    its = sb3.DDPG("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, replay_buffer_kwargs=infos, **kwargs).learn(
        30
    )
    its.save_replay_buffer(tmp_path / "buffer")
    folder = dict(replay_buffer_class=HindsightReplayBuffer, replay_buffer_kwargs=dict(path=tmp_path / "folder"))
    model = DDPG("MultiInputPolicy", env, **folder, **kwargs).learn(12)
    model.load_replay_buffer(tmp_path / "buffer")
    old, new = its.replay_buffer, model.replay_buffer
    for key, array in old.observations.items():
        np.testing.assert_array_equal(new.observations[key], np.roll(array, -old.pos, axis=0), err_msg=key)
    model.learn(20)


@pytest.mark.parametrize("cls", [ReplayBuffer, NStepReplayBuffer])
def test_dictionaries_are_not_for_them(cls):
    kwargs = dict(replay_buffer_class=cls, n_steps=1 if cls is ReplayBuffer else 3, buffer_size=50)
    with pytest.raises(ValueError, match=f"replay_buffer_class={cls.__name__} must be DictReplayBuffer, or None"):
        DDPG("MultiInputPolicy", BitFlippingEnv(continuous=True), **kwargs)
