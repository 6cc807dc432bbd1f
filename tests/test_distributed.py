"""Collection by workers, each part by itself, and together without Ray: tasks run in this process (inline_ray.py)."""

import importlib.util
import json
import platform
import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from conftest import CountingEnv
from gymnasium import spaces
from inline_ray import InlineRay
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack, VecNormalize, VecTransposeImage

from sb3_ddpg_ext import DDPG, RecurrentDDPG
from sb3_ddpg_ext.buffers import HindsightReplayBuffer
from sb3_ddpg_ext.collector import Moment
from sb3_ddpg_ext.demonstrations import record_episodes
from sb3_ddpg_ext.distributed import RayCollector, RemoteEnvs, WorkersLost, make_collector
from sb3_ddpg_ext.distributed import envs as remote_envs
from sb3_ddpg_ext.distributed.chunk import Chunk, Order, info_of, worth_sending
from sb3_ddpg_ext.distributed.crew import Crew
from sb3_ddpg_ext.distributed.making import EnvRecipe, ThreadedVecEnv
from sb3_ddpg_ext.distributed.pace import Pace
from sb3_ddpg_ext.distributed.rounds import Rounds
from sb3_ddpg_ext.noise import AdaptiveParameterNoise, GaussianNoise

SMALL = dict(net_arch=[8])


@pytest.fixture
def ray(monkeypatch):
    """Ray in this process."""
    inline = InlineRay()
    monkeypatch.setattr(remote_envs, "connect", lambda settings: inline)
    return inline


def collector(**kwargs):
    return dict(kind="ray", n_workers=2, envs_per_worker=2) | kwargs


class LineEnv(gym.Env):
    """Observation = (number of this environment, episode, step); an episode of 5 steps ends, the next of 7 is cut."""

    made = 0

    def __init__(self):
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)
        LineEnv.made += 1
        self.number, self.episode = np.random.default_rng().integers(2**20), -1

    def _obs(self):
        return np.array([self.number, self.episode, self.steps], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.steps = self.episode + 1, 0
        return self._obs(), {}

    def step(self, action):
        self.steps += 1
        ends = self.steps >= (5, 7)[self.episode % 2]
        return self._obs(), float(self.steps), ends and self.episode % 2 == 0, ends and self.episode % 2 == 1, {}


def check_lines(buffer):
    """Each stored transition is one that LineEnv has made, and windows of several steps hold what really followed."""
    n = buffer.n_written
    rows = np.arange(n)
    for n_steps in (1, 3):
        buffer.n_steps = n_steps
        batch = buffer.samples_of(rows)
        obs, after = batch.observations.numpy(), batch.next_observations.numpy()
        m = np.round(np.log(batch.discounts.numpy()[:, 0]) / np.log(buffer.gamma)).astype(int)
        np.testing.assert_array_equal(after[:, :2], obs[:, :2])
        np.testing.assert_array_equal(after[:, 2], obs[:, 2] + m)
        returns = sum(np.where(k < m, buffer.gamma**k * (obs[:, 2] + 1 + k), 0) for k in range(n_steps))
        np.testing.assert_allclose(batch.rewards.numpy()[:, 0], returns, rtol=1e-6)
        np.testing.assert_array_equal(batch.dones.numpy()[:, 0], (after[:, 2] == 5) & (obs[:, 1] % 2 == 0))
        yield m


def test_settings_are_checked():
    """By name, value and what is allowed; a kind, a number of workers, a dict and an object all stand for one."""
    assert make_collector(None) is None
    assert make_collector("ray_8").n_workers == 8
    made = make_collector(collector(sync_every=1000))
    assert (made.n_envs, made.steps, make_collector(made)) == (4, 62, made)
    assert RayCollector(8, 8, sync_every=1000).steps == 3
    assert RayCollector(8, 8, mode="synchronous").steps == 1
    for wrong, message in (
        (dict(n_workers=0), "n_workers=0 must be an integer >= 1"),
        (dict(mode="sync"), "mode='sync' must be one of"),
        (dict(ratio=0), "ratio=0 must be a finite number > 0"),
        (dict(learning_ahead=5), "learning_ahead=5 must be 0 without a ratio"),
        (dict(scales=[1, 2]), "must have n_envs=4"),
        (dict(mode="synchronous", chunk=5), "chunk=5 must be None with mode='synchronous'"),
        (dict(workers=3), "did you mean 'n_workers'"),
        (dict(time_limit=0), "time_limit=0 must be"),
    ):
        with pytest.raises(ValueError, match=message):
            make_collector(collector(**wrong))
    with pytest.raises(TypeError, match="collector=3 must be None for this process"):
        make_collector(3)


def test_the_ladder():
    """Horgan et al. (2018), section 4.1: epsilon_i = 0.4^(1 + 7 i / (N - 1)), relative to the first."""
    factors = np.array(RayCollector(4, 2, scales="ladder").factors)
    np.testing.assert_allclose(factors, [0.4 ** (1 + 7 * i / 7) / 0.4 for i in range(8)])


def test_pace():
    """Updates follow transitions by the ratio to one; in advance at most as many as allowed."""
    pace = Pace(0.3)
    assert sum(pace.updates(7, 1) for _ in range(100)) in (209, 210)
    assert not pace.has_credit or pace.updates(0, 1) == 0
    ahead = Pace(0.5, ahead=10)
    assert sum(ahead.updates(0, 1) for _ in range(10)) == 10
    assert not ahead.has_credit
    assert ahead.updates(20, 1) == 0  # they have been made
    assert ahead.updates(10, 1) == 5
    assert (Pace(None).updates(7, -1), Pace(None).updates(7, 3), Pace(None).updates(0, 1)) == (7, 3, 1)


def chunk(number, value, steps=2, columns=1):
    """A chunk whose rewards say where it comes from."""
    rewards = np.full((steps, columns), value, float) + np.arange(steps)[:, None] / 10
    observations = np.zeros((steps + 1, columns, 1))
    return Chunk(observations, rewards[..., None], rewards, rewards < 0, {}, number, number, None, 0.0)


def test_rounds_keep_environments_in_their_columns():
    """While all are in step."""
    rounds = Rounds(2, 1)
    rounds.put(0, 0, chunk(0, 10))
    assert rounds.next() is None
    rounds.put(1, 0, chunk(0, 20))
    first = rounds.next()
    np.testing.assert_allclose(first.rewards, [[10, 20], [10.1, 20.1]])
    assert first.begins.all()
    rounds.put(1, 0, chunk(1, 21))
    rounds.put(0, 0, chunk(1, 11))
    second = rounds.next()
    np.testing.assert_allclose(second.rewards[0], [11, 21])
    assert not second.begins.any()


def test_nobody_waits_for_one_environment():
    """Its column takes what others have ahead, and all columns that do not go on are named; nothing is lost."""
    rounds = Rounds(2, 1)
    rounds.put(0, 0, chunk(0, 10))
    rounds.put(1, 0, chunk(0, 20))
    rounds.next()
    rounds.put(0, 0, chunk(1, 11))
    assert rounds.next() is None
    rounds.put(0, 0, chunk(2, 12))
    second = rounds.next()
    np.testing.assert_allclose(second.rewards[0], [11, 12])
    np.testing.assert_array_equal(second.begins, [False, True])
    assert rounds.n_taken == 1
    rounds.put(0, 0, chunk(3, 13))
    rounds.put(1, 1, chunk(0, 30))  # started anew
    third = rounds.next()
    np.testing.assert_allclose(third.rewards[0], [13, 30])
    np.testing.assert_array_equal(third.begins, [True, True])  # 12 is in the other column
    assert rounds.n_pieces == 0
    synchronous = Rounds(2, 1, may_take=False)
    for number in range(3):
        synchronous.put(0, 0, chunk(number, 1))
    assert synchronous.next() is None


@pytest.mark.parametrize("seed", range(20))
def test_the_rest_of_the_rounds(seed):
    """All that has come makes rows: each step once, fewer than a row are repeated, and each cut is named."""
    random = np.random.default_rng(seed)
    n_workers, columns, steps = 3, int(random.integers(1, 3)), int(random.integers(1, 6))
    rounds, came, rows, begins = Rounds(n_workers, columns), [], [], []
    numbers = [0] * n_workers
    for worker in random.integers(0, n_workers, random.integers(1, 12)):
        value = 1000.0 * (worker + 1) + numbers[worker] * steps
        made = chunk(numbers[worker], 0.0, steps, columns)
        rewards = (value + np.arange(steps))[:, None] + 10_000 * np.arange(columns)
        rounds.put(worker, 0, made._replace(rewards=rewards, infos={(0, 0): {"episode": value}}))
        came += rewards.flatten().tolist()
        numbers[worker] += 1
        if random.random() < 0.3 and (round_ := rounds.next()) is not None:
            rows += list(round_.rewards)
            begins += [round_.begins, *[np.zeros(len(round_.begins), bool)] * (steps - 1)]
    ended = []
    while (round_ := rounds.rest()) is not None:
        rows += list(round_.rewards)
        begins.append(round_.begins)
        ended += [info["episode"] for info in round_.infos_at(0) if "episode" in info]
        assert rounds.next() is None
    stored = np.concatenate(rows).tolist()
    assert set(stored) == set(came)
    assert len(stored) - len(came) < n_workers * columns
    assert len(ended) == len(set(ended))
    for earlier, later, begin in zip(rows[:-1], rows[1:], begins[1:], strict=True):
        np.testing.assert_array_equal(later != earlier + 1, begin)


def test_infos_that_say_nothing_are_not_sent():
    """And come back as Stable-Baselines3 has them."""
    assert worth_sending({"TimeLimit.truncated": False}) == {}
    assert info_of(None) == {"TimeLimit.truncated": False}
    for info in ({"x": 1, "TimeLimit.truncated": False}, {"TimeLimit.truncated": True}):
        assert info_of(worth_sending(info)) == info


def local_envs(make, n=4):
    return DummyVecEnv([lambda: Monitor(make())] * n)


def short_pendulum():
    return gym.make("Pendulum-v1", max_episode_steps=40)


def same_contents(mine, its, rtol=0.0):
    assert (mine.pos, mine.full) == (its.pos, its.full)
    n = slice(0, mine.storage.n_filled)
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        np.testing.assert_allclose(getattr(mine, name)[n], getattr(its, name)[n], rtol=rtol, atol=rtol, err_msg=name)


@pytest.mark.parametrize("noise", ["normal_0.2", "ou_0.3,epsilon_0.1", "param_0.1"])
def test_synchronous_is_one_process(ray, noise):
    """Transition for transition, with the same seed: warm-up, noise, updates, ends of episodes, parameters."""
    kwargs = dict(seed=3, learning_starts=100, action_noise=noise, policy_kwargs=SMALL, n_steps=2, gradient_steps=2)
    mine = DDPG("MlpPolicy", short_pendulum, collector=collector(mode="synchronous"), **kwargs).learn(500)
    its = DDPG("MlpPolicy", local_envs(short_pendulum), **kwargs).learn(500)
    tolerance = 1e-3 if "param" in noise else 0.0  # copies of the actor are evaluated in batches of other sizes
    same_contents(mine.replay_buffer, its.replay_buffer, tolerance)
    assert mine._n_updates == its._n_updates > 0
    if not tolerance:
        for name, parameter in its.policy.state_dict().items():
            assert th.equal(mine.policy.state_dict()[name], parameter)


def test_synchronous_with_vec_normalize(ray):
    """The statistics are those of one process, too, and go to the workers."""
    kwargs = dict(seed=3, learning_starts=100, action_noise="normal_0.2", policy_kwargs=SMALL)
    envs = [VecNormalize(local_envs(short_pendulum)) for _ in range(2)]
    mine = DDPG("MlpPolicy", envs[0], collector=collector(mode="synchronous"), **kwargs).learn(500)
    its = DDPG("MlpPolicy", envs[1], **kwargs).learn(500)
    same_contents(mine.replay_buffer, its.replay_buffer)
    np.testing.assert_array_equal(mine.get_vec_normalize_env().obs_rms.mean, its.get_vec_normalize_env().obs_rms.mean)
    np.testing.assert_array_equal(mine.get_vec_normalize_env().ret_rms.var, its.get_vec_normalize_env().ret_rms.var)


@pytest.mark.parametrize("size", [7, 100])
def test_chunks_leave_no_trace(ray, size):
    """Where the actor does not change, asynchronous workers make the transitions of one process, whatever the chunks."""
    kwargs = dict(seed=3, learning_starts=10**6, random_steps=0, policy_kwargs=SMALL, n_steps=3, buffer_size=4000)
    mine = DDPG("MlpPolicy", "Pendulum-v1", collector=collector(chunk=size), **kwargs).learn(2000)
    its = DDPG("MlpPolicy", local_envs(lambda: gym.make("Pendulum-v1")), **kwargs).learn(2000)
    same_contents(mine.replay_buffer, its.replay_buffer, 1e-3)
    assert mine.num_timesteps == its.num_timesteps == 2000
    rows = np.arange(2000)
    one, other = (model.replay_buffer.samples_of(rows) for model in (mine, its))
    np.testing.assert_allclose(one.rewards, other.rewards, rtol=1e-3)
    np.testing.assert_array_equal(one.discounts, other.discounts)


class Goals(gym.Env):
    """The goal is where one is; episodes of 12 steps."""

    def __init__(self):
        box = spaces.Box(-1e3, 1e3, (1,), np.float32)
        self.observation_space = spaces.Dict(observation=box, achieved_goal=box, desired_goal=box)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)

    def _obs(self):
        x = np.float32([self.x])
        return dict(observation=x, achieved_goal=x, desired_goal=np.float32([-500]))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.steps = float(self.np_random.integers(100)), 0
        return self._obs(), {}

    def step(self, action):
        self.x, self.steps = self.x + 1, self.steps + 1
        return self._obs(), -1.0, False, self.steps == 12, {}

    def compute_reward(self, achieved, desired, info):
        return -(achieved != desired).astype(np.float32)[..., 0]


def test_goals_across_chunks(ray):
    """Where each transition is in its episode is what one process says, and rewards come from the environment here."""
    kwargs = dict(
        seed=0, learning_starts=10**6, replay_buffer_class=HindsightReplayBuffer, policy_kwargs=SMALL, buffer_size=2000
    )
    mine = DDPG("MultiInputPolicy", Goals, collector=collector(chunk=5), **kwargs).learn(800)
    its = DDPG("MultiInputPolicy", local_envs(Goals), **kwargs).learn(800)
    n = mine.replay_buffer.n_written
    for name in ("before", "after"):
        mine_, its_ = (getattr(model.replay_buffer.episodes, name)[:n] for model in (mine, its))
        np.testing.assert_array_equal(mine_, its_)
    batch = mine.replay_buffer.sample(200)
    achieved = batch.next_observations["achieved_goal"] == batch.next_observations["desired_goal"]
    assert achieved.any()
    np.testing.assert_array_equal(batch.rewards[:, 0] == 0, achieved[:, 0])


def test_one_worker_hangs(ray):
    """The others go on; what is stored is what the environments did, also where columns changed hands."""
    model = DDPG(
        "MlpPolicy", LineEnv, seed=0, policy_kwargs=SMALL, collector=collector(n_workers=3, chunk=4), buffer_size=3000
    )
    seen = []
    ray.stalls = lambda worker: worker.index == 1 and model.num_timesteps > 300
    model.learn(2400, callback=lambda local, _: seen.append(local["self"].num_timesteps) or True)
    assert model.num_timesteps == 2400
    of_one_step, of_three = check_lines(model.replay_buffer)
    assert of_one_step.max() == 1
    assert of_three.max() == 3
    assert (of_three == 3).mean() > 0.4  # of 6 on average, the last two see the end; chunks of 4 are cut for a third
    assert model._collector.statistics()["taken"] > 20


def test_prioritised_replay_of_columns_that_change_hands(ray):
    """Each transition that was stored can be drawn, and learnt from."""
    model = DDPG(
        "MlpPolicy", LineEnv, seed=0, policy_kwargs=SMALL, n_steps=3, collector=collector(n_workers=3, chunk=4),
        replay_buffer_kwargs=dict(sampling="prioritized"), buffer_size=600,
    )  # fmt: skip
    ray.stalls = lambda worker: worker.index == 2 and model.num_timesteps > 200
    model.learn(1500)
    assert model.replay_buffer.full
    assert (model.replay_buffer.sampling.tree.values[: model.replay_buffer.n_written] > 0).all()
    list(check_lines(model.replay_buffer))


def test_a_worker_that_fails_is_started_anew(ray):
    """With other seeds; what had come stays; the warning says why."""

    class Failing(LineEnv):
        def step(self, action):
            if self.episode == 3 and LineEnv.made == 5:  # the template and four more
                raise OSError("the cable is out")
            return super().step(action)

    LineEnv.made = 0
    model = DDPG("MlpPolicy", Failing, seed=0, policy_kwargs=SMALL, collector=collector(chunk=4), buffer_size=3000)
    with pytest.warns(RuntimeWarning, match="worker . is started anew: OSError: the cable is out"):
        model.learn(800)
    assert model.num_timesteps == 800
    list(check_lines(model.replay_buffer))
    assert {actor.instance.start for actor in ray.actors} == {0, 1}
    assert model._collector.statistics()["restarts"] >= 1


def test_too_many_failures(ray):
    """An error with the environment's own; what had been stored stays."""

    class Failing(LineEnv):
        def step(self, action):
            if self.episode == 4:
                raise OSError("the cable is out")
            return super().step(action)

    model = DDPG("MlpPolicy", Failing, policy_kwargs=SMALL, collector=collector(chunk=30, tries=2), learning_starts=10)
    message = r"failed 3 times in a row \(collector: tries=2\), at last with .*the cable is out"
    with pytest.raises(WorkersLost, match=message), pytest.warns(RuntimeWarning, match="is started anew"):
        model.learn(800)
    assert model.num_timesteps == 0  # no half chunk: the first ones failed after 24 of 30 steps
    assert model.replay_buffer.size() == 0
    assert all(actor.is_dead for actor in ray.actors)


class Broken(LineEnv):
    """Raises after so many steps of all such environments."""

    left = 10**9

    def step(self, action):
        Broken.left -= 1
        if Broken.left < 0:
            raise OSError("the cable is out")
        return super().step(action)


@pytest.mark.parametrize("mode", ["asynchronous", "synchronous"])
def test_what_had_arrived_is_stored_when_workers_are_lost(ray, monkeypatch, mode):
    """Also chunks that waited for others; steps of them that fill the last row are there twice."""
    came, put = [], Rounds.put

    def listen(rounds, worker, start, chunk):
        came.extend(map(tuple, chunk.observations[:-1].reshape(-1, 3)))
        put(rounds, worker, start, chunk)

    monkeypatch.setattr(Rounds, "put", listen)
    monkeypatch.setattr(Broken, "left", 10**9)
    kwargs = dict(chunk=4) if mode == "asynchronous" else dict(mode=mode)
    model = DDPG("MlpPolicy", Broken, policy_kwargs=SMALL, collector=collector(n_workers=3, tries=1, **kwargs))

    def until(local, _):
        if model.num_timesteps > 100:
            Broken.left = min(Broken.left, 10 if mode == "asynchronous" else 2)  # enough for one worker of two environments
        return True

    with pytest.raises(WorkersLost, match="the cable is out"), pytest.warns(RuntimeWarning, match="is started anew"):
        model.learn(10**6, until)
    buffer = model.replay_buffer
    stored = list(map(tuple, buffer.observations[: buffer.n_written // 6].reshape(-1, 3)))
    assert set(stored) == set(came)
    assert 0 <= len(stored) - len(came) < 6
    assert model.num_timesteps == len(stored)
    assert len(stored) > len(came)  # they were too few for a round
    list(check_lines(buffer))
    assert all(actor.is_dead for actor in ray.actors)
    assert model.get_env().crew is None


def test_a_training_that_ends_with_the_last_rows_of_lost_workers(ray, monkeypatch):
    """The next one takes the rest before its error, and the one after that has other workers."""
    monkeypatch.setattr(Broken, "left", 10**9)
    model = DDPG("MlpPolicy", Broken, policy_kwargs=SMALL, collector=collector(tries=0, chunk=30))

    def break_off(local, _):
        Broken.left = min(Broken.left, 70) if model.num_timesteps > 60 else Broken.left
        return True

    model.learn(100, break_off)
    while model.get_env().crew.lost is None:
        model.learn(4, break_off, reset_num_timesteps=False)
    before = model.num_timesteps
    assert model.get_env().has_begun
    with pytest.raises(WorkersLost, match="the cable is out"):
        model.learn(10**6, break_off, reset_num_timesteps=False)
    assert model.num_timesteps > before
    list(check_lines(model.replay_buffer))
    monkeypatch.setattr(Broken, "left", 10**9)
    model.learn(100)
    assert not model.get_env().crew.lost


def test_a_hanging_worker_is_started_anew(ray):
    """After its time limit."""
    model = DDPG(
        "MlpPolicy", LineEnv, policy_kwargs=SMALL, collector=collector(chunk=4, time_limit=0.05), learning_starts=10**6
    )
    ray.stalls = lambda worker: worker.index == 1 and worker.start == 0 and model.num_timesteps > 100
    with pytest.warns(RuntimeWarning, match=r"no chunk has come within 0.05 s \(collector: time_limit\)"):
        model.learn(10**7, callback=lambda local, _: not local["self"]._collector.statistics()["restarts"])
    assert {actor.instance.start for actor in ray.actors if actor.instance.index == 1} >= {0, 1}


def test_collection_stays_within_its_bounds(ray):
    """Chunks that wait are at most those of collection_ahead; parameters that act are not older than is said."""

    class Look(BaseCallback):
        def _on_step(self):
            remote = self.training_env
            waiting.append(max(remote.rounds.n_waiting(w) + remote.crew.hands[w].n_asked for w in range(2)))
            return True

    waiting = []
    model = DDPG("MlpPolicy", LineEnv, policy_kwargs=SMALL, collector=collector(chunk=5, sync_every=40), gradient_steps=1)
    model.learn(1000, Look())
    assert max(waiting) == 2
    age = model._collector.statistics()["weights_age_max"]
    assert 0 < age <= 40 + 3 * 5 * 4


def test_ratio_and_learning_ahead(ray):
    """Updates are the ratio times the transitions; at most learning_ahead more."""
    kwargs = dict(policy_kwargs=SMALL, learning_starts=0)
    model = DDPG("MlpPolicy", LineEnv, collector=collector(chunk=5, ratio=0.25), **kwargs).learn(1000)
    assert model._n_updates == 250
    model = DDPG("MlpPolicy", LineEnv, collector=collector(chunk=5, ratio=0.25, learning_ahead=30), **kwargs)
    stalled = iter([False] * 40 + [True] * 60 + [False] * 10**6)
    ray.stalls = lambda worker: next(stalled)
    model.learn(1000)
    assert 250 <= model._n_updates <= 280


def test_scales_multiply_the_noise(ray):
    """Of each environment by its own factor."""
    scales = [1.0, 0.5, 0.0, 0.1]
    model = DDPG(
        "MlpPolicy", CountingEnv, action_noise=GaussianNoise(0.2), policy_kwargs=SMALL, learning_starts=10**6, random_steps=0,
        collector=collector(chunk=10, scales=scales),
    )  # fmt: skip
    for parameter in model.policy.actor.parameters():
        parameter.data.zero_()
    model.learn(8000)
    spread = model.replay_buffer.actions[:2000, :, 0].std(axis=0)
    np.testing.assert_allclose(spread, 0.2 * np.array(scales), rtol=0.08, atol=1e-6)
    with pytest.raises(ValueError, match="scales='ladder' needs an action_noise that is added"):
        DDPG("MlpPolicy", CountingEnv, action_noise="param_0.1", collector=collector(scales="ladder")).learn(10)


def test_noise_has_streams_of_its_own(ray):
    """Workers draw what one process draws for their environments; a noise of Stable-Baselines3 works, too."""
    kwargs = dict(seed=1, policy_kwargs=SMALL, learning_starts=10**6, random_steps=0)
    mine = DDPG("MlpPolicy", "Pendulum-v1", action_noise="pink_0.3", collector=collector(chunk=9), **kwargs).learn(1200)
    its = DDPG("MlpPolicy", local_envs(lambda: gym.make("Pendulum-v1")), action_noise="pink_0.3", **kwargs).learn(1200)
    same_contents(mine.replay_buffer, its.replay_buffer, 1e-3)
    noise = NormalActionNoise(np.zeros(1), 0.5 * np.ones(1))
    model = DDPG("MlpPolicy", CountingEnv, action_noise=noise, collector=collector(chunk=9), **kwargs).learn(1000)
    spread = model.replay_buffer.actions[:200].std(axis=0)
    assert (spread > 0.2).all()


def test_adaptive_noise_follows_the_learner(ray):
    """Sigma adapts where the updates are, and goes to the workers with the parameters."""
    noise = AdaptiveParameterNoise(0.2, interval=1)
    model = DDPG("MlpPolicy", "Pendulum-v1", action_noise=noise, policy_kwargs=SMALL, collector=collector(sync_every=40))
    model.learn(1000)
    sigmas = [actor.instance.acting.noise.statistics()["parameter_sigma"] for actor in ray.actors]
    ours = model.parameter_noise.statistics()["parameter_sigma"]
    assert ours != 0.2
    np.testing.assert_allclose(sigmas, ours, rtol=0.6)
    assert all(sigma != 0.2 for sigma in sigmas)


def test_learn_again_and_callbacks_that_stop(ray):
    """Without a reset episodes go on where they were; what has come meanwhile is stored; a stop begins new ones."""
    model = DDPG("MlpPolicy", LineEnv, policy_kwargs=SMALL, collector=collector(chunk=5), buffer_size=4000)
    model.learn(400)
    workers = list(ray.actors)
    model.learn(400, reset_num_timesteps=False)
    assert ray.actors == workers
    assert model.num_timesteps == 800
    _, of_three = check_lines(model.replay_buffer)
    assert (of_three == 3).mean() > 0.6  # no cuts
    model.learn(400, callback=lambda local, _: local["self"].num_timesteps < 100)
    assert model.num_timesteps == 100
    model.learn(400)
    list(check_lines(model.replay_buffer))


def test_ctrl_c_stops_the_workers(ray):
    """And a later training starts others, with other seeds."""
    model = DDPG("MlpPolicy", LineEnv, policy_kwargs=SMALL, collector=collector(chunk=5))

    def interrupt(local, _):
        if local["self"].num_timesteps > 200:
            raise KeyboardInterrupt
        return True

    with pytest.raises(KeyboardInterrupt):
        model.learn(400, callback=interrupt)
    assert all(actor.is_dead for actor in ray.actors)
    model.learn(100)
    assert {actor.instance.start for actor in ray.actors} == {0, 1}
    list(check_lines(model.replay_buffer))


def test_a_second_ctrl_c_while_the_workers_are_stopped(ray, monkeypatch):
    """What comes next begins with new episodes and other workers all the same."""
    model = DDPG("MlpPolicy", LineEnv, policy_kwargs=SMALL, collector=collector(chunk=5))

    def interrupt(*_):
        raise KeyboardInterrupt

    close = Crew.close
    monkeypatch.setattr(Crew, "close", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.learn(400, callback=lambda local, _: local["self"].num_timesteps < 200 or interrupt())
    monkeypatch.setattr(Crew, "close", close)
    first = list(ray.actors)
    model.learn(200, reset_num_timesteps=False)
    assert not set(first) & set(ray.actors[len(first) :])
    list(check_lines(model.replay_buffer))


def test_other_settings_are_for_other_workers(ray):
    """The same ones stay with SB3's noise, too, of which the model makes one for each environment."""
    noise = NormalActionNoise(np.zeros(1), np.full(1, 0.1))
    kwargs = dict(n_workers=1, envs_per_worker=4)
    model = DDPG("MlpPolicy", LineEnv, policy_kwargs=SMALL, action_noise=noise, collector=collector(**kwargs, chunk=5))
    model.learn(100)
    workers = list(ray.actors)
    model.learn(100, reset_num_timesteps=False)
    assert ray.actors == workers
    model.collector = RayCollector(**kwargs, chunk=3)
    model.learn(100, reset_num_timesteps=False)
    assert len(ray.actors) > len(workers)
    list(check_lines(model.replay_buffer))


def test_infos_that_hindsight_wants_are_sent():
    """They are at the ends only with infos="ends", which is refused."""
    model = DDPG(
        "MultiInputPolicy", Goals, replay_buffer_class=HindsightReplayBuffer, collector=collector(infos="ends"),
        replay_buffer_kwargs=dict(copy_info_dict=True),
    )  # fmt: skip
    with pytest.raises(ValueError, match="infos='ends' must be 'all' with copy_info_dict=True"):
        model.learn(10)


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "gymnasium:Pendulum-v1", "Pendulum"])
@pytest.mark.filterwarnings("ignore:.*latest versioned environment")
def test_ids_as_gymnasium_understands_them(env_id):
    """With a module before it, or without a version."""
    assert EnvRecipe(env_id)().spec.id == "Pendulum-v1"


def test_only_ends_have_infos(ray):
    """With infos="ends"; what the storage and Monitor need is there."""

    class Talking(LineEnv):
        def step(self, action):
            return *super().step(action)[:4], {"said": self.steps}

    said = {}
    for infos in ("all", "ends"):
        said[infos] = []

        def listen(local, _, heard=said[infos]):
            heard += [(bool(done), "said" in info) for done, info in zip(local["dones"], local["infos"], strict=True)]
            return True

        model = DDPG("MlpPolicy", Talking, policy_kwargs=SMALL, collector=collector(chunk=5, infos=infos))
        model.learn(400, callback=listen)
        assert len(model.ep_info_buffer) > 20
        assert np.isfinite(model.ep_info_buffer[0]["r"])
        list(check_lines(model.replay_buffer))
    assert {talks for _, talks in said["all"]} == {True}
    assert all(done == talks for done, talks in said["ends"])


def test_environments_are_made_where_they_run():
    """Of an id, a function, an environment or vectorised ones; what cannot be pickled is named."""
    for env in ("Pendulum-v1", lambda: gym.make("Pendulum-v1"), gym.make("Pendulum-v1"), local_envs(CountingEnv)):
        assert isinstance(EnvRecipe(env)(), Monitor)
    env = CountingEnv()
    env.pipe = (number for number in range(3))
    with pytest.raises(TypeError, match=r"can be pickled, .* but CountingEnv\.pipe cannot"):
        EnvRecipe(env)
    pipe = env.pipe
    with pytest.raises(TypeError, match=r"\.pipe cannot"):
        EnvRecipe(lambda: (CountingEnv(), pipe)[0])
    with pytest.raises(TypeError, match="must be a function that makes a gymnasium environment"):
        EnvRecipe(lambda: 3)()
    with pytest.raises(TypeError, match="must be the id of an environment, a function"):
        EnvRecipe(3)


def test_a_monitor_leaves_its_file_here(tmp_path):
    """Workers write none, and that of the first stays open."""
    env = Monitor(CountingEnv(), str(tmp_path / "log"))
    made = EnvRecipe(DummyVecEnv([lambda: env]))()
    assert isinstance(made, Monitor)
    assert made.results_writer is None
    assert env.results_writer is not None


def test_threads_step_as_one_after_the_other():
    """Observations, ends and infos are the same, and waiting is shared."""
    made = [cls([lambda: gym.make("Pendulum-v1", max_episode_steps=7)] * 3) for cls in (DummyVecEnv, ThreadedVecEnv)]
    for env in made:
        env.seed(0)
    np.testing.assert_array_equal(*(env.reset() for env in made))
    for _ in range(20):
        action = np.random.uniform(-2, 2, (3, 1)).astype(np.float32)
        one, other = (env.step(action) for env in made)
        for mine, its in zip(one[:3], other[:3], strict=True):
            np.testing.assert_array_equal(mine, its)
        assert [sorted(info) for info in one[3]] == [sorted(info) for info in other[3]]
    made[1].close()


def test_refusals():
    """By name, before anything runs."""
    envs = local_envs(CountingEnv)
    for env, error, message in (
        (VecFrameStack(envs, 2), ValueError, "env=VecFrameStack must not be around"),
        (SubprocVecEnv([CountingEnv]), TypeError, "must be the id of an environment"),
    ):
        with pytest.raises(error, match=message):
            DDPG("MlpPolicy", env, collector=collector())
        env.close()
    with pytest.raises(ValueError, match="has no argument 'workers', did you mean 'n_workers'"):
        DDPG("MlpPolicy", "Pendulum-v1", collector=dict(kind="ray", workers=2))
    with pytest.raises(ValueError, match="the kind 'rya' is unknown, did you mean 'ray'"):
        DDPG("MlpPolicy", "Pendulum-v1", collector="rya")
    model = DDPG("MlpPolicy", "Pendulum-v1", collector=collector())
    with pytest.raises(ValueError, match="only learn"):
        model.get_env().reset()
    model.collector = RayCollector(4, 1)
    with pytest.raises(ValueError, match=r"must have \(n_workers, envs_per_worker\)=\(2, 2\)"):
        model.learn(10)


def test_the_environments_look_like_any():
    """Spaces, attributes and methods, before workers have been started."""
    env = RemoteEnvs(RayCollector(2, 2), EnvRecipe("Pendulum-v1"))
    assert env.num_envs == 4
    assert env.get_attr("g") == [10.0] * 4
    assert [spec.id for spec in env.get_attr("spec", indices=[0])] == ["Pendulum-v1"]
    assert env.env_is_wrapped(Monitor) == [True] * 4
    env.close()


def test_attributes_of_workers(ray):
    """Are read and set there."""
    model = DDPG("MlpPolicy", "Pendulum-v1", policy_kwargs=SMALL, collector=collector(chunk=5)).learn(40)
    env = model.get_env()
    env.set_attr("g", 5.0, indices=[3])
    assert env.get_attr("g") == [10.0, 10.0, 10.0, 5.0]
    assert [actor.instance.envs.get_attr("g") for actor in ray.actors] == [[10.0, 10.0], [10.0, 5.0]]


class Told(LineEnv):
    """Remembers what was said to it, and says what was done, in lists of this module."""

    options, closed = [], []
    level = 0

    def reset(self, *, seed=None, options=None):
        Told.options.append(options)
        return super().reset(seed=seed)

    def raised(self, level):
        self.level += level
        return self.number

    def wrong(self):
        raise KeyError("no such level")

    def close(self):
        Told.closed.append(self.number)


@pytest.fixture
def told(monkeypatch):
    """What was said to environments of that class."""
    monkeypatch.setattr(Told, "options", [])
    monkeypatch.setattr(Told, "closed", [])
    return Told


def attributes_of(ray, name):
    """The attribute of each environment, of workers that live."""
    living = sorted((actor.instance for actor in ray.actors if not actor.is_dead), key=lambda worker: worker.index)
    return [value for worker in living for value in worker.envs.get_attr(name)]


def kill(ray, index):
    """End the process of a worker."""
    for actor in ray.actors:
        if actor.instance.index == index:
            actor.is_dead = True


def test_attributes_that_are_set_before_workers_start(ray, told):
    """Each environment has its own, also that of a worker that is started anew, or later."""
    model = DDPG("MlpPolicy", told, policy_kwargs=SMALL, collector=collector(chunk=5))
    env = model.get_env()
    env.set_attr("level", 5)
    env.set_attr("level", 7, indices=[3])
    assert env.get_attr("level") == [5, 5, 5, 7]
    assert env.template.get_attr("level") == [5]
    with pytest.raises(TypeError, match=r"set_attr: level=.* must be one that can be pickled"):
        env.set_attr("level", (number for number in range(3)))
    model.learn(40)
    assert attributes_of(ray, "level") == env.get_attr("level") == [5, 5, 5, 7]
    env.set_attr("level", 1, indices=[2])
    kill(ray, 1)
    with pytest.warns(RuntimeWarning, match="worker 1 is started anew"):
        model.learn(400, reset_num_timesteps=False)
    assert attributes_of(ray, "level") == [5, 5, 1, 7]
    env.close()
    model.learn(40)
    assert attributes_of(ray, "level") == [5, 5, 1, 7]


def test_options_for_the_next_reset(ray, told):
    """They go to the workers, each its own, also to one that is started anew; later resets have none, as with SB3."""
    model = DDPG("MlpPolicy", told, policy_kwargs=SMALL, collector=collector(chunk=5))
    model.get_env().set_options([dict(at=i) for i in range(4)])
    model.learn(20)
    assert told.options[:4] == [dict(at=i) for i in range(4)]
    assert set(map(str, told.options[4:])) == {"None"}
    del told.options[:]
    kill(ray, 1)
    with pytest.warns(RuntimeWarning, match="worker 1 is started anew"):
        model.learn(400, reset_num_timesteps=False)
    assert [options for options in told.options if options] == [dict(at=2), dict(at=3)]
    del told.options[:]
    model.learn(20)
    assert not any(told.options)


def test_methods_that_are_called_before_a_training(ray, told):
    """They start the workers, which then act."""
    model = DDPG("MlpPolicy", told, policy_kwargs=SMALL, collector=collector(chunk=5))
    env = model.get_env()
    numbers = env.env_method("raised", 2)
    assert len(set(numbers)) == 4
    assert env.env_method("raised", 1, indices=[3, 1]) == [numbers[3], numbers[1]]
    assert env.get_attr("level") == [2, 3, 2, 3]
    assert not env.has_attr("nothing")
    with pytest.raises(KeyError, match="no such level"):
        env.env_method("wrong")
    model.learn(40)
    assert len(ray.actors) == 2
    assert attributes_of(ray, "number") == numbers
    env.close()
    env.env_method("raised", 1)
    model.learn(40, reset_num_timesteps=False)  # episodes of other environments
    list(check_lines(model.replay_buffer))


def test_no_seeds_are_used_up_before_an_episode(ray):
    """Workers that were only asked, and closed, are followed by the training that there would have been."""
    kwargs = dict(seed=3, learning_starts=100, action_noise="normal_0.2", policy_kwargs=SMALL)
    mine = DDPG("MlpPolicy", short_pendulum, collector=collector(mode="synchronous"), **kwargs)
    assert mine.get_env().env_method("get_wrapper_attr", "g") == [10.0] * 4
    mine.get_env().close()
    mine.learn(200)
    assert len(ray.actors) == 4
    its = DDPG("MlpPolicy", local_envs(short_pendulum), **kwargs).learn(200)
    same_contents(mine.replay_buffer, its.replay_buffer)
    mine.get_env().close()
    mine.get_env().env_method("get_wrapper_attr", "g")
    mine.get_env().close()
    mine.learn(4)  # as other workers than the first ones
    assert {actor.instance.start for actor in ray.actors[-2:]} == {1}


def test_a_worker_that_has_died_is_asked(ray):
    """It is started anew first; after too many deaths the error is ours."""
    for tries in (1, 0):
        model = DDPG("MlpPolicy", LineEnv, policy_kwargs=SMALL, collector=collector(chunk=5, tries=tries), buffer_size=3000)
        numbers = []

        def ask(local, _, model=model, numbers=numbers):
            if model.num_timesteps == 100:
                kill(ray, 1)
                numbers.append(model.get_env().get_attr("number"))
            return True

        if tries:
            with pytest.warns(RuntimeWarning, match="worker 1 is started anew: The actor died"):
                model.learn(400, ask)
            assert numbers == [attributes_of(ray, "number")]
            list(check_lines(model.replay_buffer))
        else:
            with pytest.raises(WorkersLost, match=r"worker 1 has failed 1 times in a row .* The actor died"):
                model.learn(400, ask)
            assert model.replay_buffer.n_written == 96  # what had not been stored when the callback raised is lost
            list(check_lines(model.replay_buffer))
        model.get_env().close()


@pytest.mark.parametrize("within", [True, False])
def test_what_came_while_an_answer_was_waited_for(ray, monkeypatch, within):
    """Is stored when workers are lost then: a callback catches the error, or it comes between two trainings."""
    came, received = [], Crew._received

    def listen(crew, hand):
        if (each := received(crew, hand)) is not None:
            came.extend(map(tuple, each.chunk.observations[:-1].reshape(-1, 3)))
        return each

    monkeypatch.setattr(Crew, "_received", listen)
    model = DDPG("MlpPolicy", LineEnv, policy_kwargs=SMALL, collector=collector(chunk=5, tries=0), buffer_size=3000)
    env, kept = model.get_env(), []

    def ask(*_):
        if model.num_timesteps >= 100 and env.crew.lost is None and env.crew.hands[0].n_asked:
            kill(ray, 1)
            with pytest.raises(WorkersLost, match="worker 1 has failed 1 times in a row"):
                env.get_attr("number", indices=[0])
            kept.append(len(env.crew._kept))
        return True

    if not within:
        model.learn(100)
        ask()
    with pytest.raises(WorkersLost, match="worker 1 has failed 1 times in a row"):
        model.learn(10**6, ask if within else None, reset_num_timesteps=False)
    assert kept[0] > 0
    stored = list(map(tuple, model.replay_buffer.observations[: model.replay_buffer.n_written // 4].reshape(-1, 3)))
    assert set(stored) == set(came)
    assert 0 <= len(stored) - len(came) < 4
    list(check_lines(model.replay_buffer))


def test_a_worker_that_dies_between_trainings_is_asked(ray):
    """Nothing that it was asked for says so; the answer is that of the one that takes its place."""
    model = DDPG("MlpPolicy", LineEnv, policy_kwargs=SMALL, collector=collector(chunk=5)).learn(40)
    env = model.get_env()
    env.get_attr("number")  # what had been asked for has come
    assert not any(hand.tasks for hand in env.crew.hands)
    kill(ray, 0)
    with pytest.warns(RuntimeWarning, match="worker 0 is started anew: The actor died"):
        numbers = env.env_method("get_wrapper_attr", "number")
    assert numbers == attributes_of(ray, "number")
    model.learn(400, reset_num_timesteps=False)
    list(check_lines(model.replay_buffer))
    env.get_attr("number")
    env.crew.settings.tries = 0
    kill(ray, 0)
    for _ in range(2):
        with pytest.raises(WorkersLost, match=r"worker 0 has failed 1 times in a row .* The actor died"):
            env.get_attr("number")
    env.set_attr("number", 7)  # for the workers of the next training
    model.learn(40)
    assert attributes_of(ray, "number") == [7] * 4


def test_chunks_in_progress_do_not_count(ray):
    """For the time limit of what an environment is asked; what came meanwhile is stored."""
    model = DDPG("MlpPolicy", LineEnv, policy_kwargs=SMALL, collector=collector(chunk=5), buffer_size=3000)
    asked = []

    def ask(local, _):
        in_progress = sum(hand.n_asked for hand in model.get_env().crew.hands)
        if in_progress and len(asked) < 20:
            asked.append(model.get_env().get_attr("number"))
        return True

    model.learn(600, ask)
    assert len(asked) == 20
    rows = model.replay_buffer
    _, of_three = check_lines(rows)
    assert (of_three == 3).mean() > 0.6  # no cuts
    assert model._collector.statistics()["restarts"] == 0


def test_an_environment_that_does_not_answer(ray):
    """Its worker is started anew, and the error says what was asked."""
    model = DDPG("MlpPolicy", LineEnv, policy_kwargs=SMALL, collector=collector(chunk=5)).learn(40)
    model.get_env().get_attr("number")
    ray.stalls = lambda worker: worker.start == 0
    with (
        pytest.raises(TimeoutError, match=r"get_attr\('number',\) has given nothing within 300 s \(collector: time_limit\)"),
        pytest.warns(RuntimeWarning, match="worker 0 is started anew"),
    ):
        model.get_env().get_attr("number")
    assert {actor.instance.start for actor in ray.actors} == {0, 1}


def test_an_error_before_the_first_rollout_stops_the_workers(ray, told):
    """Such as that of a callback; their environments are closed."""

    class Late(BaseCallback):
        def _on_training_start(self):
            raise OSError("no space")

        def _on_step(self):
            return True

    model = DDPG("MlpPolicy", told, policy_kwargs=SMALL, collector=collector(chunk=5))
    with pytest.raises(OSError, match="no space"):
        model.learn(100, Late())
    assert len(ray.actors) == 2
    assert all(actor.is_dead for actor in ray.actors)
    assert len(set(told.closed)) == 4
    model.learn(100)
    list(check_lines(model.replay_buffer))


def test_closing_closes_the_environments(ray, told):
    """Before the workers are killed; a worker that stalls is not waited for without end."""
    model = DDPG("MlpPolicy", told, policy_kwargs=SMALL, collector=collector(chunk=5)).learn(100)
    numbers = attributes_of(ray, "number")
    model.get_env().close()
    assert set(numbers) <= set(told.closed)
    assert all(actor.is_dead for actor in ray.actors)
    model.learn(100)
    numbers, told.closed[:] = attributes_of(ray, "number"), []
    ray.stalls = lambda worker: worker.index == 0
    model.get_env().close()
    assert told.closed[:2] == numbers[2:]
    assert not set(numbers[:2]) & set(told.closed)


def test_what_raises_is_closed_before_another_takes_its_place(ray, told):
    """So that a robot, say, can be connected to again."""

    class Failing(told):
        def step(self, action):
            if self.episode == 2 and not Told.closed:
                raise OSError("the cable is out")
            return super().step(action)

    model = DDPG("MlpPolicy", Failing, policy_kwargs=SMALL, collector=collector(n_workers=1, chunk=4), buffer_size=3000)
    with pytest.warns(RuntimeWarning, match="the cable is out"):
        model.learn(400)
    assert len(told.closed) == 2
    assert not set(told.closed) & set(attributes_of(ray, "number"))


def test_a_chunk_that_nobody_waits_for(monkeypatch):
    """Ends with its next step, and one behind it does not begin: no error of theirs is in Ray's log."""
    from sb3_ddpg_ext.distributed import worker

    monkeypatch.setattr(worker, "LOOK_EVERY", 0.0)
    made = worker.Worker(b"", 0, 0, [])
    made.envs, made.obs, made.acting = None, None, type("Acting", (), dict(take=lambda *_: None, hear=lambda *_: None))()
    made.is_cancelled = lambda: True
    order = Order(0, 1000, Moment(0, 1, 0, False, 0), 0)
    assert made.collect(None, order) is None
    made.envs = type("Envs", (), dict(close=lambda self: None))()
    made.close()
    made.is_cancelled = lambda: False
    assert made.collect(None, order) is None


@pytest.mark.parametrize("mode", ["asynchronous", "synchronous"])
def test_a_chunk_that_was_not_made(ray, monkeypatch, mode):
    """Such as that of a closed worker: the next one is asked for, and what is stored is what the environments did."""
    from sb3_ddpg_ext.distributed import worker

    collect, n_nothing = worker.Worker.collect, []

    def sometimes(self, parameters, order):
        if self.index == 1 and order.number % 3 == 2:
            n_nothing.append(order.number)
            return None
        return collect(self, parameters, order)

    monkeypatch.setattr(worker.Worker, "collect", sometimes)
    model = DDPG("MlpPolicy", LineEnv, policy_kwargs=SMALL, collector=collector(mode=mode), buffer_size=3000)
    model.learn(400)
    assert n_nothing
    assert model.num_timesteps == 400
    list(check_lines(model.replay_buffer))
    assert model._collector.statistics()["restarts"] == 0


def test_what_the_figures_say_of_their_machine(monkeypatch):
    """The system and the processor by name, as those in results/ do, and nothing of its kernel."""
    path = Path(__file__).parents[1] / "results" / "collection.py"
    spec = importlib.util.spec_from_file_location("results_collection", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "version", lambda package: "2.60.0")
    written = json.loads(module.RESULTS.read_text())["machine"]
    made = module.machine()
    assert list(made) == list(written)
    assert (made["system"], written["system"]) == (platform.system(), "Linux")
    for said in map(str, (*made.values(), *written.values())):
        assert platform.release() not in said
    assert not re.search(r"\d", written["system"] + written["processor"])


class Image(gym.Env):
    """Images with their channels last, of as many as there were steps; episodes of 7 steps."""

    def __init__(self):
        self.observation_space = spaces.Box(0, 255, (36, 36, 3), np.uint8)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)

    def _obs(self):
        return self.np_random.integers(0, 255, (36, 36, 3), dtype=np.uint8) // (self.steps + 1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._obs(), {}

    def step(self, action):
        self.steps += 1
        return self._obs(), float(action[0]), False, self.steps == 7, {}


@pytest.mark.parametrize("norm_obs", [True, False])
def test_images_that_are_transposed_and_normalised(ray, norm_obs):
    """Workers do both, and act as one process does."""
    kwargs = dict(
        seed=0, learning_starts=20, random_steps=0, buffer_size=200, batch_size=4, learning_rate=1e-2,
        policy_kwargs=dict(net_arch=[8], features_extractor_kwargs=dict(features_dim=8)),
    )  # fmt: skip
    if norm_obs:
        kwargs["policy_kwargs"]["normalize_images"] = False
        kwargs["policy_kwargs"]["features_extractor_kwargs"]["normalized_image"] = True
    made = [VecNormalize(VecTransposeImage(local_envs(Image)), norm_obs=norm_obs) for _ in range(2)]
    mine = DDPG("CnnPolicy", made[0], collector=collector(mode="synchronous"), **kwargs).learn(80)
    its = DDPG("CnnPolicy", made[1], **kwargs).learn(80)
    assert mine._n_updates > 0
    same_contents(mine.replay_buffer, its.replay_buffer)


@pytest.mark.parametrize("by_policy", [False, True])
def test_returns_of_columns_that_change_hands(ray, by_policy):
    """Those by which VecNormalize, or the policy, scales rewards begin anew there."""
    model = DDPG(
        "MlpPolicy", LineEnv if by_policy else VecNormalize(local_envs(LineEnv, 1), gamma=1.0), gamma=1.0, buffer_size=3000,
        policy_kwargs=SMALL | dict(scale_returns=by_policy), collector=collector(n_workers=3, chunk=4), learning_starts=10**6,
    )  # fmt: skip
    ray.stalls = lambda worker: worker.index == 1 and model.num_timesteps > 100
    before, returns, cuts = [None], np.zeros(6), []

    def compare(local, _):
        dones, rewards = local["dones"], local["rewards"] if by_policy else model.get_env().get_original_reward()
        now = (local["new_obs"] if by_policy else model.get_env().get_original_obs()).astype(int)
        began = np.stack([now[:, 0], now[:, 1] - dones, rewards.astype(int) - 1], axis=1)  # where each step did
        goes_on = np.ones(6, bool) if before[0] is None else (began == before[0]).all(axis=1)
        if by_policy and before[0] is not None:  # the step itself is seen when it is stored
            np.testing.assert_allclose(model.policy.return_scaler.get_extra_state(), np.where(goes_on, returns, 0))
        cuts.append(int((~goes_on).sum()))
        returns[:] = np.where(goes_on, returns, 0) + rewards
        returns[dones] = 0
        if not by_policy:
            np.testing.assert_allclose(model.get_env().returns, returns)
        before[0] = now
        return True

    model.learn(600, compare)
    assert sum(cuts) > 20


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_demonstrations(ray, share):
    """Each batch has its share of them, and prefill puts them into the columns."""
    local = DDPG("MlpPolicy", local_envs(LineEnv, 1), seed=0, policy_kwargs=SMALL, learning_starts=10)
    episodes = record_episodes(local, local.get_env(), n_episodes=3)
    model = DDPG(
        "MlpPolicy", LineEnv, policy_kwargs=SMALL, collector=collector(chunk=5), learning_starts=40, buffer_size=400,
        replay_buffer_kwargs=dict(demonstrations=episodes, demonstration_share=share),
    )  # fmt: skip
    model.prefill(episodes)
    assert model.replay_buffer.size() > 0
    model.learn(400)
    assert model._n_updates > 0
    batch = model.replay_buffer.sample(40)
    n = round(40 * share)
    shown = {tuple(obs) for episode in episodes for obs in episode.observations}
    assert batch.n_demonstrations == n
    are_shown = [tuple(obs) in shown for obs in batch.observations.numpy()]
    assert all(are_shown[40 - n :])


def test_the_moment_of_a_chunk_is_when_it_is_stored(ray):
    """Random steps are as many as were asked for, where workers are in step."""
    model = DDPG(
        "MlpPolicy", CountingEnv, policy_kwargs=SMALL, learning_starts=200, action_noise=None, collector=collector(chunk=7)
    )
    for parameter in model.policy.actor.parameters():
        parameter.data.zero_()
    model.gradient_steps = 0
    model.learn(800)
    is_policy = np.abs(model.replay_buffer.actions[:200, :, 0]) < 1e-6
    assert not is_policy[:50].any()
    assert is_policy[50:].all()
    assert Moment(0, 0, 0, False, 0).n_random == 0


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("stored", [False, True])
def test_recurrent_models(ray, stored, normalised):
    """Workers remember, and send the states that they had; synchronous is one process, bit for bit, also in two trainings."""
    kwargs = dict(
        seed=3, learning_starts=100, action_noise="normal_0.2",
        policy_kwargs=dict(net_arch=[8], hidden_size=8, previous_reward=normalised),
        replay_buffer_kwargs=dict(sequence_length=8, stored_state=stored), gradient_steps=1, batch_size=4,
    )  # fmt: skip
    envs = [VecNormalize(local_envs(short_pendulum)) if normalised else local_envs(short_pendulum) for _ in range(2)]
    mine = RecurrentDDPG("MlpLstmPolicy", envs[0], collector=collector(mode="synchronous"), **kwargs).learn(220)
    mine.learn(180, reset_num_timesteps=False)  # from the middle of an episode
    its = RecurrentDDPG("MlpLstmPolicy", envs[1], **kwargs).learn(220)
    its.learn(180, reset_num_timesteps=False)
    same_contents(mine.replay_buffer, its.replay_buffer)
    n = mine.replay_buffer.n_written
    states = [model.replay_buffer.states.values[:n] for model in (mine, its)]
    np.testing.assert_array_equal(*states)
    assert states[0].size == (n * mine.policy.state_size if stored else 0)
    for name, parameter in its.policy.state_dict().items():
        assert th.equal(mine.policy.state_dict()[name], parameter)
    acting = ray.actors[-1].instance.acting
    acting.begin()
    acting.hear(np.ones(4))  # of the worker before this one
    assert not acting._histories.previous_rewards.any()
    model = RecurrentDDPG("MlpLstmPolicy", LineEnv, collector=collector(n_workers=3, chunk=4), **kwargs)
    ray.stalls = lambda worker: worker.index == 1 and model.num_timesteps > 200
    model.learn(600)
    assert model.num_timesteps == 600
