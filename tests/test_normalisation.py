"""Observations and returns normalised inside the model: which steps count, who sees them how, what is saved."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from conftest import CountingEnv, DictPendulum
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize, VecTransposeImage

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.networks import Normalised, PopArt
from sb3_ddpg_ext.networks.running import RunningMoments
from sb3_ddpg_ext.noise.perturbed_actors import PerturbedActors

SMALL = dict(learning_starts=20, batch_size=16, buffer_size=500, seed=0, device="cpu")


def make_model(env="Pendulum-v1", policy="MlpPolicy", **policy_kwargs):
    policy_kwargs = dict(net_arch=[8], normalize_observations=True) | policy_kwargs
    return DDPG(policy, env, policy_kwargs=policy_kwargs, **SMALL)


def counting_envs(n_envs):
    return DummyVecEnv([lambda i=i: CountingEnv([(5 + i, "terminated"), (4, "truncated")]) for i in range(n_envs)])


def statistics_of(policy):
    return {name: buffer.clone() for name, buffer in policy.named_buffers()}


@pytest.mark.parametrize("n_envs", [1, 3])
def test_statistics_are_of_the_observations_acted_on(n_envs):
    """Mean and variance are NumPy's over what lies in the buffer, one observation for each action."""
    model = make_model(counting_envs(n_envs)).learn(60)
    stored = model.replay_buffer.sample_all() if hasattr(model.replay_buffer, "sample_all") else None
    size = model.replay_buffer.size()
    seen = model.replay_buffer.observations[:size].reshape(-1, 2) if stored is None else stored.observations
    seen = np.asarray(seen, dtype=np.float64)
    moments = model.policy.normaliser.moments
    assert moments.count.item() == len(seen) == 60
    assert np.allclose(moments.mean.numpy(), seen.mean(axis=0))
    assert np.allclose(moments.variance.numpy(), seen.var(axis=0))


def test_the_buffer_keeps_observations_and_rewards_as_they_came():
    """What is sampled later is seen with the statistics of then."""
    model = make_model(counting_envs(1), scale_returns=True).learn(60)
    samples = model.replay_buffer.sample(200)
    assert set(samples.observations[:, 1].tolist()) <= {0.0, 1.0, 2.0, 3.0, 4.0}
    assert samples.rewards.max() == 5


def test_evaluation_leaves_the_statistics():
    """Neither predict, evaluate_policy nor EvalCallback is training."""
    model = make_model().learn(50)
    before = statistics_of(model.policy)
    model.predict(np.full((4, 3), 1e3, np.float32))
    evaluate_policy(model, Monitor(gym.make("Pendulum-v1")), 2)
    assert all(th.equal(buffer, before[name]) for name, buffer in model.policy.named_buffers())
    callback = EvalCallback(Monitor(gym.make("Pendulum-v1")), eval_freq=10, n_eval_episodes=1, verbose=0)
    model.learn(20, callback=callback, reset_num_timesteps=False)
    assert model.policy.normaliser.moments.count.item() == 70


def test_one_normaliser_for_all_networks():
    """Actor, critic and targets see observations alike."""
    policy = make_model().policy
    nets = (policy.actor, policy.critic, policy.actor_target, policy.critic_target)
    assert {type(net.features_extractor) for net in nets} == {Normalised}
    assert {id(net.features_extractor.normaliser) for net in nets} == {id(policy.normaliser)}


@pytest.mark.parametrize("learner", ["auto", "eager"])
def test_predict(learner):
    """Of one or several observations, by hand: mu of what is normalised and clipped."""
    model = DDPG(
        "MlpPolicy", "Pendulum-v1", policy_kwargs=dict(net_arch=[8], normalize_observations=True), learner=learner, **SMALL
    )
    model.learn(60)
    obs = np.random.default_rng(0).normal(0, 5, (6, 3)).astype(np.float32)
    moments = model.policy.normaliser.moments
    normalised = ((obs - moments.mean.numpy()) / np.sqrt(moments.variance.numpy())).clip(-10, 10)
    with th.no_grad():
        expected = 2 * model.policy.actor.mu(th.tensor(normalised, dtype=th.float32)).numpy()
    assert model.policy.plain_actor() is not None
    assert np.allclose(model.predict(obs)[0], expected, atol=1e-5)
    assert np.allclose(model.predict(obs[0])[0], expected[0], atol=1e-5)
    stack = PerturbedActors(model.policy, 6)
    for i in range(6):
        stack.perturb(i, np.zeros(1, np.float32))
    assert np.allclose(2 * stack(obs), expected, atol=1e-5)


@pytest.mark.parametrize("kwargs", [dict(), dict(scale_returns=True), dict(popart=True)], ids=str)
def test_saved_and_loaded(kwargs, tmp_path):
    """The statistics are part of the model, which acts the same and goes on with them, with more environments too."""
    model = make_model(**kwargs).learn(80)
    model.save(tmp_path / "model")
    loaded = DDPG.load(tmp_path / "model", env=DummyVecEnv([lambda: gym.make("Pendulum-v1")] * 2))
    obs = np.random.default_rng(0).normal(0, 5, (6, 3)).astype(np.float32)
    assert np.array_equal(model.predict(obs)[0], loaded.predict(obs)[0])
    before, after = statistics_of(model.policy), statistics_of(loaded.policy)
    assert before.keys() == after.keys()
    assert all(th.equal(value, after[name]) for name, value in before.items())
    loaded.learn(20, reset_num_timesteps=False)
    assert loaded.policy.normaliser.moments.count.item() == 100


def test_dict_observations(dict_pendulum):
    """Each entry has statistics of its own."""
    model = make_model(dict_pendulum, "MultiInputPolicy").learn(60)
    assert set(model.policy.normaliser) == {"angle", "velocity"}
    assert model.policy.normaliser["velocity"].moments.count.item() == 60
    obs = DictPendulum(gym.make("Pendulum-v1")).reset(seed=0)[0]
    with th.no_grad():
        parts = [model.policy.normaliser[key](th.tensor(obs[key])[None]) for key in ("angle", "velocity")]
        expected = 2 * model.policy.actor.mu(th.cat(parts, dim=1)).numpy()[0]
    assert np.allclose(model.predict(obs)[0], expected, atol=1e-6)


@pytest.mark.parametrize("chosen", [True, {}], ids=str)
@pytest.mark.parametrize(("option", "wrapped"), [("normalize_observations", "norm_obs"), ("scale_returns", "norm_reward")])
def test_not_twice(option, wrapped, chosen):
    """VecNormalize and the model do not normalise the same thing; each may do the other's."""
    for norm in ("norm_obs", "norm_reward"):
        env = VecNormalize(counting_envs(1), norm_obs=norm == "norm_obs", norm_reward=norm == "norm_reward")
        model = DDPG("MlpPolicy", env, policy_kwargs={option: chosen}, **SMALL)
        if norm == wrapped:
            with pytest.raises(ValueError, match=f"policy_kwargs\\['{option}'\\].*{wrapped}=True"):
                model.learn(30)
        else:
            assert model.learn(30).num_timesteps == 30


def test_returns_of_each_environment():
    """The running return is discounted, belongs to its environment, and begins anew after the episode."""
    model = make_model(counting_envs(2), scale_returns=True).learn(60)
    seen = []
    for rules in ([5, 4], [6, 4]):
        rewards = [r for k in range(10) for r in range(1, rules[k % 2] + 1)][:30]
        total = 0.0
        for r in rewards:
            total = r if r == 1 else total * 0.99 + r
            seen.append(total)
    scaler = model.policy.return_scaler
    assert scaler.moments.mean.item() == pytest.approx(np.mean(seen))
    assert scaler.factor.item() == pytest.approx(1 / max(np.std(seen), np.max(seen) / 5), rel=1e-5)


def test_an_episode_goes_on_over_two_trainings():
    """learn(reset_num_timesteps=False) in its middle does not cut its return; a new beginning does."""
    once, twice = (make_model(counting_envs(1), scale_returns=True) for _ in range(2))
    once.learn(40)
    twice.learn(22).learn(18, reset_num_timesteps=False)
    assert once.policy.return_scaler.moments.mean.item() == pytest.approx(twice.policy.return_scaler.moments.mean.item())
    assert len(twice.policy.return_scaler._returns) == 1


def test_an_episode_goes_on_in_a_loaded_model(tmp_path):
    """With force_reset=False the return until now belongs to what is loaded, and the statistics come out the same."""
    model = make_model(counting_envs(1), scale_returns=True).learn(22)
    model.save(tmp_path / "model")
    loaded = DDPG.load(tmp_path / "model", env=model.get_env(), force_reset=False)
    before = model.policy.return_scaler._returns
    assert before != 0
    assert np.array_equal(loaded.policy.return_scaler._returns, before)


@pytest.mark.parametrize("kwargs", [dict(scale_returns=True), dict(popart=True)], ids=str)
def test_statistics_stay_in_float64(kwargs):
    """Whatever the networks are cast to: large means would swallow small variances."""
    policy = make_model(**kwargs).policy
    policy.double()
    policy.float()
    moments = [m for m in policy.modules() if isinstance(m, RunningMoments | PopArt)]
    assert len(moments) > 0
    assert {buffer.dtype for m in moments for buffer in m.buffers(recurse=False)} == {th.float64}
    assert {p.dtype for p in policy.parameters()} == {th.float32}


def test_a_new_training_begins_new_returns():
    """Since its environments have been reset."""
    twice = make_model(counting_envs(1), scale_returns=True).learn(22)
    twice.learn(0)
    assert len(twice.policy.return_scaler._returns) == 0


def test_q_values_take_actions_of_the_environment():
    """Pendulum's torques of up to 2 are the critic's 1."""
    model = make_model().learn(40)
    obs = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    with th.no_grad():
        expected = model.critic(th.tensor(obs), th.full((5, 1), 0.5))[0].flatten().numpy()
    assert np.allclose(model.policy.q_values(obs, np.ones((5, 1), np.float32)), expected, atol=1e-6)


def test_images_with_their_channels_last():
    """Inside SB3's VecTransposeImage VecNormalize has them last, and what it has would be stored as if they were first."""
    env = lambda: FakeImageEnv(screen_height=36, screen_width=36, n_channels=3, discrete=False, channel_first=False)  # noqa: E731
    kwargs = dict(buffer_size=50, learning_starts=5, batch_size=4, device="cpu")
    kwargs |= dict(policy_kwargs=dict(features_extractor_kwargs=dict(features_dim=8), net_arch=[8]))
    with pytest.raises(ValueError, match=r"VecNormalize\(VecTransposeImage\(env\)\)"):
        DDPG("CnnPolicy", VecNormalize(DummyVecEnv([env]), norm_obs=False), **kwargs).learn(1)
    vec_env = VecNormalize(VecTransposeImage(DummyVecEnv([env])), norm_obs=False)
    model = DDPG("CnnPolicy", vec_env, **kwargs).learn(12)
    np.testing.assert_array_equal(model.replay_buffer.samples_of(np.array([11])).next_observations[0], model._last_obs[0])


@pytest.mark.parametrize("kwargs", [dict(normalize_observations=dict(clop=3)), dict(scale_returns=dict(bound=0))], ids=str)
def test_wrong_arguments(kwargs):
    """An argument that is unknown or not allowed is named."""
    with pytest.raises((TypeError, ValueError), match=r"policy_kwargs\[.*clop.*min_std|bound=0"):
        make_model(**kwargs)
