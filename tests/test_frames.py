"""Stacked frames: what is read is what was written, and each is stored once."""

import sys
import warnings
from itertools import count

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from conftest import CountingEnv
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecTransposeImage

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.buffers import TransitionReplayBuffer
from sb3_ddpg_ext.buffers.column import Column
from sb3_ddpg_ext.buffers.frames import FrameStackColumn, frame_axis

ACTIONS = spaces.Box(-1, 1, (1,), np.float32)
CPU = th.device("cpu")


class Picture(gym.ObservationWrapper):
    """Episode and step as an image, optionally in a dict beside the numbers."""

    def __init__(self, env, in_dict=False):
        super().__init__(env)
        self.in_dict = in_dict
        image = spaces.Box(0, 255, (36, 36, 1), np.uint8)
        self.observation_space = spaces.Dict(image=image, number=env.observation_space) if in_dict else image

    def observation(self, obs):
        image = np.full((36, 36, 1), obs[1], np.uint8)
        image[0] = obs[0] % 256
        return {"image": image, "number": obs} if self.in_dict else image


def pictures(n_envs=1, n_stack=4, rules=((5, "terminated"), (7, "truncated")), **kwargs):
    return VecTransposeImage(
        VecFrameStack(DummyVecEnv([lambda: Picture(CountingEnv(rules), **kwargs) for _ in range(n_envs)]), n_stack)
    )


def flatten(obs):
    return np.concatenate([np.asarray(value, np.float64).reshape(-1) for _, value in sorted(obs.items())])


def make_model(env, policy="CnnPolicy", **kwargs):
    defaults = dict(learning_starts=10**6, device="cpu", buffer_size=40, policy_kwargs=dict(net_arch=[8]))
    return DDPG(policy, env, **(defaults | kwargs))


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("in_dict", [False, True])
@pytest.mark.parametrize("n_steps", [1, 3])
def test_stacked_images_of_a_training(n_envs, in_dict, n_steps):
    """
    Terminations, time limits, ring wraps: each stack and the one that follows are what the environment gave; and the memory is
    that of one frame for each.
    """
    env = pictures(n_envs, in_dict=in_dict)
    given = []  # (obs, next_obs) in the order of the training
    model = make_model(env, "MultiInputPolicy" if in_dict else "CnnPolicy", buffer_size=20 * n_envs, n_steps=n_steps)
    store = model._store_transition

    def spy(buffer, action, new_obs, reward, dones, infos):
        before, after = model._last_obs, new_obs
        for i in range(n_envs):
            end = infos[i]["terminal_observation"] if dones[i] else None
            pair = []
            for obs, one in ((before, None), (after, end)):
                obs = obs if in_dict else {"": obs}
                one = one if in_dict or one is None else {"": one}
                pair.append(flatten({key: value[i] for key, value in obs.items()} if one is None else one))
            given.append(pair)
        store(buffer, action, new_obs, reward, dones, infos)

    model._store_transition = spy
    model.learn(53 * n_envs)
    buffer = model.replay_buffer
    rows = np.arange(20 * n_envs)
    samples = buffer.samples_of(rows) if n_steps == 1 else buffer
    for name in ("observations", "next_observations"):
        part = getattr(samples, name)
        part = part if in_dict else {"": part}
        for row in rows.tolist():
            pos, i = divmod(row, n_envs)
            t = 52 - (52 - pos) % 20
            index = row if n_steps == 1 else (pos, i)
            mine = flatten({key: np.asarray(value[index]) for key, value in part.items()})
            np.testing.assert_array_equal(mine, given[t * n_envs + i][name != "observations"])
    column = buffer.storage.obs.columns["image" if in_dict else ""]
    assert isinstance(column, FrameStackColumn)
    assert column._n_used <= (20 + 4 * 6) * n_envs + 2  # a frame for each transition, and those at the ends of episodes


def test_memory():
    """Of stacks of four small images in episodes of 500 steps: little more than a quarter of what whole stacks take."""
    space = spaces.Box(0, 255, (4, 36, 36), np.uint8)
    stacked, whole = (TransitionReplayBuffer(2000, space, ACTIONS, "cpu", frame_stack=k) for k in (4, 1))
    frames = np.zeros((4, 36, 36), np.uint8)
    for t in range(5000):
        following = np.concatenate([frames[1:], np.full((1, 36, 36), t % 251, np.uint8)])
        stacked.add(frames[None], following[None], np.zeros((1, 1)), np.zeros(1), np.array([t % 500 == 499]), [{}])
        frames = np.zeros_like(frames) if t % 500 == 499 else following
    assert stacked.nbytes < 0.3 * whole.nbytes
    assert stacked.storage.obs.columns[""]._n_used < 2000 + 60


def test_what_is_stacked_by_itself():
    """Images under VecFrameStack; vectors, whose frames are no larger than the numbers of the frames, only when asked for."""
    vectors = VecFrameStack(DummyVecEnv([CountingEnv]), 4)
    assert isinstance(make_model(pictures()).replay_buffer.storage.obs.columns[""], FrameStackColumn)
    assert isinstance(make_model(vectors, "MlpPolicy").replay_buffer.storage.obs.columns[""], Column)
    asked = make_model(vectors, "MlpPolicy", replay_buffer_kwargs=dict(frame_stack=4))
    assert isinstance(asked.replay_buffer.storage.obs.columns[""], FrameStackColumn)
    refused = make_model(pictures(), replay_buffer_kwargs=dict(frame_stack=1))
    assert isinstance(refused.replay_buffer.storage.obs.columns[""], Column)
    with pytest.raises(ValueError, match="frame_stack"):
        make_model(vectors, "MlpPolicy", replay_buffer_kwargs=dict(frame_stack=0))
    with pytest.warns(UserWarning, match=r"frame_stack'\]=3 saves nothing"):
        assert not make_model(vectors, "MlpPolicy", replay_buffer_kwargs=dict(frame_stack=3)).replay_buffer.stacks_frames


@pytest.mark.parametrize(("shape", "n", "order"), [((10, 10, 4), 4, None), ((84, 84, 3), 4, "first"), ((5, 7, 3), 3, "last")])
def test_other_stacks(shape, n, order):
    """Whose frames SB3 stacks along an axis that it takes for another are stored whole, without a word."""

    class Image(CountingEnv):
        observation_space = None

        def __init__(self):
            super().__init__()
            self.observation_space = spaces.Box(0, 255, shape, np.uint8)

        def _obs(self):
            return np.full(shape, self.steps, np.uint8)

    env = VecFrameStack(DummyVecEnv([Image]), n, order)
    kwargs = dict(buffer_size=100, device="cpu", learning_starts=5, batch_size=4, policy_kwargs=dict(net_arch=[8]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert DDPG("MlpPolicy", env, **kwargs).learn(12)._n_updates == 7


def test_gymnasium_stacks():
    """FrameStackObservation has a first axis for its frames, and repeats the first at a reset."""
    env = gym.wrappers.FrameStackObservation(CountingEnv(), 3)
    model = make_model(env, "MlpPolicy", replay_buffer_kwargs=dict(frame_stack=3)).learn(12)
    column = model.replay_buffer.storage.obs.columns[""]
    assert (column.axis, column.frames.shape) == (0, (1, 2))
    # Episodes of 5 steps: 6 frames each, of which the buffer holds two whole ones and three of the third
    assert column._n_used - 1 - len(column._free) == 6 + 6 + 3
    np.testing.assert_array_equal(model.replay_buffer.observations[1, 0], [[0, 0], [0, 0], [0, 1]])


@pytest.mark.parametrize(
    ("shape", "n_frames", "channels_first", "axis"),
    [
        ((12, 36, 36), 4, True, 0),
        ((36, 36, 12), 4, False, 2),
        ((4, 36, 36, 3), 4, False, 0),
        ((8,), 4, False, 0),
        ((3, 8), 4, False, 1),
        ((3, 36, 36), 4, True, None),
        ((), 4, False, None),
    ],
)
def test_frame_axis(shape, n_frames, channels_first, axis):
    """Channels, a first axis of that length, the only axis, or none."""
    assert frame_axis(shape, n_frames, channels_first) == axis


@settings(max_examples=100, deadline=None)
@given(
    shape=st.sampled_from([(4, 2, 2), (2, 2, 4), (4,), (8,), (3, 4)]),
    operations=st.lists(
        st.tuples(st.sampled_from(["write", "copy", "grow"]), st.integers(0, 9), st.integers(0, 9)), max_size=40
    ),
    n_envs=st.integers(1, 3),
    seed=st.integers(0, 100),
)
def test_any_writes(shape, operations, n_envs, seed):
    """Whatever is written where, in whatever order, is read again; only what is in use is kept; frames are counted right."""
    rng, n_rows = np.random.default_rng(seed), 12
    axis = 0 if shape[0] % 4 == 0 else len(shape) - 1
    column = FrameStackColumn("x", n_rows, shape, np.float32, CPU, 4, axis)
    plain = np.zeros((n_rows, *shape), np.float32)
    last = np.zeros((n_envs, *shape), np.float32)
    for kind, a, b in operations:
        if kind == "write":
            rows = slice(a, a + n_envs)
            shift = shape[axis] // 4
            fresh = rng.integers(0, 3, last.shape).astype(np.float32)
            moved = np.roll(last, -shift, axis=1 + axis)
            tail = [slice(None)] * moved.ndim
            tail[1 + axis] = slice(-shift, None)
            moved[tuple(tail)] = fresh[tuple(tail)]
            last = [last, moved, fresh][b % 3]
            column.write(rows, last)
            plain[rows] = last
        elif kind == "copy":
            column.copy_row(a, b)
            plain[a] = plain[b]
        else:
            column.grow(len(plain) + 1)
            plain = np.concatenate([plain, np.zeros((1, *shape), np.float32)])
        np.testing.assert_array_equal(column.array(slice(0, len(plain))), plain)
        others = column.equal(slice(0, 5), slice(5, 10))
        np.testing.assert_array_equal(np.broadcast_to(others, 5), (plain[:5] == plain[5:10]).reshape(5, -1).all(1))
        uses = np.bincount(column.index.reshape(-1), minlength=column.frames.n_rows)
        np.testing.assert_array_equal(column._uses[1:], uses[1:])
        assert sorted(column._free) == (1 + np.flatnonzero(uses[1 : column._n_used] == 0)).tolist()
    column.reset()
    assert not column.array(slice(0, len(plain))).any()


@pytest.mark.parametrize("before", [1, 4])
@pytest.mark.parametrize("after", [1, 4])
def test_files_of_both(before, after, tmp_path):
    """A file of whole stacks loads into single frames, and the other way round, with the same stacks."""
    models = [make_model(pictures(2), replay_buffer_kwargs=dict(frame_stack=k)) for k in (before, after)]
    models[0].learn(66)
    models[0].save_replay_buffer(tmp_path / "buffer")
    models[1].load_replay_buffer(tmp_path / "buffer")
    for name in ("observations", "next_observations", "actions", "rewards", "dones"):
        np.testing.assert_array_equal(*(getattr(model.replay_buffer, name) for model in models))
    if after == 4:
        assert models[1].replay_buffer.storage.obs.columns[""]._n_used < 2 * 66
    models[1].learn(30)


def test_room_is_made_before_it_is_used():
    """Ctrl-C at any line of a write that needs room leaves a column that others can be written to, and what it had."""
    rng, module = np.random.default_rng(0), FrameStackColumn.__module__
    n_stopped = 0
    for line in count():
        column = FrameStackColumn("x", 12, (4,), np.float32, CPU, 4, 0)
        stacks = rng.random((10, 4), np.float32)
        for row in range(6):
            column.write(slice(row, row + 1), stacks[row : row + 1])
        assert column.frames.n_rows - 4 < column._n_used <= column.frames.n_rows  # no room for one more stack
        passed = count()

        def trace(frame, event, _, line=line, passed=passed):
            if frame.f_globals["__name__"] == module and event == "line" and next(passed) == line:
                raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            column.write(slice(6, 7), stacks[6:7])
            break
        except KeyboardInterrupt:
            n_stopped += column._n_used == column.frames.n_rows
        finally:
            sys.settrace(before)
        for row in (6, 7, 8, 9):
            column.write(slice(row, row + 1), stacks[row : row + 1])
        np.testing.assert_array_equal(column.array(slice(10)), stacks)
    assert n_stopped > 3


def test_a_frame_in_use_is_not_given_away():
    """Though the row that was written last has been overwritten, and its frames are free."""
    column = FrameStackColumn("x", 12, (4,), np.float32, CPU, 4, 0)
    stack = np.array([[1.0, 2, 3, 4]], np.float32)
    column.write(slice(3, 4), stack)
    column.copy_row(3, 5)
    column.write(slice(7, 8), stack)
    column.write(slice(8, 9), np.array([[9.0, 8, 7, 6]], np.float32))
    np.testing.assert_array_equal(column.array(slice(7, 8)), stack)
