"""What users of Stable-Baselines3 do with a model, beside what its documentation shows."""

import copy
import io
import pickle
from decimal import Decimal
from functools import partial

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

from sb3_ddpg_ext import DDPG, RecurrentDDPG
from sb3_ddpg_ext.buffers import SequenceReplayBuffer, TransitionReplayBuffer

SMALL = dict(policy_kwargs=dict(net_arch=[16, 16]), learning_starts=30, batch_size=16, buffer_size=1000, seed=0)


class Call(BaseCallback):
    """Calls a function with the model at one step, or at each."""

    def __init__(self, function, at=None):
        super().__init__()
        self.function, self.at = function, at

    def _on_step(self):
        if self.at in (None, self.num_timesteps):
            self.function(self.model)
        return True


class Steps(gym.Env):
    """Counts: observation and reward are the number of the step in all episodes, which have ten steps."""

    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, space=None, reward=float, at=None):
        self.observation_space = spaces.Box(-1e9, 1e9, (1,), np.float32) if space is None else space
        self.reward, self.at, self.count = reward, at or {}, 0

    def observation(self):
        self.count += 1
        return np.full(1, self.count, np.float32)

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self.observation(), {}

    def step(self, action):
        self.t += 1
        observation = self.observation()
        does = self.at.get(self.count)
        if does is KeyboardInterrupt:
            raise KeyboardInterrupt
        return observation, np.nan if does == "NaN" else self.reward(self.count), self.t == 10, False, {}


# --- schedules and optimisers -----------------------------------------------------------------------------------------------


def rates(model):
    return [net.optimizer.param_groups[0]["lr"] for net in (model.actor, model.critic)]


@pytest.mark.parametrize(("own", "expected"), [(None, [1e-6, 1e-6]), (1e-2, [1e-6, 1e-2])])
def test_lr_schedule_is_replaced(own, expected, tmp_path):
    """By a callback, or after a load: the critic follows, unless it has a learning rate of its own."""

    def replace(model):
        model.lr_schedule = lambda progress_remaining: 1e-6

    model = DDPG("MlpPolicy", "Pendulum-v1", qf_learning_rate=own, **SMALL).learn(100, callback=Call(replace, at=60))
    assert rates(model) == expected
    model.save(tmp_path / "model")
    loaded = DDPG.load(tmp_path / "model", env="Pendulum-v1")
    assert loaded.learn(60, reset_num_timesteps=False) is loaded
    assert rates(loaded) == [1e-3, own or 1e-3]
    replace(loaded)
    loaded.learn(60, reset_num_timesteps=False)
    assert rates(loaded) == expected


def test_optimisers_that_count_in_an_int():
    """SB3's own RMSprop, in a second learn()."""
    kwargs = dict(net_arch=[16], optimizer_class=RMSpropTFLike, optimizer_kwargs=dict(alpha=0.99, eps=1e-5))
    model = DDPG("MlpPolicy", "Pendulum-v1", **{**SMALL, "policy_kwargs": kwargs}).learn(60)
    model.learn(60, reset_num_timesteps=False)
    assert model._n_updates == 90


@pytest.mark.parametrize("activation_fn", [partial(th.nn.LeakyReLU, 0.2), lambda: th.nn.LeakyReLU(0.2)])
def test_activation_from_a_function(activation_fn):
    """It is called for each layer, and saved with the model."""
    model = DDPG("MlpPolicy", "Pendulum-v1", **{**SMALL, "policy_kwargs": dict(net_arch=[16], activation_fn=activation_fn)})
    file = io.BytesIO()
    model.learn(60).save(file)
    file.seek(0)
    loaded = DDPG.load(file)
    assert loaded.actor.mu[1].negative_slope == 0.2
    obs = model.observation_space.sample()
    np.testing.assert_array_equal(loaded.predict(obs)[0], model.predict(obs)[0])


@pytest.mark.parametrize("activation_fn", [th.nn.ReLU(), lambda x: x, lambda: 3, 5, th.relu])
def test_no_activation(activation_fn):
    """A module itself would be shared by all layers."""
    with pytest.raises(TypeError, match=r"policy_kwargs\['activation_fn'\]=.*must be one of"):
        DDPG("MlpPolicy", "Pendulum-v1", policy_kwargs=dict(activation_fn=activation_fn))


# --- environments -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reward",
    [
        int,
        th.tensor,
        lambda n: th.tensor(float(n), requires_grad=True),
        Decimal,
        np.float16,
        lambda n: np.array([[n]]),
        lambda n: [n],
    ],
)
def test_rewards_of_any_type(reward):
    """What float() takes, or has one element."""
    model = DDPG("MlpPolicy", Steps(reward=reward), **SMALL).learn(20)
    assert model.replay_buffer.rewards[:3, 0].tolist() == [2, 3, 4]


@pytest.mark.parametrize("reward", [None, "1", [1, 2], 1j, {}, th.ones(2), 10**400])
def test_rewards_that_are_no_number(reward):
    """The error names the reward."""
    with pytest.raises(TypeError, match=r"the environment returned reward=.* it must be a number"):
        DDPG("MlpPolicy", Steps(reward=lambda n: reward), **SMALL).learn(20)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Discrete(19, start=2), r"observation_space=Discrete\(19, start=2\) must start at 0"),
        (spaces.MultiDiscrete([3, 4], start=[0, 1]), r"observation_space=MultiDiscrete.*must start at 0"),
        (spaces.Dict(a=spaces.Discrete(3, start=1)), r"observation_space\['a'\]=.*must start at 0"),
        (spaces.Dict(a=spaces.Box(-1, 1, ())), r"observation_space\['a'\]=.*must have a shape with one number at least"),
        (spaces.Dict(a=spaces.Box(-1, 1, (0,))), r"observation_space\['a'\]=.*must have a shape with one number at least"),
        (spaces.Box(-1, 1, (0,)), r"observation_space=.*must have a shape with one number at least"),
    ],
)
def test_spaces_that_cannot_be_encoded(space, message):
    """They are refused when the model is made, not in the midst of training."""
    policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
    with pytest.raises(ValueError, match=message):
        DDPG(policy, Steps(space), **SMALL)


# --- the way out of learn() -------------------------------------------------------------------------------------------------


def stored(buffer):
    n = buffer.size()
    return buffer.observations[:n, 0, 0].tolist(), buffer.next_observations[:n, 0, 0].tolist(), buffer.rewards[:n, 0].tolist()


KINDS = {
    "transitions": lambda env: DDPG("MlpPolicy", env, **SMALL),
    "n-step": lambda env: DDPG("MlpPolicy", env, n_steps=3, **SMALL),
    "sequences": lambda env: RecurrentDDPG("MlpLstmPolicy", env, learning_starts=30, batch_size=4, buffer_size=1000, seed=0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_step_before_a_stop_is_stored(kind):
    """One episode for each learn(): the reward at its end is there."""
    model = KINDS[kind](Steps())
    for _ in range(8):
        model.learn(1000, callback=StopTrainingOnMaxEpisodes(1), reset_num_timesteps=False)
    assert model.num_timesteps == 80
    observations, following, rewards = stored(model.replay_buffer)
    assert len(rewards) == 80
    assert following == [n + 1 for n in observations] == rewards
    assert model.replay_buffer.dones[:80, 0].sum() == 8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [13, 27, 33])
@pytest.mark.parametrize("does", ["NaN", KeyboardInterrupt, "callback"])
def test_nothing_is_stored_that_did_not_happen(does, at, kind):
    """After an error of the environment, Ctrl-C, or an error in a callback: the next step begins a new episode."""
    env = Steps(at={} if does == "callback" else {at: does})
    model = KINDS[kind](env)

    def fail(model):
        if env.count >= at:
            raise KeyboardInterrupt

    with pytest.raises((ValueError, KeyboardInterrupt)):
        model.learn(80, callback=Call(fail) if does == "callback" else None)
    model.learn(40, reset_num_timesteps=False)
    observations, following, rewards = stored(model.replay_buffer)
    assert len(rewards) > 40
    assert following == [n + 1 for n in observations] == rewards


def test_a_loaded_model_goes_on_with_other_episodes(tmp_path):
    """Not with those that it began with; the same file and seed always with the same ones."""
    firsts = []

    class First(BaseCallback):
        def _on_training_start(self):
            firsts.append([*self.model._last_obs[0].tolist(), *self.model.action_space.sample().tolist(), np.random.rand()])

        def _on_step(self):
            return True

    model = DDPG("MlpPolicy", "Pendulum-v1", **SMALL).learn(50, callback=First())
    model.save(tmp_path / "model")
    for _ in range(2):
        DDPG.load(tmp_path / "model", env="Pendulum-v1").learn(50, callback=First(), reset_num_timesteps=False)
    assert firsts[1] == firsts[2]
    assert not set(firsts[0]) & set(firsts[1])


class Deaf(Steps):
    """Takes any action for a number."""

    def step(self, action):
        return super().step(np.nan_to_num(action))


@pytest.mark.parametrize("learner", ["auto", "eager"])
def test_networks_that_are_not_finite_are_named(learner):
    """Nothing of what they would have done is stored, and the environment is not blamed."""
    model = DDPG("MlpPolicy", Deaf(), learning_rate=1e30, learner=learner, **SMALL)
    with pytest.raises(ValueError, match=r"parameters of the actor are not finite after \d+ updates.*learning_rate=1e\+30"):
        model.learn(500)
    assert np.isfinite(model.replay_buffer.actions[: model.replay_buffer.pos]).all()
    assert model.num_timesteps < 60


class Swelling(BaseCallback):
    """Makes the actor's parameters so large that sums of what they are multiplied with overflow."""

    def _on_step(self):
        if self.num_timesteps == 30:
            with th.no_grad():
                for parameter in self.model.actor.parameters():
                    parameter.copy_(1e30 * th.sign(parameter))
        return True


def test_actions_of_finite_parameters_that_are_too_large():
    """Are not blamed on the noise, and have a way back."""
    model = DDPG("MlpPolicy", "Pendulum-v1", on_nan="rollback", **SMALL | dict(learning_starts=100, random_steps=10))
    with pytest.warns(
        UserWarning, match="parameters of the actor are so large that its actions are not finite after 0 updates"
    ):
        model.learn(40, callback=Swelling())
    assert np.isfinite(model.replay_buffer.actions[:40]).all()


class Breaking(BaseCallback):
    """Makes the actor NaN at some steps, as a step that is too large would."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def _on_step(self):
        if self.num_timesteps in self.at:
            with th.no_grad():
                next(self.model.actor.parameters()).fill_(th.nan)
        return True


@pytest.mark.parametrize("learner", ["fused", "eager"])
@pytest.mark.parametrize("noise", [None, "adaptive-param_0.2"])
def test_rollback(learner, noise):
    """The training goes on from the last finite networks, whose optimisers and targets are those of that time, too."""
    kwargs = SMALL | dict(learner=learner, action_noise=noise, on_nan="rollback")
    model = DDPG("MlpPolicy", "Pendulum-v1", **kwargs)
    with pytest.warns(
        UserWarning, match=r"not finite after \d+ updates.*again what they were after \d+ updates, and the training"
    ):
        model.learn(500, callback=Breaking([100, 320]))
    assert model.num_timesteps == 500
    assert all(th.isfinite(value).all() for value in model.policy.state_dict().values() if isinstance(value, th.Tensor))
    assert np.isfinite(model.replay_buffer.actions[:500]).all()


def test_rollback_of_what_is_no_tensor():
    """The returns by which rewards are scaled go back with the statistics that have come from them."""
    model = DDPG("MlpPolicy", "Pendulum-v1", **SMALL | dict(policy_kwargs=dict(net_arch=[8], scale_returns=True))).learn(30)
    scaler, last_finite = model.policy.return_scaler, model._trainer.last_finite
    last_finite.look(30)
    before = scaler.get_extra_state(), scaler.factor.clone()
    scaler.update(np.array([1e6]), np.array([False]), 0.9)
    with pytest.warns(UserWarning, match="on_nan='rollback'"):
        last_finite.go_back("actor", 31, (1e-3, 1e-3), "rollback")
    np.testing.assert_array_equal(scaler.get_extra_state(), before[0])
    assert scaler.factor == before[1]


def test_rollbacks_have_a_bound():
    """Networks that break again and again end the training, with the numbers that were good."""
    model = DDPG("MlpPolicy", Deaf(), learning_rate=1e30, on_nan="rollback", **SMALL)
    with pytest.warns(UserWarning, match="on_nan='rollback'"), pytest.raises(ValueError, match="parameters of the actor"):
        model.learn(500)
    assert model.policy.not_finite() is None


def test_after_the_error_the_networks_are_good():
    """They can be saved, and the training can go on."""
    model = DDPG("MlpPolicy", "Pendulum-v1", **SMALL)
    with pytest.raises(ValueError, match=r"not finite after 2\d\d updates.*are again what they were after 2\d\d updates"):
        model.learn(500, callback=Breaking([300]))
    model.learn(100, reset_num_timesteps=False)
    assert model.policy.not_finite() is None


def test_on_nan_is_checked():
    with pytest.raises(ValueError, match="on_nan='ignore' must be one of"):
        DDPG("MlpPolicy", "Pendulum-v1", on_nan="ignore", **SMALL)


def test_noise_that_is_not_finite_is_named():
    """Of a user's own."""

    class Broken(ActionNoise):
        def __call__(self):
            return np.full(1, np.nan)

        def __repr__(self):
            return "Broken()"

    model = DDPG("MlpPolicy", "Pendulum-v1", action_noise=Broken(), **SMALL)
    with pytest.raises(ValueError, match=r"action_noise=.*Broken.* gave actions=.*nan.*must be finite"):
        model.learn(100)
    assert model.num_timesteps == 30


# --- pickles ----------------------------------------------------------------------------------------------------------------


def copies(thing):
    return {
        "pickle": lambda: pickle.loads(pickle.dumps(thing)),
        "cloudpickle": lambda: cloudpickle.loads(cloudpickle.dumps(thing)),
        "deepcopy": lambda: copy.deepcopy(thing),
    }


@pytest.mark.parametrize("learner", ["auto", "fused", "eager"])
@pytest.mark.parametrize("way", ["pickle", "cloudpickle", "deepcopy"])
def test_trained_models_are_copied(way, learner):
    """Model, policy and actor act as before, and both models go on to learn the same from the same."""
    model = DDPG("MlpPolicy", "Pendulum-v1", learner=learner, **SMALL).learn(60)
    obs = model.observation_space.sample()
    expected = model.predict(obs)[0]
    assert copies(model.policy)[way]().predict(obs, deterministic=True)[0] == expected
    with th.no_grad():
        scaled = copies(model.actor)[way]()(th.as_tensor(obs)[None]).numpy()
    np.testing.assert_allclose(model.policy.unscale_action(scaled)[0], expected, rtol=1e-5, atol=1e-6)
    other = copies(model)[way]()
    assert other.predict(obs)[0] == expected
    for each in (model, other):
        np.random.seed(0)
        th.manual_seed(0)
        each.train(20, 16)
    for mine, its in zip(model.policy.parameters(), other.policy.parameters(), strict=True):
        th.testing.assert_close(mine, its, rtol=0, atol=0)
    assert not th.equal(model.actor.mu[0].weight, DDPG("MlpPolicy", "Pendulum-v1", **SMALL).actor.mu[0].weight)
    other.learn(60, reset_num_timesteps=False)


def test_pickles_are_as_large_as_what_they_hold():
    """No parameter brings the memory of others, in the midst of learn() and after it."""
    sizes = []

    def look(model):
        file = io.BytesIO()
        th.save(model.actor.state_dict(), file)
        sizes.append([len(pickle.dumps(model.policy)), len(pickle.dumps(model.get_parameters())), file.tell()])

    model = DDPG("MlpPolicy", "Pendulum-v1", learner="fused", **{**SMALL, "policy_kwargs": dict(net_arch=[200, 200])})
    look(model)
    model.learn(60, callback=Call(look, at=50))
    look(model)
    n_actor, n_all = (sum(p.numel() * 4 for p in part.parameters()) for part in (model.actor, model.policy))
    for policy, parameters, actor in sizes[1:]:
        assert actor < 1.1 * n_actor
        assert policy < 1.1 * (2 * n_all)  # four networks, and two moments for two of them
        assert parameters < 1.1 * (2 * n_all)


def test_training_goes_on_bit_for_bit_after_a_look_at_the_parameters():
    """A callback that asks for them at each step changes nothing."""
    callbacks = (None, Call(lambda model: model.get_parameters()))
    models = [DDPG("MlpPolicy", "Pendulum-v1", learner="fused", **SMALL).learn(120, callback=each) for each in callbacks]
    for mine, its in zip(*(model.policy.parameters() for model in models), strict=True):
        th.testing.assert_close(mine, its, rtol=0, atol=0)
    for name in ("actor", "critic"):
        states = [getattr(model, name).optimizer.state_dict()["state"] for model in models]
        for key, state in states[0].items():
            for part, value in state.items():
                th.testing.assert_close(value, states[1][key][part], rtol=0, atol=0)


def test_buffers_of_both_kinds_are_what_the_tests_are_about():
    """The table above trains what it says."""
    kinds = [type(KINDS[kind](Steps()).replay_buffer) for kind in KINDS]
    assert kinds[0] is kinds[1] is TransitionReplayBuffer
    assert kinds[2] is SequenceReplayBuffer
