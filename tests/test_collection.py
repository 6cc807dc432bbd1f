"""Collection without SB3's overhead: what it must not change."""

import copy
import warnings
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from conftest import CountingEnv, DictPendulum
from gymnasium import spaces
from stable_baselines3 import DDPG as SB3DDPG
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.collector import step
from sb3_ddpg_ext.policies import MlpPolicy

SMALL = dict(policy_kwargs=dict(net_arch=[16, 16]), batch_size=32, buffer_size=2000, device="cpu", seed=0)


class WithInfo(gym.Wrapper):
    """One dict, changed at each step, with an array inside."""

    info = {"history": np.zeros(3), "step": 0}

    def step(self, action):
        obs, reward, terminated, truncated, _ = self.env.step(action)
        self.info["step"] += 1
        self.info["history"] += 1
        return obs, reward, terminated, truncated, self.info


class Recorder(BaseCallback):
    """What callbacks can see at each step."""

    def __init__(self):
        super().__init__()
        self.seen, self.calls = [], []

    def _on_rollout_start(self):
        self.calls.append("start")

    def _on_rollout_end(self):
        self.calls.append("end")

    def _on_step(self):
        visible = {key: value for key, value in self.locals.items() if key not in ("self", "env", "callback", "replay_buffer")}
        self.seen.append(copy.deepcopy(visible))
        self.calls.append(self.num_timesteps)
        return True


# --- the step of a DummyVecEnv ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_name", ["counting", "dict", "info"])
def test_step_of_a_dummy_vec_env(env_name):
    """Observations, rewards, dones and infos of 450 steps are those of its own step, also at ends of episodes."""
    make = {
        "counting": lambda: CountingEnv(((3, "terminated"), (4, "truncated"))),
        "dict": lambda: DictPendulum(gym.make("Pendulum-v1")),
        "info": lambda: WithInfo(gym.make("Pendulum-v1")),
    }[env_name]
    mine, its = (DummyVecEnv([make, make]) for _ in range(2))
    if env_name == "info":
        for i in range(2):
            mine.envs[i].info, its.envs[i].info = (copy.deepcopy(WithInfo.info) for _ in range(2))
    for env in (mine, its):
        env.seed(0)
        env.reset()
    rng, kept = np.random.default_rng(0), []
    for _ in range(450):
        actions = rng.uniform(-1, 1, (2, 1)).astype(np.float32)
        kept.append((step(mine, actions), its.step(actions)))
    for a, b in kept:  # after the last step: nothing that was returned has been changed since
        np.testing.assert_equal(a, b)
    np.testing.assert_equal(mine.reset_infos, its.reset_infos)


def test_step_of_other_vec_envs_is_their_own():
    """A subclass, a wrapper, or a step that somebody has replaced is called."""
    calls = []

    class Own(DummyVecEnv):
        def step_wait(self):
            calls.append("own")
            return super().step_wait()

    make = [lambda: gym.make("Pendulum-v1")]
    replaced = DummyVecEnv(make)
    wait = replaced.step_wait
    replaced.step_wait = lambda: calls.append("replaced") or wait()
    for env, width in ((Own(make), 3), (VecFrameStack(DummyVecEnv(make), 2), 6), (replaced, 3)):
        env.reset()
        assert step(env, np.zeros((1, 1), np.float32))[0].shape == (1, width)
    assert calls == ["own", "replaced"]


# --- collect_rollouts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_envs", "train_freq"), [(1, 1), (1, (7, "step")), (1, (2, "episode")), (3, 1), (3, (7, "step"))], ids=str
)
def test_callbacks_see_what_sb3_shows(n_envs, train_freq):
    """The same calls in the same order, with the same local variables of the same values."""
    recorders = []
    for cls, kwargs in ((DDPG, dict(learner="eager", noise_in_warmup=True)), (SB3DDPG, {})):
        env = make_vec_env(lambda: CountingEnv(((5, "terminated"), (3, "truncated"))), n_envs=n_envs, seed=0)
        noise = OrnsteinUhlenbeckActionNoise(np.zeros(1), np.ones(1))
        model = cls("MlpPolicy", env, learning_starts=20, train_freq=train_freq, action_noise=noise, **SMALL, **kwargs)
        recorders.append(Recorder())
        model.learn(60, callback=recorders[-1])
    mine, its = recorders
    assert mine.calls == its.calls
    for a, b in zip(mine.seen, its.seen, strict=True):
        leftovers = {"idx", "done", "kwargs"}  # of the loop over environments in the step before
        assert a.keys() >= b.keys() - leftovers
        for key in b.keys() - leftovers:
            if key == "infos":
                for x, y in zip(a[key], b[key], strict=True):
                    assert x.keys() == y.keys()
            elif key != "action_noise":
                np.testing.assert_equal(a[key], b[key], err_msg=key)


def test_noise_is_reset_where_an_episode_ended():
    """With several environments only the process of the one that ended starts anew."""
    resets = []

    class Noise(NormalActionNoise):
        name = None

        def reset(self):
            resets.append(self.name)

    env = DummyVecEnv([lambda n=n: CountingEnv(((n, "terminated"),)) for n in (3, 5)])
    model = DDPG("MlpPolicy", env, learning_starts=100, action_noise=Noise(np.zeros(1), np.ones(1)), **SMALL).learn(0)
    for name, noise in zip("ab", model.action_noise.noises, strict=True):
        noise.name = name
    resets.clear()
    model.learn(30)
    assert resets.count("a") - resets.count("b") == 5 - 3  # 15 steps each, beside the resets at the start


# --- acting -----------------------------------------------------------------------------------------------------------------


def general_predict(model, obs):
    """What SB3 does for any policy."""
    from stable_baselines3.td3.policies import TD3Policy

    return super(TD3Policy, model.policy).predict(obs)[0]


@pytest.mark.parametrize("learner", ["eager", "auto"])
@pytest.mark.parametrize("activation_fn", [th.nn.ReLU, th.nn.Tanh, th.nn.ELU, th.nn.SiLU, th.nn.Mish])
@pytest.mark.parametrize("net_arch", [[400, 300], [16], []], ids=str)
def test_short_way_to_an_action(net_arch, activation_fn, learner):
    """For one observation, one in a batch, several, and one of 64 bits: with eager the bits of the general way."""
    model = DDPG("MlpPolicy", "Pendulum-v1", device="cpu", buffer_size=10, learner=learner,
                 policy_kwargs=dict(net_arch=net_arch, activation_fn=activation_fn))  # fmt: skip
    assert model.policy.plain_actor() is not None
    rng, tolerance = np.random.default_rng(0), 0 if learner == "eager" else 2e-6
    for shape in ((3,), (1, 3), (6, 3), (0, 3), (30, 3)):
        for dtype in (np.float32, np.float64):
            obs = rng.standard_normal(shape).astype(dtype)
            before = obs.copy()
            action = model.predict(obs)[0]
            np.testing.assert_allclose(action, general_predict(model, obs), rtol=0, atol=tolerance)
            np.testing.assert_array_equal(obs, before)
            assert (action.dtype, action.shape) == (np.float32, (*shape[:-1], 1))


@pytest.mark.parametrize("policy_kwargs", [{}, dict(normalize_observations=True)], ids=str)
def test_short_way_for_dictionaries(policy_kwargs, dict_pendulum):
    """The bits of the general way, whatever the order of the keys; what does not fit goes the general way."""
    model = DDPG("MultiInputPolicy", dict_pendulum, learning_starts=20, device="cpu", buffer_size=100,
                 policy_kwargs=dict(net_arch=[16]) | policy_kwargs).learn(40)  # fmt: skip
    actor, rng = model.policy.plain_actor(), np.random.default_rng(0)
    for leading in ((), (1,), (6,), (0,)):
        for dtype in (np.float32, np.float64):
            obs = {key: rng.standard_normal((*leading, size)).astype(dtype) for key, size in (("velocity", 1), ("angle", 2))}
            assert actor.batch_of(obs) is not None
            action = model.predict(obs)[0]
            np.testing.assert_array_equal(action, general_predict(model, obs))
            assert (action.dtype, action.shape) == (np.float32, (*leading, 1))
    for wrong in (
        {"angle": np.zeros(2)}, {"angle": np.zeros((2, 2)), "velocity": np.zeros((3, 1))},
        {"angle": np.zeros(3), "velocity": np.zeros(1)}, {"angle": [0.0, 0.0], "velocity": np.zeros(1)}, np.zeros(3),
    ):  # fmt: skip
        assert actor.batch_of(wrong) is None


@pytest.mark.parametrize("learner", ["eager", "auto"])
def test_short_way_is_left_when_the_networks_change(learner):
    """Hooks, replaced and appended layers, and new memory of the parameters are seen by the next action."""
    model = DDPG("MlpPolicy", "Pendulum-v1", learner=learner, **SMALL)
    obs, mu, calls = np.ones(3, np.float32), model.actor.mu, []
    tolerance = 0 if learner == "eager" else 1e-6
    model.predict(obs)
    assert model.policy.plain_actor() is not None

    handle = mu[0].register_forward_hook(lambda *args: calls.append(1))
    model.predict(obs)
    assert calls == [1]
    handle.remove()
    model.policy.load_state_dict({key: value + 0.1 for key, value in model.policy.state_dict().items()})
    np.testing.assert_allclose(model.predict(obs)[0], general_predict(model, obs), rtol=0, atol=tolerance)
    mu[0] = th.nn.Linear(3, 16)
    np.testing.assert_allclose(model.predict(obs)[0], general_predict(model, obs), rtol=0, atol=tolerance)
    mu.append(th.nn.Dropout(0.9))
    np.testing.assert_allclose(model.predict(obs)[0], general_predict(model, obs), rtol=0, atol=tolerance)
    del mu[-1]
    mu[-2].weight.data = mu[-2].weight.data.double().float() * 2
    np.testing.assert_allclose(model.predict(obs)[0], general_predict(model, obs), rtol=0, atol=tolerance)


def test_any_array_will_do():
    """Reversed, transposed and read-only ones too, without a warning."""
    model = DDPG("MlpPolicy", "Pendulum-v1", **SMALL)
    rng = np.random.default_rng(0)
    frozen = rng.standard_normal(3).astype(np.float32)
    frozen.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for obs in (rng.standard_normal(3)[::-1], rng.standard_normal((3, 4)).astype(np.float32).T, frozen):
            np.testing.assert_allclose(model.predict(obs)[0], general_predict(model, obs), rtol=0, atol=1e-6)


def test_own_ways_to_an_action_are_taken():
    """A subclass's, an instance's, a parametrized layer's, another features extractor's."""

    class Own(MlpPolicy):
        def obs_to_tensor(self, observation):
            obs, vectorized = super().obs_to_tensor(observation)
            return obs * 0, vectorized

    class Zero(FlattenExtractor):
        def forward(self, observations):
            return super().forward(observations) * 0

    obs, changes = np.ones(3, np.float32), []
    model = DDPG(Own, "Pendulum-v1", **SMALL)
    np.testing.assert_array_equal(model.predict(obs)[0], model.predict(0 * obs)[0])
    changes.append(lambda actor: setattr(actor, "forward", lambda obs: th.full((len(obs), 1), 0.25)))
    changes.append(lambda actor: setattr(actor, "features_extractor", Zero(actor.observation_space)))
    changes.append(lambda actor: th.nn.utils.parametrizations.spectral_norm(actor.mu[0]))
    for change in changes:
        model = DDPG("MlpPolicy", "Pendulum-v1", **SMALL)
        before = model.predict(obs)[0]
        change(model.actor)
        after = model.predict(obs)[0]
        assert after != before
        np.testing.assert_array_equal(after, general_predict(model, obs))


def test_wrong_observations_are_refused():
    """As SB3 does."""
    model = DDPG("MlpPolicy", "Pendulum-v1", **SMALL)
    with pytest.raises(ValueError, match="Unexpected observation shape"):
        model.predict(np.zeros(4, np.float32))
    with pytest.raises(ValueError, match="mixing Gym API"):
        model.predict((np.zeros(3, np.float32), {}))


class Reusing(DummyVecEnv):
    """Returns the same array at each step, as some fast simulators do."""

    def reset(self):
        self.memory = super().reset()
        return self.memory

    def step_wait(self):
        obs, rewards, dones, infos = super().step_wait()
        self.memory[:] = obs
        return self.memory, rewards, dones, infos


@pytest.mark.parametrize("normalised", [False, True])
def test_an_environment_that_reuses_its_array(normalised):
    """What is stored is what it was at its time."""
    env = Reusing([CountingEnv])
    model = DDPG("MlpPolicy", VecNormalize(env) if normalised else env, **SMALL).learn(30)
    buffer = model.replay_buffer
    starts, follows = (array[:30].reshape(30, -1) for array in (buffer.observations, buffer.next_observations))
    assert (starts != follows).any(axis=1).all()


class Failing(gym.Env):
    """Counts, and returns NaN in some place at its 20th step."""

    observation_space, action_space = spaces.Box(-np.inf, np.inf, (2,)), spaces.Box(-1, 1, (1,))

    def __init__(self, where=None):
        self.where, self.n = where, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.full(2, self.n, np.float32), {}

    def step(self, action):
        self.n += 1
        fails = self.n == 20
        obs = np.array([self.n, np.nan if fails and self.where == "observation" else 0], np.float32)
        return obs, np.inf if fails and self.where == "reward" else 1.0, False, False, {}


@pytest.mark.parametrize("where", ["observation", "reward"])
@pytest.mark.parametrize("normalised", [False, True])
def test_which_environment_has_failed(where, normalised):
    """Is said; VecNormalize is what it was before that step, and the training can go on."""
    env = DummyVecEnv([Failing, partial(Failing, where), Failing])
    model = DDPG("MlpPolicy", VecNormalize(env) if normalised else env, **SMALL)
    with pytest.raises(ValueError, match=f"environment 1 of 3 returned {where}="):
        model.learn(300)
    if normalised:
        assert model.env.obs_rms.count == pytest.approx(3 * 20, abs=1)
        for moments in (model.env.obs_rms, model.env.ret_rms):
            assert np.isfinite(moments.mean).all()
            assert np.isfinite(moments.var).all()
        assert np.isfinite(model.env.returns).all()
    model.learn(300, reset_num_timesteps=False)
    assert model.num_timesteps >= 300
