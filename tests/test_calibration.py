"""Q beside the returns that came: the sums, the steps left out, and the pictures' numbers."""

import numpy as np
import pytest
from conftest import CountingEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from sb3_ddpg_ext.calibration import Calibration, discounted_sums, q_calibration


class Oracle:
    """Knows the environment, not the time limit: Q is 10 times the number of the step."""

    gamma = 0.5

    @property
    def policy(self):
        return self

    def predict(self, obs, deterministic):
        assert not deterministic  # the actor that the critic judges, not its average
        return np.zeros((len(obs), 1), np.float32), None

    def q_values(self, obs, actions):
        assert actions.shape == (1, 1)
        return 10 * obs[:, 1]


def returns_of(rewards, gamma=0.5):
    return [sum(gamma**k * r for k, r in enumerate(rewards[t:])) for t in range(len(rewards))]


def test_discounted_sums():
    """Each is the double sum of its definition."""
    rewards = np.random.default_rng(0).normal(size=30)
    assert np.allclose(discounted_sums(rewards, 0.9), returns_of(rewards, 0.9))


def test_terminated_episodes_keep_all_steps():
    """Estimates stand beside the returns of the same steps."""
    calibration = q_calibration(Oracle(), CountingEnv([(4, "terminated")]), n_episodes=2)
    assert calibration.estimates.tolist() == [0, 10, 20, 30] * 2
    assert calibration.returns.tolist() == pytest.approx(returns_of([1, 2, 3, 4]) * 2)
    assert calibration.n_cut == 0


def test_a_time_limit_hides_the_last_returns():
    """With gamma 0.5, what is beyond the end counts for more than a tenth in the last three steps."""
    calibration = q_calibration(Oracle(), CountingEnv([(8, "truncated")]), n_episodes=1)
    assert calibration.returns.tolist() == pytest.approx(returns_of(range(1, 9))[:5])
    assert calibration.n_cut == 3


@pytest.mark.parametrize(("length", "kept"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_short_truncated_episodes_keep_half(length, kept):
    """Too short for the rule, they still say something."""
    calibration = q_calibration(Oracle(), CountingEnv([(length, "truncated")]), n_episodes=1)
    assert (len(calibration.returns), calibration.n_cut) == (kept, length - kept)


def test_rewards_are_those_of_the_environment():
    """VecNormalize's are left aside, also where another wrapper is around it."""
    env = VecNormalize(DummyVecEnv([lambda: CountingEnv([(3, "terminated")])]), norm_obs=False)
    env.ret_rms.var = np.array(25.0)
    for wrapped in (env, VecFrameStack(env, 1)):
        assert q_calibration(Oracle(), wrapped, 1).returns.tolist() == pytest.approx(returns_of([1, 2, 3]))


@pytest.mark.parametrize(("norm_reward", "factor"), [(True, 5.0), (False, 1.0)])
def test_estimates_are_in_units_of_the_environment(norm_reward, factor):
    """A critic that learnt from rewards divided by 5 has values to be multiplied by 5."""
    env = VecNormalize(DummyVecEnv([lambda: CountingEnv([(3, "terminated")])]), norm_obs=False, norm_reward=norm_reward)
    env.ret_rms.var = np.array(25.0)
    assert q_calibration(Oracle(), env, 1).estimates.tolist() == pytest.approx([0, 10 * factor, 20 * factor])


@pytest.mark.parametrize("training", [True, False])
def test_statistics_of_vec_normalize_stay(training):
    """They are looked at, not fed, and afterwards go on as before."""
    env = VecNormalize(DummyVecEnv([lambda: CountingEnv([(3, "terminated")])]), training=training)
    before = env.obs_rms.count, env.ret_rms.count
    q_calibration(Oracle(), env, n_episodes=2)
    assert (env.obs_rms.count, env.ret_rms.count) == before
    assert env.training is training


def test_constant_rewards():
    """Of 1 in each step, k steps before the end have the return (1 - gamma^k) / (1 - gamma)."""

    class One(CountingEnv):
        def step(self, action):
            obs, _, *rest = super().step(action)
            return obs, 1.0, *rest

    whole = (1 - 0.5 ** np.arange(20, 0, -1)) / (1 - 0.5)
    for end, kept in (("terminated", 20), ("truncated", 17), ("both", 20)):
        calibration = q_calibration(Oracle(), One([(20, end)]), n_episodes=1)
        np.testing.assert_allclose(calibration.returns, whole[:kept])
        assert calibration.n_cut == 20 - kept


def test_seed():
    """The same seed, the same episodes."""

    class Drawn(CountingEnv):
        def step(self, action):
            obs, _, *rest = super().step(action)
            return obs, self.np_random.normal(), *rest

    returns = [q_calibration(Oracle(), Drawn([(5, "terminated")]), 2, seed).returns for seed in (0, 0, 1)]
    np.testing.assert_array_equal(returns[0], returns[1])
    assert not np.allclose(returns[0], returns[2])


def test_statistics():
    """Mean difference and Pearson's correlation."""
    calibration = Calibration(np.array([1.0, 2.0, 4.0]), np.array([0.0, 1.0, 2.0]))
    assert calibration.bias == pytest.approx(4 / 3)
    assert calibration.correlation == pytest.approx(np.corrcoef([1, 2, 4], [0, 1, 2])[0, 1])
    assert np.isnan(Calibration(np.ones(3), np.arange(3.0)).correlation)


@pytest.mark.parametrize(("kwargs", "message"), [(dict(n_episodes=0), "n_episodes=0"), (dict(n_envs=2), "env.num_envs=2")])
def test_wrong_arguments(kwargs, message):
    """The error names them."""
    env = DummyVecEnv([lambda: CountingEnv([(3, "terminated")])] * kwargs.pop("n_envs", 1))
    with pytest.raises(ValueError, match=message):
        q_calibration(Oracle(), env, **kwargs)
