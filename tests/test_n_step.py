"""Returns of several steps, against an oracle that walks what was stored, transition by transition."""

import copy
import pickle
from io import BytesIO
from tempfile import TemporaryDirectory

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from conftest import CountingEnv
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.buffers import BufferFile, HindsightReplayBuffer, TransitionReplayBuffer, write_buffer

ACTIONS = spaces.Box(-1, 1, (2,), np.float32)
NUMBER = spaces.Box(-np.inf, np.inf, (1,), np.float32)
SPACES = {
    "box": NUMBER,
    "image": spaces.Box(0, 255, (3, 4, 4), np.uint8),
    "dict": spaces.Dict(image=spaces.Box(0, 255, (3, 4, 4), np.uint8), place=NUMBER),
    "goal": spaces.Dict(observation=NUMBER, achieved_goal=NUMBER, desired_goal=NUMBER),
}


def observation(space, serial):
    """One that no other transition has, for each environment."""
    if isinstance(space, spaces.Dict):
        return {key: observation(subspace, serial + 50 * i) for i, (key, subspace) in enumerate(space.spaces.items())}
    if space.dtype == np.uint8:
        digits = np.stack([serial // 250, serial % 250], axis=1).astype(np.uint8)
        return np.stack([np.resize(each, space.shape) for each in digits])
    return serial[:, None].astype(np.float32)


def take(obs, env):
    return {key: value[env] for key, value in obs.items()} if isinstance(obs, dict) else obs[env]


class Tape:
    """All that was ever stored, in order, and what a return from there on must be."""

    def __init__(self, n_envs):
        self.n_envs, self.tape = n_envs, [[] for _ in range(n_envs)]

    def record(self, rng, buffer, space, n_steps, ends=0.2, interruptions=0.05):
        for _ in range(n_steps):
            t = len(self.tape[0])
            number = 4 * t + 1000 * np.arange(self.n_envs)
            if t and rng.random() >= interruptions:
                obs = self.following
            else:
                obs = observation(space, number)
                self.interrupt()
            next_obs, self.following = (observation(space, number + more) for more in (1, 2))
            done = rng.random(self.n_envs) < ends
            timeout = done & (rng.random(self.n_envs) < 0.5)
            true_next = copy.deepcopy(next_obs)
            for env in range(self.n_envs):
                if not done[env]:  # the next transition starts there
                    self._set(true_next, self.following, env)
            action, reward = rng.uniform(-1, 1, (self.n_envs, 2)).astype(np.float32), rng.standard_normal(self.n_envs)
            infos = [{"TimeLimit.truncated": bool(each)} for each in timeout]
            buffer.add(obs, true_next, action, reward, done, infos)
            for env, tape in enumerate(self.tape):
                tape.append(
                    dict(obs=take(obs, env), action=action[env], reward=np.float32(reward[env]), done=done[env],
                         timeout=timeout[env], next_obs=take(true_next, env), goes_on=not done[env])
                )  # fmt: skip

    def interrupt(self):
        for tape in self.tape:
            if tape:
                tape[-1]["goes_on"] = False

    @staticmethod
    def _set(into, other, env):
        if isinstance(into, dict):
            for key in into:
                into[key][env] = other[key][env]
        else:
            into[env] = other[env]

    def expected(self, env, t, n_steps, gamma):
        """By walking from transition ``t`` of an environment: the return, the discount behind it, the end."""
        tape, total = self.tape[env], 0.0
        for m in range(n_steps):
            step = tape[t + m]
            total += gamma**m * step["reward"]
            if not step["goes_on"] or t + m + 1 == len(tape):
                break
        first = tape[t]
        return first["obs"], first["action"], total, gamma ** (m + 1), step["next_obs"], step["done"] and not step["timeout"]


def assert_follows(buffer, tape, env=None):
    """Every row that can be sampled is what the tape says."""
    n_filled = buffer.buffer_size if buffer.full else buffer.pos
    rows = np.arange(n_filled * tape.n_envs)
    samples = buffer.samples_of(rows)
    n_added = len(tape.tape[0])
    for row in rows.tolist():
        pos, env = divmod(row, tape.n_envs)
        t = n_added - 1 - (n_added - 1 - pos) % buffer.buffer_size
        obs, action, total, discount, next_obs, done = tape.expected(env, t, buffer.n_steps, buffer.gamma)
        for sampled, expected in ((samples.observations, obs), (samples.next_observations, next_obs)):
            for key in expected if isinstance(expected, dict) else [None]:
                mine, its = (sampled, expected) if key is None else (sampled[key], expected[key])
                np.testing.assert_array_equal(mine[row].numpy(), its)
        np.testing.assert_array_equal(samples.actions[row].numpy(), action)
        assert samples.rewards[row].item() == pytest.approx(total, abs=1e-5)
        assert samples.dones[row].item() == done
        if buffer.n_steps > 1:
            assert samples.discounts[row].item() == pytest.approx(discount, rel=1e-6)


@settings(max_examples=200, deadline=None)
@given(
    space=st.sampled_from(list(SPACES)),
    n_envs=st.integers(1, 5),
    size=st.integers(1, 30),
    n_steps=st.integers(1, 7),
    n_added=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    ends=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    interruptions=st.sampled_from([0.0, 0.2]),
    frame_stack=st.sampled_from([1, 3]),
    saved=st.sampled_from(["pickle", "file", "folder"]),
    seed=st.integers(0, 1000),
)
def test_every_return_is_that_of_the_oracle(
    space, n_envs, size, n_steps, n_added, ends, interruptions, frame_stack, saved, seed
):
    """
    Over episode lengths, the write pointer, interruptions, environments, kinds of observation, n; with HER; with frames stored
    one by one; after pickling, saving, and reopening a folder.
    """
    rng, tape = np.random.default_rng(seed), Tape(n_envs)
    frame_stack = frame_stack if space in ("image", "dict") else 1
    with TemporaryDirectory() as folder:

        def make():
            cls, env = (HindsightReplayBuffer, [None]) if space == "goal" else (TransitionReplayBuffer, [])
            kwargs = dict(n_sampled_goal=0) if env else {}
            path = folder if saved == "folder" else None
            kwargs |= dict(n_steps=n_steps, gamma=0.9, frame_stack=frame_stack, path=path)
            return cls(size * n_envs, SPACES[space], ACTIONS, *env, "cpu", n_envs, **kwargs)

        buffer = make()
        for n in n_added:
            tape.record(rng, buffer, SPACES[space], n, ends, interruptions)
            assert_follows(buffer, tape)
            if saved == "pickle":
                buffer = pickle.loads(pickle.dumps(buffer))
            elif saved == "file":
                file = BytesIO()
                write_buffer(file, buffer)
                buffer = make()
                BufferFile(file, "file").restore(buffer)
            else:
                del buffer
                buffer = make()
                tape.interrupt()
            assert_follows(buffer, tape)


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("n_steps", [2, 5])
def test_samples_are_those_of_sb3(n_envs, n_steps):
    """Where SB3's is right, without interruptions, the same random numbers give the same samples."""
    args, kwargs = (20 * n_envs, NUMBER, ACTIONS, "cpu", n_envs), dict(n_steps=n_steps, gamma=0.9)
    mine, its = TransitionReplayBuffer(*args, **kwargs), NStepReplayBuffer(*args, **kwargs)

    class Both:
        def add(self, *args):
            mine.add(*args)
            its.add(*args)

    rng, tape = np.random.default_rng(0), Tape(n_envs)
    for _ in range(10):
        tape.record(rng, Both(), NUMBER, 7, interruptions=0.0)
        state = np.random.get_state()
        samples = mine.sample(50)
        np.random.set_state(state)
        expected = its.sample(50)
        for name in ("observations", "actions", "next_observations", "dones", "rewards", "discounts"):
            th.testing.assert_close(getattr(samples, name), getattr(expected, name), rtol=1e-6, atol=1e-6)


def test_rewards_are_normalised_before_they_are_added():
    """Each by the statistics of the moment, which clip it, as in SB3."""
    env = VecNormalize(make_vec_env("Pendulum-v1", n_envs=2, seed=0), clip_reward=0.5)
    env.reset()
    args, kwargs = (100, env.observation_space, env.action_space, "cpu", 2), dict(n_steps=3, gamma=0.9)
    mine, its = TransitionReplayBuffer(*args, **kwargs), NStepReplayBuffer(*args, **kwargs)
    for _ in range(30):
        obs, action = env.get_original_obs(), np.stack([env.action_space.sample() for _ in range(2)])
        _, _, dones, infos = env.step(action)
        for buffer in (mine, its):
            buffer.add(obs, env.get_original_obs(), action, env.get_original_reward(), dones, infos)
    state = np.random.get_state()
    samples = mine.sample(40, env)
    np.random.set_state(state)
    expected = its.sample(40, env)
    th.testing.assert_close(samples.rewards, expected.rewards)
    th.testing.assert_close(samples.next_observations, expected.next_observations)


@pytest.mark.parametrize("policy", ["MlpPolicy", "MultiInputPolicy"])
def test_in_training(policy, dict_pendulum):
    """The model's n_steps and gamma arrive, for Dict observations too."""
    env = dict_pendulum if policy == "MultiInputPolicy" else gym.make("Pendulum-v1")
    model = DDPG(policy, env, n_steps=3, gamma=0.9, learning_starts=20, buffer_size=300, batch_size=16, seed=0, device="cpu")
    model.learn(60)
    assert (model.replay_buffer.n_steps, model.replay_buffer.gamma) == (3, 0.9)
    assert model.replay_buffer.sample(100).discounts.min().item() == pytest.approx(0.9**3)


@pytest.mark.parametrize("n_envs", [1, 3])
def test_transitions_of_an_environment(n_envs):
    """Filled by learn(): rewards of an episode are 1, 2, 3, ...; the last one counts, and a time limit bootstraps."""
    rules = ((4, "terminated"), (3, "truncated"), (5, "both"))
    env = DummyVecEnv([lambda: CountingEnv(rules) for _ in range(n_envs)])
    kwargs = dict(buffer_size=40 * n_envs, learning_starts=10**6, device="cpu", seed=0, n_steps=3, gamma=0.5)
    samples = DDPG("MlpPolicy", env, **kwargs).learn(150 * n_envs).replay_buffer.sample(300)
    for (episode, step), reward, discount, done, (_, last) in zip(
        samples.observations.tolist(), samples.rewards[:, 0].tolist(), samples.discounts[:, 0].tolist(),
        samples.dones[:, 0].tolist(), samples.next_observations.tolist(), strict=True,
    ):  # fmt: skip
        length, end = rules[int(episode) % 3]
        m = int(min(3, length - step))
        if last - step < m:  # the newest of its environment
            m = int(last - step)
        assert reward == pytest.approx(sum(0.5**k * (step + 1 + k) for k in range(m)))
        assert discount == 0.5**m
        assert last == step + m
        assert done == (last == length and end != "truncated")


@pytest.mark.parametrize("cls", [TransitionReplayBuffer, HindsightReplayBuffer])
def test_a_new_training_is_no_continuation(cls):
    """Where the first observation after a reset looks like the last one before, too."""

    class Constant(gym.Env):
        observation_space, action_space = SPACES["goal"], ACTIONS

        def reset(self, *, seed=None, options=None):
            self.t = 0
            return {key: np.zeros(1, np.float32) for key in ("observation", "achieved_goal", "desired_goal")}, {}

        def step(self, action):
            self.t += 1
            return self.reset.__func__(Constant())[0], float(self.t), False, False, {}

    kwargs = dict(n_steps=3, gamma=1.0, buffer_size=100, learning_starts=10**6, device="cpu", replay_buffer_class=cls)
    if cls is HindsightReplayBuffer:
        kwargs["replay_buffer_kwargs"] = dict(n_sampled_goal=0)
    model = DDPG("MultiInputPolicy", Constant(), **kwargs).learn(5).learn(5)
    returns = model.replay_buffer.samples_of(np.arange(10)).rewards[:, 0].tolist()
    assert returns == [6, 9, 12, 9, 5, 6, 9, 12, 9, 5]
    model.learn(2, reset_num_timesteps=False)
    assert model.replay_buffer.samples_of(np.arange(8, 12)).rewards[:, 0].tolist() == [15, 18, 13, 7]


def test_a_loaded_buffer_has_the_model_s_returns(tmp_path):
    """Their length and discount are the model's that goes on with it."""
    kwargs = dict(learning_starts=10, buffer_size=100, device="cpu", policy_kwargs=dict(net_arch=[8]))
    DDPG("MlpPolicy", "Pendulum-v1", n_steps=3, gamma=0.5, **kwargs).learn(20).save_replay_buffer(tmp_path / "buffer")
    model = DDPG("MlpPolicy", "Pendulum-v1", gamma=0.9, n_steps=2, **kwargs)
    model.load_replay_buffer(tmp_path / "buffer")
    assert model.replay_buffer.sample(50).discounts.min().item() == pytest.approx(0.81)


def test_memory_optimisation_of_sb3():
    """Its flag does nothing here, in a second training either."""
    model = DDPG("MlpPolicy", "Pendulum-v1", optimize_memory_usage=True, learning_starts=10, buffer_size=100, device="cpu")
    assert model.learn(20).learn(20).optimize_memory_usage is True


def test_a_number_of_steps_that_is_no_int():
    """1.0 is 1, also for a buffer of Stable-Baselines3 that would index by it."""
    kwargs = dict(replay_buffer_class=NStepReplayBuffer, replay_buffer_kwargs=dict(n_steps=2.0))
    model = DDPG("MlpPolicy", "Pendulum-v1", buffer_size=50, learning_starts=5, batch_size=4, device="cpu", **kwargs)
    assert model.learn(20).replay_buffer.n_steps == 2
