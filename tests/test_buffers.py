"""The uniform replay buffer against Stable-Baselines3's, which stores every observation twice."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from conftest import CountingEnv
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.buffers import TransitionReplayBuffer

ACTIONS = spaces.Box(-1, 1, (2,), np.float32)
SPACES = {
    "box": spaces.Box(-9, 9, (4,), np.float64),
    "matrix": spaces.Box(-9, 9, (2, 3), np.float32),
    "image": spaces.Box(0, 255, (3, 8, 8), np.uint8),
    "discrete": spaces.Discrete(7),
    "dict": spaces.Dict(image=spaces.Box(0, 255, (1, 4, 4), np.uint8), place=spaces.Box(-1, 1, (2,), np.float32)),
}


def draw_obs(rng, space, n_envs):
    if isinstance(space, spaces.Dict):
        return {key: draw_obs(rng, subspace, n_envs) for key, subspace in space.spaces.items()}
    if isinstance(space, spaces.Discrete):
        return rng.integers(0, space.n, n_envs)
    if space.dtype == np.uint8:
        return rng.integers(0, 255, (n_envs, *space.shape)).astype(np.uint8)
    return rng.standard_normal((n_envs, *space.shape)).astype(space.dtype)


def overwrite(obs, other, env):
    if isinstance(obs, dict):
        for key in obs:
            obs[key][env] = other[key][env]
    else:
        obs[env] = other[env]


def record(rng, buffers, space, n_envs, n_steps):
    """Random transitions: ends and time limits in 15% of them, and a start from elsewhere (an interrupted run) in 10%."""
    obs = draw_obs(rng, space, n_envs)
    for _ in range(n_steps):
        following = draw_obs(rng, space, n_envs)
        next_obs = draw_obs(rng, space, n_envs) if rng.random() < 0.1 else copy.deepcopy(following)
        done = rng.random(n_envs) < 0.15
        infos = [{"TimeLimit.truncated": bool(rng.random() < 0.5)} if d else {} for d in done]
        for env in np.flatnonzero(done):
            overwrite(next_obs, draw_obs(rng, space, n_envs), env)
        action, reward = rng.uniform(-1, 1, (n_envs, 2)).astype(np.float32), rng.standard_normal(n_envs)
        for buffer in buffers:
            buffer.add(obs, next_obs, action, reward, done, infos)
        obs = following


def assert_equal_samples(mine, its):
    for name in ("observations", "next_observations", "actions", "rewards", "dones"):
        a, b = getattr(mine, name), getattr(its, name)
        for key in a if isinstance(a, dict) else [None]:
            x, y = (a, b) if key is None else (a[key], b[key])
            assert x.dtype == (th.float32 if y.dtype == th.float64 else y.dtype), name
            assert th.equal(x, y.to(x.dtype)), name


def sample_both(mine, its, *args):
    """The same batch from both, drawn with the same random numbers; and as many of them are used up."""
    state = np.random.get_state()
    samples = mine.sample(*args)
    used = np.random.get_state()
    np.random.set_state(state)
    expected = its.sample(*args)
    assert np.random.get_state()[2] == used[2]
    np.testing.assert_array_equal(np.random.get_state()[1], used[1])
    assert_equal_samples(samples, expected)


@pytest.mark.parametrize("n_envs", [1, 2, 5])
@pytest.mark.parametrize("size", [1, 2, 7, 200])
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_samples_are_those_of_sb3(space, size, n_envs):
    """At ends, time limits, interruptions, around the ring, while being filled, after pickling: every sample is the same."""
    rng = np.random.default_rng(0)
    other = DictReplayBuffer if space == "dict" else ReplayBuffer
    args = (size * n_envs, SPACES[space], ACTIONS, "cpu", n_envs)
    mine, its = TransitionReplayBuffer(*args), other(*args)
    for i in range(12):
        record(rng, (mine, its), SPACES[space], n_envs, n_steps=7)
        sample_both(mine, its, 40)
        assert (mine.pos, mine.full, mine.size()) == (its.pos, its.full, its.size())
        if i % 4 == 3:
            mine = pickle.loads(pickle.dumps(mine))
    for name in ("actions", "rewards", "dones", "timeouts"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(its, name))
    for name in ("observations", "next_observations"):
        a, b = getattr(mine, name), getattr(its, name)
        for key in a if space == "dict" else [None]:
            x, y = (a, b) if key is None else (a[key], b[key])
            filled = slice(None) if its.full else slice(its.pos)
            np.testing.assert_array_equal(x[filled], y[filled].astype(x.dtype))


def test_time_limits_can_count_as_terminations():
    """handle_timeout_termination=False keeps them as dones."""
    rng = np.random.default_rng(0)
    buffers = [
        cls(50, SPACES["box"], ACTIONS, "cpu", handle_timeout_termination=False)
        for cls in (TransitionReplayBuffer, ReplayBuffer)
    ]
    record(rng, buffers, SPACES["box"], 1, 50)
    np.testing.assert_array_equal(buffers[0].dones, buffers[1].dones)
    sample_both(*buffers, 100)


def test_room_for_last_observations_is_used_again():
    """A hundred times around the ring, each transition an end: memory grows to that of two copies and no more."""
    rng = np.random.default_rng(0)
    buffer = TransitionReplayBuffer(100, SPACES["box"], ACTIONS, "cpu")
    sizes = []
    for _ in range(100):
        for _ in range(100):
            obs, next_obs = (draw_obs(rng, SPACES["box"], 1) for _ in range(2))
            buffer.add(obs, next_obs, np.zeros((1, 2)), np.zeros(1), np.ones(1, bool), [{}])
        sizes.append(buffer.nbytes)
    assert sizes[-1] == sizes[1] <= 2.2 * TransitionReplayBuffer(100, SPACES["box"], ACTIONS, "cpu").nbytes


def test_memory_is_at_most_55_percent_of_sb3():
    """A million transitions of HalfCheetah: 17 observations of 64 bits, 6 actions; also filled, in episodes of 1,000."""
    space, actions = spaces.Box(-np.inf, np.inf, (17,), np.float64), spaces.Box(-1, 1, (6,), np.float32)
    mine, its = TransitionReplayBuffer(1_000_000, space, actions, "cpu"), ReplayBuffer(1_000_000, space, actions, "cpu")
    arrays = (its.observations, its.next_observations, its.actions, its.rewards, its.dones, its.timeouts)
    assert mine.nbytes <= 0.55 * sum(array.nbytes for array in arrays)
    small = TransitionReplayBuffer(10_000, space, actions, "cpu")
    before = small.nbytes
    for i in range(25_000):
        small.add(
            np.full((1, 17), i), np.full((1, 17), i + 1), np.zeros((1, 6)), np.zeros(1), np.array([i % 1000 == 999]), [{}]
        )
    assert small.nbytes == before


def test_saved_buffer_holds_what_was_written():
    """A pickle of a large, nearly empty buffer is small."""
    buffer = TransitionReplayBuffer(1_000_000, SPACES["box"], ACTIONS, "cpu")
    record(np.random.default_rng(0), [buffer], SPACES["box"], 1, 100)
    assert len(pickle.dumps(buffer)) < 20_000
    assert len(pickle.loads(pickle.dumps(buffer)).storage.follows) == 1_000_000


def test_empty_buffer_refuses_to_sample():
    with pytest.raises(ValueError, match="empty"):
        TransitionReplayBuffer(10, SPACES["box"], ACTIONS, "cpu").sample(1)


def test_reset_empties():
    """What was stored before a reset is gone, and what comes after it is right."""
    rng = np.random.default_rng(0)
    args = (20, SPACES["box"], ACTIONS, "cpu")
    mine, its = TransitionReplayBuffer(*args), ReplayBuffer(*args)
    record(rng, [mine], SPACES["box"], 1, 30)
    mine.reset()
    assert mine.size() == 0
    record(rng, (mine, its), SPACES["box"], 1, 30)
    sample_both(mine, its, 50)


def test_normalised_as_sb3_does():
    """Observations and rewards of the batch go through VecNormalize with its statistics of the moment."""
    env = VecNormalize(make_vec_env("Pendulum-v1", n_envs=2, seed=0))
    env.reset()
    args = (100, env.observation_space, env.action_space, "cpu", 2)
    mine, its = TransitionReplayBuffer(*args), ReplayBuffer(*args)
    for _ in range(30):
        obs, action = env.get_original_obs(), np.stack([env.action_space.sample() for _ in range(2)])
        _, _, dones, infos = env.step(action)
        for buffer in (mine, its):
            buffer.add(obs, env.get_original_obs(), action, env.get_original_reward(), dones, infos)
    sample_both(mine, its, 40, env)


@pytest.mark.parametrize("n_envs", [1, 3])
def test_transitions_of_an_environment(n_envs):
    """Filled by learn(): each stored step is followed by the next of its episode, and bootstraps but for terminations."""
    rules = ((4, "terminated"), (3, "truncated"), (5, "both"))
    env = DummyVecEnv([lambda: CountingEnv(rules) for _ in range(n_envs)])
    model = DDPG("MlpPolicy", env, buffer_size=40 * n_envs, learning_starts=10**6, device="cpu", seed=0).learn(150 * n_envs)
    samples = model.replay_buffer.sample(500)
    assert type(model.replay_buffer) is TransitionReplayBuffer
    episode, step = samples.observations.T
    assert th.equal(samples.next_observations, th.stack((episode, step + 1), dim=1))
    assert th.equal(samples.rewards[:, 0], step + 1)
    length = th.tensor([4, 3, 5])[(episode % 3).long()]
    terminates = th.tensor([1, 0, 1])[(episode % 3).long()]  # "both": a termination on the last step of the time limit
    assert th.equal(samples.dones[:, 0], ((step + 1 == length) * terminates).float())


@pytest.mark.parametrize("n_envs", [1, 2])
def test_a_refused_transition_changes_nothing(n_envs):
    """An error in add(), of a wrong shape or type, leaves the buffer as it was, and what comes next is right."""
    rng = np.random.default_rng(0)
    args = (15 * n_envs, SPACES["box"], ACTIONS, "cpu", n_envs)
    mine, its = TransitionReplayBuffer(*args), ReplayBuffer(*args)
    obs, action, reward, done = np.zeros((n_envs, 4)), np.zeros((n_envs, 2)), np.zeros(n_envs), np.zeros(n_envs, bool)
    wrong = [
        (np.zeros((n_envs, 5)), obs, action, reward, done),
        (obs, np.zeros((n_envs, 5)), action, reward, done),
        (obs, obs, np.zeros((n_envs, 3)), reward, done),
        (obs, obs, action, np.array(["a"] * n_envs), done),
        (obs, obs, action, reward, np.zeros(n_envs + 1, bool)),
    ]
    for i in range(60):
        record(rng, (mine, its), SPACES["box"], n_envs, n_steps=1)
        with pytest.raises(ValueError, match=r"reshape|convert|broadcast"):
            mine.add(*wrong[i % len(wrong)], [{}] * n_envs)
        sample_both(mine, its, 30)


def test_raw_values_of_gymnasium_are_taken():
    """Where a single environment's demonstrations are stored, numbers and lists, as SB3 takes them."""
    for space, obs, next_obs in ((SPACES["box"], [1.0, 2.0, 3.0, 4.0], np.arange(4.0)), (SPACES["discrete"], np.int64(3), 4)):
        mine, its = (cls(10, space, ACTIONS, "cpu") for cls in (TransitionReplayBuffer, ReplayBuffer))
        mine.add(obs, next_obs, np.zeros(2), 1.0, True, [{}])
        its.add(np.asarray(obs), np.asarray(next_obs), np.zeros(2), 1.0, True, [{}])
        sample_both(mine, its, 4)


def test_observations_are_normalised_before_they_are_rounded():
    """With 64-bit observations far from zero, as SB3 does it: VecNormalize makes the model's buffer keep them."""
    env = VecNormalize(DummyVecEnv([lambda: gym.wrappers.TransformObservation(CountingEnv(), far_away, FAR_AWAY)]))
    kwargs = dict(learning_starts=50, buffer_size=100, device="cpu", seed=0, policy_kwargs=dict(net_arch=[8]))
    mine = DDPG("MlpPolicy", env, **kwargs).learn(40)
    assert mine.replay_buffer.sample(4).observations.dtype == th.float64
    env.obs_rms.mean[:], env.obs_rms.var[:] = 1e9, 1
    assert mine.replay_buffer.sample(100, env).observations.std(0).min() > 0.5


FAR_AWAY = spaces.Box(-np.inf, np.inf, (2,), np.float64)


def far_away(obs):
    return obs.astype(np.float64) + 1e9


def test_what_is_computed_cannot_be_written_to():
    """Rather an error than a value that is lost."""
    buffer = TransitionReplayBuffer(10, SPACES["box"], ACTIONS, "cpu")
    for name in ("dones", "timeouts"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(buffer, name)[0] = 1
    buffer.rewards[0] = 5
    assert buffer.rewards[0, 0] == 5


def test_two_samples_do_not_share_memory():
    """A batch that is kept stays what it was."""
    buffer = TransitionReplayBuffer(100, SPACES["box"], ACTIONS, "cpu")
    record(np.random.default_rng(0), [buffer], SPACES["box"], 1, 50)
    first = buffer.sample(8)
    kept = first.observations.clone()
    buffer.sample(8)
    assert th.equal(first.observations, kept)


def test_sb3_buffer_of_an_older_model_can_be_loaded(tmp_path):
    """save_replay_buffer of a model with SB3's class, load_replay_buffer into one with ours."""
    kwargs = dict(buffer_size=200, learning_starts=10, device="cpu", policy_kwargs=dict(net_arch=[8]))
    DDPG("MlpPolicy", "Pendulum-v1", replay_buffer_class=ReplayBuffer, **kwargs).learn(30).save_replay_buffer(
        tmp_path / "buffer"
    )
    model = DDPG("MlpPolicy", gym.make("Pendulum-v1"), **kwargs)
    model.load_replay_buffer(tmp_path / "buffer")
    assert model.learn(20).replay_buffer.size() == 50


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        (
            dict(sequence_length=3),
            TypeError,
            r"\['sequence_length'\] is not an argument of TransitionReplayBuffer; it has",
        ),
        (dict(n_envs=7), TypeError, r"\['n_envs'\] is not an argument"),
        (dict(storage_device="gpu"), ValueError, "storage_device='gpu' must be None or a device that is there"),
        (dict(keep_float64="no"), ValueError, "keep_float64='no' must be one of"),
        (dict(handle_timeout_termination="x"), ValueError, "handle_timeout_termination='x' must be one of"),
        (dict(pin_memory="yes"), ValueError, "pin_memory='yes' must be one of"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_wrong_arguments(kwargs, error, message):
    """Are named, with what is allowed."""
    with pytest.raises(error, match=message):
        DDPG("MlpPolicy", "Pendulum-v1", buffer_size=100, device="cpu", replay_buffer_kwargs=kwargs)


@pytest.mark.skipif(not th.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kwargs", [dict(storage_device="cuda"), dict(pin_memory=True), {}], ids=str)
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_storage_for_a_gpu(space, kwargs):
    """Stored on the GPU, or handed to it through page-locked memory: the samples are those of SB3."""
    rng = np.random.default_rng(0)
    other = DictReplayBuffer if space == "dict" else ReplayBuffer
    args = (60, SPACES[space], ACTIONS, "cuda", 2)
    mine, its = TransitionReplayBuffer(*args, **kwargs), other(*args)
    for _ in range(5):
        record(rng, (mine, its), SPACES[space], 2, n_steps=17)
        sample_both(mine, its, 40)
    assert pickle.loads(pickle.dumps(mine)).sample(3).actions.device.type == "cuda"


def test_writing_arrives_or_is_refused():
    """What is stored can be written to in place; what is a copy, or worked out, cannot, and says so."""
    buffer = TransitionReplayBuffer(20, spaces.Box(-1, 1, (3,), np.float32), spaces.Box(-1, 1, (1,), np.float32), "cpu")
    for _ in range(10):
        buffer.add(np.zeros((1, 3)), np.zeros((1, 3)), np.zeros((1, 1)), np.zeros(1), np.zeros(1), [{}])
    buffer.observations[:10], buffer.actions[:10], buffer.rewards[:10] = 0.25, 0.5, 1.0
    batch = buffer.sample(50)
    assert (batch.observations.unique().tolist(), batch.actions.unique().tolist(), batch.rewards.unique().tolist()) == (
        [0.25], [0.5], [1.0]
    )  # fmt: skip
    for name in ("next_observations", "dones", "timeouts"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(buffer, name)[:10] = 0.75


def test_stacked_frames_are_not_written_to():
    """They are put together when they are read."""
    space = spaces.Box(0, 255, (4, 8, 8), np.uint8)
    buffer = TransitionReplayBuffer(20, space, spaces.Box(-1, 1, (1,), np.float32), "cpu", frame_stack=4)
    with pytest.raises(ValueError, match="read-only"):
        buffer.observations[0] = 1
