"""Noise in the actions: distributions against closed forms, random streams, and what is refused."""

import copy
import inspect
import math
import pickle
import random

import cloudpickle
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.noise import (
    ColouredNoise,
    CombinedNoise,
    CorrelatedNoise,
    FixedParameterNoise,
    GaussianNoise,
    OrnsteinUhlenbeckNoise,
    UniformMixing,
)
from sb3_ddpg_ext.noise.coloured import coloured_sequence
from sb3_ddpg_ext.schedules import Constant, Exponential, Linear, Piecewise

# Statistical tests have fixed seeds, and tolerances of five standard errors of the estimate: right code would fail at one seed
# in a million, and a tenth too much or too little is far outside.
ERRORS = 5.0


COVARIANCE = [[0.04, 0.03, 0.0], [0.03, 0.09, -0.01], [0.0, -0.01, 0.01]]
MEMORYLESS = [
    pytest.param(lambda: GaussianNoise(0.3), id="normal"),
    pytest.param(lambda: GaussianNoise([0.1, 0.2, 0.3], mean=0.1, clip=0.4), id="normal with all"),
    pytest.param(lambda: ColouredNoise(0.3, beta=0.0, length=50), id="white"),
    pytest.param(lambda: CorrelatedNoise(np.diag([0.04, 0.09, 0.01])), id="correlated, diagonal"),
]
WITH_MEMORY = [
    pytest.param(lambda: OrnsteinUhlenbeckNoise(), id="ou"),
    pytest.param(lambda: OrnsteinUhlenbeckNoise(dt=1.0, mean=[0.1, 0.0, -0.1], start=1.0), id="ou from 1"),
    pytest.param(lambda: OrnsteinUhlenbeckNoise(dt=1.0, start="stationary"), id="ou stationary"),
    pytest.param(lambda: ColouredNoise(length=50), id="pink"),
    pytest.param(lambda: ColouredNoise(beta=2.0, length=51), id="red"),
]
CORRELATED = [pytest.param(lambda: CorrelatedNoise(COVARIANCE), id="correlated")]
ADDITIVE = MEMORYLESS + WITH_MEMORY + CORRELATED
NOT_ADDITIVE = [
    pytest.param(lambda: UniformMixing(0.5), id="epsilon"),
    pytest.param(
        lambda: CombinedNoise(
            [UniformMixing(0.2), OrnsteinUhlenbeckNoise(start="stationary"), ColouredNoise(length=50), GaussianNoise()]
        ),
        id="combined",
    ),
]
KINDS = ADDITIVE + NOT_ADDITIVE


def run(noise, steps):
    """What the noise makes of actions that are 0, of shape (steps, n_envs, action_dim)."""
    zeros = np.zeros((noise.n_envs, noise.action_dim), dtype=np.float32)
    return np.array([noise.apply(zeros) for _ in range(steps)])


def correlation(x, y):
    return np.corrcoef(np.ravel(x), np.ravel(y))[0, 1]


def assert_uncorrelated(x, y):
    """The standard error of a correlation of n independent pairs is 1 / sqrt(n)."""
    assert abs(correlation(x, y)) < ERRORS / np.sqrt(np.size(x))


def assert_std(sample, expected, factor=1.0):
    """The standard error of the standard deviation of n independent Gaussian numbers is 1 / sqrt(2 n) of itself."""
    assert np.std(sample) == pytest.approx(expected, rel=factor * ERRORS / np.sqrt(2 * np.size(sample)))


class Given:
    """Random numbers of the test's own, in place of a stream."""

    def __init__(self, numbers):
        self.numbers = iter(numbers)

    def next(self):
        return next(self.numbers)


# ---- Ornstein-Uhlenbeck


@pytest.mark.parametrize(
    ("theta", "dt"), [(0.15, 0.01), (0.15, 1.0), (1.0, 1.0), (0.15, 10.0)], ids=["dt .01", "dt 1", "white", "alternating"]
)
def test_ou_from_zero_has_the_variance_of_an_ar1_process(theta, dt):
    """After n steps from 0 the variance is sigma^2 dt (1 - k^2n) / (1 - k^2), k = 1 - theta dt."""
    path = run(OrnsteinUhlenbeckNoise(0.2, theta, dt).prepare(200, n_envs=100, seed=1), 300)
    keep = 1 - theta * dt
    for n in (1, 2, 5, 20, 100, 300):
        expected = 0.2 * np.sqrt(dt * sum(keep ** (2 * i) for i in range(n)))
        assert_std(path[n - 1], expected)
        assert abs(path[n - 1].mean()) < ERRORS * expected / np.sqrt(path[n - 1].size)


def test_ou_of_baselines_grows_for_hundreds_of_steps():
    """At theta 0.15, sigma 0.2 and dt 0.01 the standard deviation is .02, .06, .14, .24, .36 at steps 1, 10, 50, 200, 1000."""
    path = run(OrnsteinUhlenbeckNoise(0.2, theta=0.15, dt=0.01).prepare(200, n_envs=100, seed=2), 1000)
    measured = [path[n - 1].std() for n in (1, 10, 50, 200, 1000)]
    assert measured == pytest.approx([0.020, 0.0628, 0.1363, 0.2453, 0.3560], rel=ERRORS / np.sqrt(2 * path[0].size))


def test_default_of_ou_is_that_of_baselines():
    """Without arguments, theta is 0.15, sigma 0.2, dt 0.01, and an episode begins at 0."""
    default, given = (
        noise.prepare(2, 3, seed=0) for noise in (OrnsteinUhlenbeckNoise(), OrnsteinUhlenbeckNoise(0.2, 0.15, 0.01))
    )
    np.testing.assert_array_equal(run(default, 10), run(given, 10))


@pytest.mark.parametrize(("theta", "dt"), [(0.15, 0.01), (0.15, 1.0), (0.15, 10.0)])
@pytest.mark.parametrize("lag", [1, 5, 50])
def test_ou_forgets_by_a_factor_in_each_step(theta, dt, lag):
    """In the stationary process, the correlation over m steps is (1 - theta dt)^m."""
    noise = OrnsteinUhlenbeckNoise(0.2, theta, dt, start="stationary").prepare(100, n_envs=100, seed=3)
    path = run(noise, 30 + lag)
    expected = (1 - theta * dt) ** lag
    standard_error = (1 - expected**2) / np.sqrt(path[0].size)
    assert correlation(path[29], path[29 + lag]) == pytest.approx(expected, abs=ERRORS * standard_error)


@pytest.mark.parametrize(("theta", "dt"), [(0.15, 0.01), (0.15, 1.0), (0.15, 10.0)])
def test_stationary_ou_has_one_variance_from_the_first_step_on(theta, dt):
    """Its standard deviation is sigma / sqrt(2 theta - theta^2 dt) around the mean, in the first step and in the 200th."""
    noise = OrnsteinUhlenbeckNoise(0.2, theta, dt, mean=0.5, start="stationary").prepare(200, n_envs=100, seed=4)
    path = run(noise, 200)
    expected = 0.2 / np.sqrt(2 * theta - theta**2 * dt)
    for n in (1, 2, 10, 200):
        assert_std(path[n - 1], expected)
        assert path[n - 1].mean() == pytest.approx(0.5, abs=ERRORS * expected / np.sqrt(path[n - 1].size))


def test_memory_that_the_docstring_states():
    """The docstring's 666 and 6 steps, and a half after 100, are -1 / log(k) and sqrt(1 - k^200)."""
    keep = 1 - 0.15 * 0.01
    assert -1 / math.log(keep) == pytest.approx(666, abs=1)
    assert -1 / math.log(1 - 0.15) == pytest.approx(6, abs=0.2)
    assert math.sqrt(1 - keep**200) == pytest.approx(0.5, abs=0.02)
    assert math.sqrt(1 - keep**6) == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize(("mean", "start"), [(0.0, 1.0), (-0.5, 1.0), (0.3, 0.0), ([0.1, -0.2], [1.0, 0.0]), (0.7, 0.7)])
@pytest.mark.parametrize("dt", [0.01, 1.0])
def test_start_of_ou_decays_to_the_mean(mean, start, dt):
    """Without a drive, x_n = mean + (start - mean) (1 - theta dt)^n, and a reset begins it again in that environment alone."""
    noise = OrnsteinUhlenbeckNoise(0.0, 0.15, dt, mean, start).prepare(2, n_envs=2, seed=0)
    decay = (1 - 0.15 * dt) ** np.arange(1, 41).reshape(-1, 1)
    expected = np.asarray(mean) + np.subtract(start, mean) * decay * np.ones(2)
    before = run(noise, 20)
    noise.reset([1])
    after = run(noise, 20)
    np.testing.assert_allclose(np.concatenate([before, after])[:, 0], expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(before[:, 1], expected[:20], rtol=0, atol=1e-6)
    np.testing.assert_allclose(after[:, 1], expected[:20], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(dict(), id="default"),
        pytest.param(dict(dt=1.0), id="dt 1"),
        pytest.param(dict(sigma=0.5, theta=0.6, dt=0.1, mean=0.2, start=-1.0), id="from a value"),
        pytest.param(dict(sigma=[0.1, 0.2], mean=[0.3, -0.3], start=[1.0, 0.0], dt=1.0), id="per dimension"),
        pytest.param(dict(theta=1.5, dt=1.0, mean=0.1), id="alternating"),
    ],
)
def test_ou_is_the_recurrence_of_sb3(arguments, monkeypatch):
    """Given the same random numbers, ours, SB3's and x += theta (mean - x) dt + sigma sqrt(dt) N are one path."""
    white = np.random.default_rng(0).standard_normal((300, 1, 2))
    noise = OrnsteinUhlenbeckNoise(**arguments).prepare(2, seed=0)
    noise._white = Given(white)
    ours = run(noise, 300)[:, 0]

    full = dict(sigma=0.2, theta=0.15, dt=0.01, mean=0.0, start=0.0) | arguments
    sigma, mean, start = (np.broadcast_to(full[name], 2).astype(float) for name in ("sigma", "mean", "start"))
    x, expected = start.copy(), []
    for numbers in white[:, 0]:
        x = x + full["theta"] * (mean - x) * full["dt"] + sigma * np.sqrt(full["dt"]) * numbers
        expected.append(x)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)

    sb3 = OrnsteinUhlenbeckActionNoise(mean, sigma, full["theta"], full["dt"], initial_noise=start, dtype=np.float64)
    numbers = iter(white[:, 0])
    monkeypatch.setattr(np.random, "normal", lambda size: next(numbers).reshape(size))
    np.testing.assert_allclose(ours, [sb3() for _ in range(300)], rtol=1e-5, atol=1e-6)


def test_sigma_scales_the_past_of_ou_too():
    """Under a schedule, the noise is the process of sigma 1 times sigma now; what is left of the start is not scaled."""
    arguments = dict(theta=0.15, dt=1.0, mean=0.3, start=1.0)
    scheduled = OrnsteinUhlenbeckNoise(Linear(0.8, 0.2), **arguments).prepare(2, 3, seed=0)
    unit = OrnsteinUhlenbeckNoise(1.0, **arguments).prepare(2, 3, seed=0)
    for n in range(1, 21):
        scheduled.set_progress(1 - n / 20, n)
        around = 0.3 + 0.7 * 0.85**n
        expected = around + (0.8 - 0.6 * n / 20) * (run(unit, 1) - around)
        np.testing.assert_allclose(run(scheduled, 1), expected, rtol=0, atol=1e-5)


# ---- Coloured


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("length", [1000, 999])
def test_coloured_spectrum_falls_by_beta(beta, length):
    """The mean periodogram of many episodes has the slope -beta, on logarithmic scales, over two decades of frequency."""
    path = run(ColouredNoise(0.3, beta, length).prepare(100, n_envs=5, seed=1), length).reshape(length, -1)
    power = np.mean(np.abs(np.fft.rfft(path, axis=0)) ** 2, axis=1)
    frequencies = np.fft.rfftfreq(length)
    middle = slice(4, 400)
    slope = np.polyfit(np.log(frequencies[middle]), np.log(power[middle]), 1)[0]
    assert slope == pytest.approx(-beta, abs=0.02)  # a power has an error of 1 / sqrt(500), the slope of 396 one of .003


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("length", [2, 3, 64, 65])
def test_coloured_sequences_have_unit_variance_over_the_ensemble(beta, length):
    """Over many sequences, the mean of x^2 is 1 at each of their steps, and the mean of x is 0."""
    sequences = coloured_sequence(np.random.default_rng(2), beta, length, dim=40_000)
    assert sequences.shape == (length, 40_000)
    error = ERRORS / np.sqrt(40_000)  # of a mean; of a mean square it is sqrt(2) times that
    np.testing.assert_allclose(np.mean(sequences**2, axis=1), 1, rtol=0, atol=np.sqrt(2) * error)
    np.testing.assert_allclose(np.mean(sequences, axis=1), 0, rtol=0, atol=error)


@pytest.mark.parametrize(("beta", "expected"), [(0.0, 0.999), (1.0, 0.9314), (2.0, 0.7667)])
def test_single_sequence_varies_less_than_the_ensemble(beta, expected):
    """Its variance around its own mean lacks the share of frequency 0, which is 2 in 2 + 4 (1 + 2^-beta + 3^-beta + ...)."""
    k = np.arange(1, 501)
    others = np.sum(np.where(k < 500, 4, 2) * k ** (-beta))
    assert others / (2 + others) == pytest.approx(expected, abs=1e-3)
    within = coloured_sequence(np.random.default_rng(3), beta, 1000, 1000).var(axis=0)
    assert within.mean() == pytest.approx(expected, abs=ERRORS * within.std() / np.sqrt(1000) + 1e-3)


@pytest.mark.parametrize("beta", [0.0, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("length", [2, 3, 4, 7, 16, 33])
def test_coloured_sequence_is_a_sum_of_waves(beta, length):
    """Timmer & Koenig's steps again, as a sum of cosines and sines over the frequencies k / n of the same random numbers."""
    given = np.random.default_rng(4).standard_normal((2, length // 2 + 1, 3))
    expected, variance = np.zeros((length, 3)), 0.0
    for k in range(length // 2 + 1):
        amplitude = (max(k, 1) / length) ** (-beta / 2)
        is_own_mirror = k in (0, length / 2)
        for t in range(length):
            phase = 2 * math.pi * k * t / length
            if is_own_mirror:
                expected[t] += amplitude * math.sqrt(2) * given[0, k] * math.cos(phase)
            else:
                expected[t] += 2 * amplitude * (given[0, k] * math.cos(phase) - given[1, k] * math.sin(phase))
        variance += amplitude**2 * (2 if is_own_mirror else 4)
    expected /= math.sqrt(variance)
    sequence = coloured_sequence(np.random.default_rng(4), beta, length, 3)
    np.testing.assert_allclose(sequence, expected, rtol=0, atol=1e-12)


def test_coloured_noise_is_sigma_times_the_sequence():
    """With sigma and mean for each dimension, an ensemble of episodes has that standard deviation and that mean."""
    path = run(ColouredNoise([0.1, 0.4], 1.0, 20, mean=[0.0, 1.0]).prepare(2, n_envs=4000, seed=5), 20)
    for dim, (sigma, mean) in enumerate([(0.1, 0.0), (0.4, 1.0)]):
        for step in (0, 10, 19):
            assert_std(path[step, :, dim], sigma)
            assert path[step, :, dim].mean() == pytest.approx(mean, abs=ERRORS * sigma / np.sqrt(4000))


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
def test_coloured_noise_draws_a_new_sequence_when_the_episode_is_longer(beta):
    """Steps 21 to 40 of an episode, with a length of 20, are a sequence of the same variance, independent of the first."""
    path = run(ColouredNoise(0.3, beta, 20).prepare(3, n_envs=1000, seed=6), 60)
    first, second, third = path[:20], path[20:40], path[40:]
    for step in (0, 7, 19):
        assert_std(second[step], 0.3)
        assert_uncorrelated(first[step], second[step])
        assert_uncorrelated(second[step], third[step])


@pytest.mark.parametrize("reset_at", [1, 7, 20, 33])
def test_coloured_noise_begins_a_new_sequence_with_an_episode(reset_at):
    """After a reset comes the first step of the environment's next sequence, whatever was left of the last one."""
    noise, undisturbed = (ColouredNoise(0.3, 1.0, 20).prepare(3, n_envs=2, seed=7) for _ in range(2))
    sequences = run(undisturbed, 80)[:, 1].reshape(4, 20, 3)
    run(noise, reset_at)
    noise.reset([1])
    np.testing.assert_array_equal(run(noise, 20)[:, 1], sequences[-(-reset_at // 20)])


@pytest.mark.parametrize(
    ("length", "episode_length", "expected"), [(None, 40, 40), (None, None, 1000), (30, 40, 30), (30, None, 30), (None, 1, 2)]
)
def test_length_of_coloured_sequences(length, episode_length, expected):
    """It is the argument, or else the environment's longest episode, or else 1000 steps."""
    noise = ColouredNoise(0.3, 1.0, length).prepare(2, 2, seed=8, episode_length=episode_length)
    given = ColouredNoise(0.3, 1.0, expected).prepare(2, 2, seed=8)
    np.testing.assert_array_equal(run(noise, 1100), run(given, 1100))


def test_coloured_noise_is_pink_by_default():
    """Without arguments, beta is 1 and sigma 0.3."""
    default, given = (noise.prepare(2, 2, seed=9) for noise in (ColouredNoise(), ColouredNoise(0.3, 1.0)))
    np.testing.assert_array_equal(run(default, 10), run(given, 10))


# ---- Gaussian and correlated


@pytest.mark.parametrize("sigma", [0.3, [0.1, 0.5]], ids=["number", "per dimension"])
@pytest.mark.parametrize("mean", [0.0, 0.2, [-0.4, 0.4]])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_gaussian_has_the_given_moments(sigma, mean, scale):
    """Each dimension has its own mean and sigma, scale multiplies sigma alone, and the fourth moment is that of a Gaussian."""
    path = run(GaussianNoise(sigma, mean, scale=scale).prepare(2, n_envs=200, seed=1), 100).reshape(-1, 2)
    for dim in range(2):
        std, middle = scale * np.broadcast_to(sigma, 2)[dim], np.broadcast_to(mean, 2)[dim]
        sample = path[:, dim].astype(float)
        assert_std(sample, std)
        assert sample.mean() == pytest.approx(middle, abs=ERRORS * std / np.sqrt(sample.size))
        fourth = np.mean(((sample - middle) / std) ** 4)
        assert fourth == pytest.approx(3, abs=ERRORS * np.sqrt(96 / sample.size))  # var(x^4) = 105 - 9


@pytest.mark.parametrize("make", MEMORYLESS)
def test_memoryless_noise_has_no_memory(make):
    """Two steps have nothing in common, whether near or as far from each other as random numbers are drawn at a time."""
    path = run(make().prepare(3, n_envs=1000, seed=2), 200)
    for lag in (1, 2, 50, 64, 128):
        assert_uncorrelated(path[0] - path[0].mean(axis=0), path[lag] - path[lag].mean(axis=0))


@pytest.mark.parametrize(("sigma", "mean", "clip"), [(0.2, 0.0, 0.3), (0.5, 0.0, 0.1), (0.2, 0.1, 0.25)])
def test_clip_bounds_gaussian_noise(sigma, mean, clip):
    """Nothing is beyond the bound, the tails' mass is at it, and what is within is what it was without."""
    noise, free = (GaussianNoise(sigma, mean, c).prepare(2, n_envs=100, seed=3) for c in (clip, None))
    path, unclipped = run(noise, 200), run(free, 200)
    bound = np.float32(clip)
    assert np.abs(path).max() == bound
    np.testing.assert_array_equal(path[np.abs(unclipped) < bound], unclipped[np.abs(unclipped) < bound])
    for side in (-1, 1):
        mass = 0.5 * math.erfc((clip - side * mean) / (sigma * math.sqrt(2)))
        error = math.sqrt(mass * (1 - mass) / path.size)
        assert np.mean(path == side * bound) == pytest.approx(mass, abs=ERRORS * error)


@pytest.mark.parametrize(
    "covariance",
    [
        pytest.param(COVARIANCE, id="full"),
        pytest.param([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0], [0.0, 0.0, 0.0]], id="rank one"),
        pytest.param(np.diag([0.01, 1.0, 4.0]), id="diagonal"),
        pytest.param([[1, 0, -1], [0, 1, 0], [-1, 0, 1]], id="rank two, of ints"),
        pytest.param(np.zeros((3, 3)), id="none"),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_correlated_noise_has_the_given_covariance(covariance, scale):
    """The sample covariance is scale^2 times the given one, around the mean."""
    path = run(CorrelatedNoise(covariance, mean=[0.0, 0.5, -0.5], scale=scale).prepare(3, n_envs=200, seed=4), 100)
    sample = path.reshape(-1, 3).astype(float)
    expected = scale**2 * np.asarray(covariance, dtype=float)
    variances = np.diag(expected)
    error = np.sqrt((np.outer(variances, variances) + expected**2) / len(sample))  # of a product of two Gaussian numbers
    assert (np.abs(np.cov(sample.T) - expected) <= ERRORS * error + 1e-12).all()
    assert (np.abs(sample.mean(axis=0) - [0.0, 0.5, -0.5]) <= ERRORS * np.sqrt(variances / len(sample)) + 1e-7).all()


def test_singular_covariance_keeps_to_its_plane():
    """Under a covariance of rank one, each noise is a multiple of one direction."""
    path = run(CorrelatedNoise([[1.0, 2.0], [2.0, 4.0]]).prepare(2, n_envs=10, seed=5), 100)
    np.testing.assert_allclose(path[..., 1], 2 * path[..., 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "covariance",
    [
        pytest.param([[1.0, 0.5], [0.4, 1.0]], id="not symmetric"),
        pytest.param([[1.0, 2.0], [2.0, 1.0]], id="indefinite"),
        pytest.param([[-1.0]], id="negative"),
        pytest.param([[1.0, 0.0]], id="not square"),
        pytest.param([1.0, 1.0], id="a vector"),
        pytest.param(1.0, id="a number"),
        pytest.param([[1.0, 0.0], [0.0, math.nan]], id="nan"),
        pytest.param([[math.inf]], id="infinite"),
        pytest.param(None, id="None"),
        pytest.param([[1.0], [0.0, 1.0]], id="ragged"),
        pytest.param("full", id="a word"),
        pytest.param([], id="empty"),
        pytest.param(np.zeros((0, 0)), id="0 x 0"),
    ],
)
def test_what_is_no_covariance_is_refused(covariance):
    """The error names the argument and its value."""
    with pytest.raises((ValueError, TypeError)) as caught:
        CorrelatedNoise(covariance)
    assert f"covariance={covariance!r}" in str(caught.value)


# ---- Mixing


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.5, 1.0])
def test_mixing_replaces_the_given_share(epsilon):
    """A share epsilon of the actions is replaced, in all dimensions at once, and the others come through bit for bit."""
    noise = UniformMixing(epsilon).prepare(3, n_envs=200, seed=1)
    given = np.random.default_rng(0).normal(size=(100, 200, 3)).astype(np.float32)
    taken = np.stack([noise.apply(actions) for actions in given])
    is_replaced = np.any(taken != given, axis=-1)
    np.testing.assert_array_equal(is_replaced, np.all(taken != given, axis=-1))
    error = math.sqrt(epsilon * (1 - epsilon) / is_replaced.size)
    assert is_replaced.mean() == pytest.approx(epsilon, abs=ERRORS * error)


@pytest.mark.parametrize("epsilon", [0.3, 1.0])
def test_random_actions_are_uniform(epsilon):
    """Each dimension of the replaced actions has the distribution function (1 + x) / 2 on [-1, 1], whatever the others are."""
    noise = UniformMixing(epsilon).prepare(3, n_envs=200, seed=2)
    taken = run(noise, 200).reshape(-1, 3)
    replaced = taken[np.any(taken != 0, axis=1)].astype(float)
    n = len(replaced)
    for dim in range(3):
        ordered = np.sort(replaced[:, dim])
        assert ordered[0] >= -1
        assert ordered[-1] <= 1
        ranks = np.arange(n + 1) / n
        distance = max(np.max(ranks[1:] - (1 + ordered) / 2), np.max((1 + ordered) / 2 - ranks[:-1]))
        assert distance < 2.5 / math.sqrt(n)  # Kolmogorov: 2 exp(-2 2.5^2) = 7e-6
        assert_uncorrelated(replaced[:, dim], replaced[:, (dim + 1) % 3])


def test_environments_and_steps_are_mixed_by_their_own_chance():
    """Whether an action is replaced has nothing to do with the environment beside it, or with the step before."""
    is_replaced = np.any(run(UniformMixing(0.3).prepare(1, n_envs=200, seed=3), 200) != 0, axis=-1).astype(float)
    assert_uncorrelated(is_replaced[:, 1:], is_replaced[:, :-1])
    assert_uncorrelated(is_replaced[1:], is_replaced[:-1])
    assert_uncorrelated(is_replaced[64:], is_replaced[:-64])


def test_schedule_of_epsilon():
    """The share follows the schedule, of the progress and of the steps."""
    for epsilon in (Linear(1.0, 0.2), Linear(1.0, 0.2, steps=100), lambda progress_remaining: 0.2 + 0.8 * progress_remaining):
        noise = UniformMixing(epsilon).prepare(1, n_envs=200, seed=4)
        for share, expected in ((0.0, 1.0), (0.5, 0.6), (1.0, 0.2)):
            noise.set_progress(1 - share, int(100 * share))
            replaced = np.mean(run(noise, 50) != 0)
            assert replaced == pytest.approx(expected, abs=ERRORS * math.sqrt(expected * (1 - expected) / 10_000))
            assert noise.statistics() == pytest.approx({"epsilon": expected})


# ---- All kinds: schedules, streams, state


@pytest.mark.parametrize("argument", ["sigma", "scale"])
@pytest.mark.parametrize("cls", [GaussianNoise, OrnsteinUhlenbeckNoise, ColouredNoise])
@pytest.mark.parametrize(
    ("schedule", "value"),
    [
        (Linear(0.5, 0.1), lambda progress, steps: 0.5 - 0.4 * (1 - progress)),
        (Exponential(0.5, 0.99), lambda progress, steps: 0.5 * 0.99**steps),
        (
            Piecewise([[0, 0.5], [80, 0.1]], over="steps", interpolation="constant"),
            lambda progress, steps: 0.5 if steps < 80 else 0.1,
        ),
        (lambda progress: progress**2, lambda progress, steps: progress**2),
    ],
    ids=["progress", "steps", "jump", "function"],
)
def test_schedule_of_the_scale(cls, argument, schedule, value):
    """The noise at any time is that of sigma 1 times the value of the schedule, for sigma and for a factor on it."""
    unit = cls(1.0).prepare(2, 3, seed=0)
    factor = np.array([1.0, 1.0]) if argument == "sigma" else np.array([0.2, 2.0])
    noise = cls(schedule) if argument == "sigma" else cls(sigma=[0.2, 2.0], scale=schedule)
    noise.prepare(2, 3, seed=0)
    at_the_beginning = value(1.0, 0)
    np.testing.assert_allclose(run(noise, 1), at_the_beginning * factor * run(unit, 1), rtol=1e-5)
    for steps in (1, 50, 79, 80, 200):
        noise.set_progress(1 - steps / 200, steps)
        expected = value(1 - steps / 200, steps) * factor
        np.testing.assert_allclose(run(noise, 3), expected * run(unit, 3), rtol=1e-5)
        assert noise.statistics() == pytest.approx({"sigma": expected.mean()})


def test_schedule_of_correlated_noise():
    """Its scale multiplies the noise, and what is logged is the root of the mean variance."""
    noise = CorrelatedNoise(COVARIANCE, scale=Linear(1.0, 0.0)).prepare(3, 2, seed=0)
    unit = CorrelatedNoise(COVARIANCE).prepare(3, 2, seed=0)
    noise.set_progress(0.25, 75)
    np.testing.assert_allclose(run(noise, 5), 0.25 * run(unit, 5), rtol=1e-5)
    assert noise.statistics() == pytest.approx({"sigma": 0.25 * np.sqrt(0.14 / 3)})


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("n_envs", [1, 3])
def test_noise_is_of_the_actions_shape_and_type(make, n_envs):
    """From float32 actions of shape (n_envs, action_dim) come the same, and finite."""
    noise = make()
    assert noise.prepare(3, n_envs, seed=0) is noise
    for _ in range(100):
        actions = noise.apply(np.full((n_envs, 3), 0.5, dtype=np.float32))
        assert (actions.shape, actions.dtype) == ((n_envs, 3), np.float32)
        assert np.isfinite(actions).all()


@pytest.mark.parametrize("make", ADDITIVE)
def test_additive_noise_is_called_as_sb3_does_and_added(make):
    """A call returns the noise itself, float32 of shape (n_envs, action_dim), and apply() adds it, beyond the bounds too."""
    called, disturbing = make().prepare(3, 4, seed=0), make().prepare(3, 4, seed=0)
    actions = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    for _ in range(100):
        given, noise = actions.copy(), called()
        assert (noise.shape, noise.dtype) == ((4, 3), np.float32)
        np.testing.assert_array_equal(disturbing.apply(given), actions + noise)
        np.testing.assert_array_equal(given, actions)


@pytest.mark.parametrize("make", KINDS)
def test_noise_that_was_returned_stays_as_it_is(make):
    """Later steps do not write into what an earlier one returned."""
    noise = make().prepare(3, 2, seed=0)
    zeros = np.zeros((2, 3), dtype=np.float32)
    returned = [noise.apply(zeros) for _ in range(70)]
    copies = [array.copy() for array in returned]
    run(noise, 70)
    np.testing.assert_array_equal(returned, copies)


@pytest.mark.parametrize("make", KINDS)
def test_number_of_environments_changes_nothing_in_one_of_them(make):
    """The first three of eight environments get bit for bit what three get, in the face of resets too."""
    few, many = make().prepare(3, n_envs=3, seed=0), make().prepare(3, n_envs=8, seed=0)
    for resets_few, resets_many in (([1], [1, 5, 7]), ([], [3]), ([0, 2], [0, 2]), ([2], [7, 2])):
        np.testing.assert_array_equal(run(few, 30), run(many, 30)[:, :3])
        few.reset(resets_few)
        many.reset(resets_many)


@pytest.mark.parametrize("make", KINDS)
def test_environments_are_independent(make):
    """No two environments get the same noise, and that of neighbours is uncorrelated."""
    step = run(make().prepare(3, n_envs=1000, seed=1), 3)[2]
    rows = step[np.any(step != 0, axis=1)]  # mixing leaves some as they were
    assert len(rows) > 300
    assert len(np.unique(rows, axis=0)) >= 0.99 * len(rows)  # some are at the clip
    deviation = step - step.mean(axis=0)
    for distance in (1, 2):
        assert_uncorrelated(deviation[distance:], deviation[:-distance])


@pytest.mark.parametrize("make", MEMORYLESS + WITH_MEMORY + NOT_ADDITIVE[:1])
def test_dimensions_are_independent(make):
    """Over many environments, no two dimensions are correlated; the replaced actions of a mixture are tested above."""
    step = run(make().prepare(3, n_envs=3000, seed=2), 3)[2]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert_uncorrelated(step[:, a], step[:, b])


@pytest.mark.parametrize("make", KINDS)
def test_seed_determines_the_noise(make):
    """One seed gives one noise, also when it is prepared again in the middle; another, or none, gives another."""
    again = make().prepare(3, 2, seed=5)
    run(again, 33)
    expected = run(make().prepare(3, 2, seed=5), 100)
    np.testing.assert_array_equal(run(again.prepare(3, 2, seed=5), 100), expected)
    for seed in (6, None):
        other = run(make().prepare(3, 2, seed=seed), 100)
        assert not np.array_equal(other[50:], expected[50:])
    assert not np.array_equal(run(make().prepare(3, 2), 100), run(make().prepare(3, 2), 100))


@pytest.mark.parametrize("make", KINDS)
def test_new_seed_begins_new_streams(make):
    """After seed() and reset(), the noise is that of a new one with this seed."""
    noise = make().prepare(3, 2, seed=0)
    run(noise, 33)
    noise.seed(5)
    noise.reset()
    np.testing.assert_array_equal(run(noise, 100), run(make().prepare(3, 2, seed=5), 100))


@pytest.mark.parametrize("make", KINDS)
def test_reset_of_one_environment_leaves_the_others(make):
    """What the others get is bit for bit what they would have got, up to the ends of blocks and sequences, and beyond."""
    noise, undisturbed = (make().prepare(3, 3, seed=0) for _ in range(2))
    for steps in (10, 1, 60, 100):
        np.testing.assert_array_equal(run(noise, steps)[:, [0, 2]], run(undisturbed, steps)[:, [0, 2]])
        noise.reset([1])


@pytest.mark.parametrize("make", WITH_MEMORY)
def test_reset_of_one_environment_begins_its_noise_anew(make):
    """Over many environments, the second step after a reset has the moments of the second step of all, and no memory."""
    noise = make().prepare(3, n_envs=2000, seed=0)
    second = run(noise, 2)[1]
    before = run(noise, 28)[-1]
    noise.reset(range(1000, 2000))
    after = run(noise, 2)[1]
    deviation_before, deviation = before - before.mean(axis=0), (after - after[1000:].mean(axis=0))[1000:]
    assert_std(deviation, np.std(second - second.mean(axis=0)), factor=1.5)  # both have an error
    assert_uncorrelated(deviation_before[1000:], deviation)
    assert correlation(before[:1000], after[:1000]) > 0.2


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize(
    "indices", [None, range(2), np.array([0, 1]), iter([0, 1])], ids=["None", "range", "array", "iterator"]
)
def test_reset_takes_any_indices(make, indices):
    """All environments by None, a range, an array or an iterator are the same."""
    noise, other = (make().prepare(3, 2, seed=0) for _ in range(2))
    run(noise, 10), run(other, 10)
    other.reset(list(range(2)))
    noise.reset(copy.copy(indices))
    np.testing.assert_array_equal(run(noise, 100), run(other, 100))


@pytest.mark.parametrize("make", KINDS)
def test_global_random_state_is_left_alone(make):
    """Neither Python's, nor NumPy's, nor torch's random numbers are used or seeded."""
    for seed in (0, None):
        before = random.getstate(), np.random.get_state(legacy=False), th.get_rng_state()
        noise = make().prepare(3, 2, seed=seed)
        run(noise, 100)
        noise.reset()
        noise.seed(seed)
        after = random.getstate(), np.random.get_state(legacy=False), th.get_rng_state()
        assert before[0] == after[0]
        np.testing.assert_equal(before[1], after[1])
        assert th.equal(before[2], after[2])


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize(
    "copied",
    [
        lambda noise: pickle.loads(pickle.dumps(noise)),
        lambda noise: cloudpickle.loads(cloudpickle.dumps(noise)),
        copy.deepcopy,
    ],
    ids=["pickle", "cloudpickle", "deepcopy"],
)
@pytest.mark.parametrize("steps", [0, 10, 64])
def test_copy_goes_on_where_the_noise_was(make, copied, steps):
    """A copy of a process in the middle, pickled or not, gives bit for bit what the noise itself does, after a reset too."""
    noise = make().prepare(3, 2, seed=0)
    run(noise, steps)
    other = copied(noise)
    expected = run(noise, 100)
    np.testing.assert_array_equal(run(other, 100), expected)
    noise.reset([1])
    other.reset([1])
    np.testing.assert_array_equal(run(other, 100), run(noise, 100))


# ---- Combined


def combine(*parts, dim=3, n_envs=2, seed=0):
    return CombinedNoise(parts).prepare(dim, n_envs, seed)


def test_sum_of_two_noises_has_the_sum_of_their_variances():
    """N(.1, .3^2) and a stationary process of variance .2^2 / (2 theta - theta^2) add up, in mean and in variance."""
    noise = combine(GaussianNoise(0.3, mean=0.1), OrnsteinUhlenbeckNoise(0.2, dt=1.0, start="stationary"), dim=100, n_envs=100)
    std = np.sqrt(0.3**2 + 0.2**2 / (0.3 - 0.0225))
    for step in run(noise, 50)[[0, 20, 49]]:
        assert_std(step, std)
        assert step.mean() == pytest.approx(0.1, abs=ERRORS * std / np.sqrt(step.size))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: GaussianNoise(0.3), id="normal"),
        pytest.param(lambda: OrnsteinUhlenbeckNoise(dt=1.0, start="stationary"), id="ou"),
        pytest.param(lambda: ColouredNoise(length=20), id="pink"),
        pytest.param(lambda: CorrelatedNoise(np.eye(3)), id="correlated"),
    ],
)
def test_parts_of_one_kind_have_nothing_in_common(make):
    """Their sum has twice the variance, and no step of one, in any environment, is a step of the other."""
    alone = run(make().prepare(3, n_envs=2000, seed=0), 20)[-1]
    noise = combine(make(), make(), make(), n_envs=2000)
    assert_std(run(noise, 20)[-1], math.sqrt(3) * alone.std(), factor=1.5)  # both have an error
    paths = [run(part, 3) for part in noise.prepare(3, 2000, seed=0).parts]
    assert len(np.unique(np.concatenate(paths).reshape(-1, 3), axis=0)) == 3 * 3 * 2000
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert_uncorrelated(paths[a][2], paths[b][2])
        assert_uncorrelated(paths[a][1], paths[b][2])
        assert_uncorrelated(paths[a][2, 1:], paths[b][2, :-1])


def test_parts_of_different_kinds_have_nothing_in_common():
    """Gaussian noise and the drive of an Ornstein-Uhlenbeck process beside it are uncorrelated, though they are alike."""
    noise = combine(
        GaussianNoise(1.0), OrnsteinUhlenbeckNoise(1.0, theta=1.0, dt=1.0), CorrelatedNoise(np.eye(3)), n_envs=2000
    )
    paths = [run(part, 3)[-1] for part in noise.parts]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert_uncorrelated(paths[a], paths[b])


def test_nested_parts_have_nothing_in_common():
    """A CombinedNoise may be a part of another; its parts have streams of their own there too."""
    noise = combine(CombinedNoise([GaussianNoise(1.0), GaussianNoise(1.0)]), GaussianNoise(1.0), n_envs=100)
    assert len(noise.parts) == 3
    assert len(np.unique(np.concatenate([part() for part in noise.parts]), axis=0)) == 300


def test_sum_of_a_combined_noise():
    """Called, it is the sum of its parts, unless one of them is not added to the actions."""
    noise, same = (combine(GaussianNoise(1.0), ColouredNoise(0.5)) for _ in range(2))
    np.testing.assert_array_equal(noise(), same.parts[0]() + same.parts[1]())
    with pytest.raises(TypeError, match="is not added to the actions"):
        combine(GaussianNoise(1.0), UniformMixing(0.5))()


@pytest.mark.parametrize(
    ("parts", "error", "words"),
    [
        (lambda: [CombinedNoise([UniformMixing(0.1), GaussianNoise()]), UniformMixing(0.5)], ValueError, "one UniformMixing"),
        (lambda: [GaussianNoise()] * 2, ValueError, "one object twice"),
        (lambda: ["normal_0.1"], TypeError, "a part='normal_0.1' must be a noise"),
        (lambda: [None], TypeError, "a part=None must be a noise"),
        (lambda: [GaussianNoise], TypeError, "must be a noise"),
    ],
)
def test_parts_that_do_not_go_together(parts, error, words):
    """Are refused with what is allowed."""
    with pytest.raises(error, match=words):
        CombinedNoise(parts())


def test_combined_noise_of_one_part_is_that_part():
    """What apply() gives is what the part alone gives from the same streams."""
    np.testing.assert_array_equal(run(combine(ColouredNoise()), 20), run(ColouredNoise().prepare(3, 2, seed=0), 20))


@pytest.mark.parametrize("position", [0, 1, 2])
def test_random_actions_come_last(position):
    """Wherever the mixing stands in the list, nothing is added to its random actions."""
    parts = [GaussianNoise(10.0), ColouredNoise(10.0)]
    parts.insert(position, UniformMixing(1.0))
    path = run(combine(*parts, n_envs=100), 20)
    assert np.abs(path).max() <= 1
    assert_std(path, 1 / math.sqrt(3))


def test_mixing_beside_noise_replaces_its_share():
    """With epsilon 0.3, seven in ten actions have the noise of the other part."""
    path = run(combine(GaussianNoise(0.1, mean=100.0), UniformMixing(0.3), n_envs=200), 50)
    is_replaced = np.abs(path) <= 1
    np.testing.assert_array_equal(is_replaced.all(axis=-1), is_replaced.any(axis=-1))
    share = is_replaced[..., 0].mean()
    assert share == pytest.approx(0.3, abs=ERRORS * math.sqrt(0.21 / 10_000))


def test_combined_noise_hands_on_progress_and_statistics():
    """Each part has its schedule, and what they log is logged together."""
    noise = combine(GaussianNoise(Linear(0.5, 0.1)), UniformMixing(Exponential(1.0, 0.9)))
    noise.set_progress(0.5, 10)
    assert noise.statistics() == pytest.approx({"sigma": 0.3, "epsilon": 0.9**10})


@pytest.mark.parametrize(
    "parts",
    [[UniformMixing(0.1), UniformMixing(0.2)], [FixedParameterNoise(0.1), FixedParameterNoise(0.2)]],
    ids=["mix", "param"],
)
def test_two_mixings_or_two_perturbed_actors_are_refused(parts):
    """Only one of them could act; the error has the whole list."""
    with pytest.raises(ValueError, match="at most one") as caught:
        CombinedNoise([GaussianNoise(), *parts])
    assert all(repr(part) in str(caught.value) for part in parts)


@pytest.mark.parametrize("make", NOT_ADDITIVE)
def test_what_is_not_added_cannot_be_called(make):
    """SB3's algorithms, which add action_noise(), are told that they cannot use it."""
    with pytest.raises(TypeError, match=r"only sb3_ddpg_ext\.DDPG can use it"):
        make().prepare(3, 2, seed=0)()


# ---- repr, and what is refused


REPRESENTED = [
    GaussianNoise(0.3, 0.1, 0.5, 0.9),
    GaussianNoise([0.1, 0.2, 0.3], scale=Linear(1.0, 0.1)),
    OrnsteinUhlenbeckNoise(0.3, 0.2, 0.5, 0.1, "stationary", 0.9),
    OrnsteinUhlenbeckNoise(Exponential(0.5, 0.99), start=[0.1, 0.2, 0.3]),
    ColouredNoise(0.2, 0.5, 77, 0.1, 0.9),
    UniformMixing(0.25),
    UniformMixing(Constant(0.25)),
    CorrelatedNoise(COVARIANCE, 0.1, 0.9),
    CombinedNoise([GaussianNoise(0.3, 0.1, 0.5, 0.9), UniformMixing(Linear(0.3))]),
]


@pytest.mark.parametrize("noise", REPRESENTED, ids=lambda noise: type(noise).__name__)
def test_repr_has_every_argument(noise):
    """The class and each argument with its value are in it, and the same when it is prepared and in use."""
    text = repr(noise)
    assert text.startswith(f"{type(noise).__name__}(")
    for name in inspect.signature(type(noise)).parameters:
        assert f"{name}={getattr(noise, name)!r}" in text
    assert " at 0x" not in text
    used = copy.deepcopy(noise).prepare(3, 2, seed=0)
    run(used, 3)
    assert repr(used) == text


@pytest.mark.parametrize(
    "make",
    [
        *ADDITIVE,
        pytest.param(lambda: UniformMixing(0.5), id="epsilon"),
        pytest.param(lambda: CombinedNoise([UniformMixing(0.5)]), id="combined, epsilon"),
        pytest.param(lambda: CombinedNoise([UniformMixing(0.5), GaussianNoise()]), id="combined"),
    ],
)
def test_noise_that_is_not_prepared_says_so(make):
    """It has no dimensions yet, and the error says which call gives it some."""
    with pytest.raises(ValueError, match=r"call prepare\(action_dim"):
        make().apply(np.zeros((1, 3), dtype=np.float32))


@pytest.mark.parametrize("make", ADDITIVE)
def test_call_of_noise_that_is_not_prepared_says_so(make):
    """The same for the call of SB3's algorithms."""
    with pytest.raises(ValueError, match=r"call prepare\(action_dim"):
        make()()


@pytest.mark.parametrize(
    ("noise", "argument", "dimensions"),
    [
        (GaussianNoise([0.1, 0.2]), "sigma=[0.1, 0.2]", 2),
        (GaussianNoise(mean=[0.0]), "mean=[0.0]", 1),
        (OrnsteinUhlenbeckNoise(np.ones(4)), "sigma=[1.0, 1.0, 1.0, 1.0]", 4),
        (OrnsteinUhlenbeckNoise(start=(0.5, 0.5)), "start=[0.5, 0.5]", 2),
        (OrnsteinUhlenbeckNoise(mean=[0.5, 0.5]), "mean=[0.5, 0.5]", 2),
        (ColouredNoise([]), "sigma=[]", 0),
        (CorrelatedNoise([[1.0, 0.0], [0.0, 1.0]]), "covariance=[[1.0, 0.0], [0.0, 1.0]]", 2),
        (CorrelatedNoise(COVARIANCE, mean=[0.0, 0.0]), "mean=[0.0, 0.0]", 2),
        (CombinedNoise([GaussianNoise(), GaussianNoise([0.1, 0.2])]), "sigma=[0.1, 0.2]", 2),
    ],
)
def test_wrong_number_of_dimensions_is_refused(noise, argument, dimensions):
    """The error names the argument, how many it has and how many the action has."""
    with pytest.raises(ValueError, match="it must have the action's 3") as caught:
        noise.prepare(3, 2, seed=0)
    assert f"{argument} has {dimensions} dimensions" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        (dict(action_dim=0), ValueError, "action_dim=0"),
        (dict(action_dim=1.5), TypeError, "action_dim=1.5"),
        (dict(action_dim=1, n_envs=0), ValueError, "n_envs=0"),
        (dict(action_dim=1, n_envs="2"), TypeError, "n_envs='2'"),
    ],
)
@pytest.mark.parametrize("make", KINDS)
def test_wrong_arguments_of_prepare_are_refused(make, arguments, error, named):
    """The error names argument and value."""
    with pytest.raises(error) as caught:
        make().prepare(**arguments)
    assert named in str(caught.value)


NUMBERS = [  # of any argument that must be a finite number
    (math.nan, ValueError),
    (math.inf, ValueError),
    (True, TypeError),
    ("0.1", TypeError),
]
WRONG = [
    *((GaussianNoise, name, value, error) for name in ("sigma", "mean", "scale", "clip") for value, error in NUMBERS),
    *((OrnsteinUhlenbeckNoise, name, value, error) for name in ("sigma", "theta", "dt", "mean") for value, error in NUMBERS),
    *((OrnsteinUhlenbeckNoise, "start", value, error) for value, error in NUMBERS[:3]),
    *((ColouredNoise, name, value, error) for name in ("sigma", "beta", "mean", "scale") for value, error in NUMBERS),
    *((CorrelatedNoise, name, value, error) for name in ("mean", "scale") for value, error in NUMBERS),
    *((UniformMixing, "epsilon", value, error) for value, error in NUMBERS),
    (GaussianNoise, "sigma", -0.1, ValueError),
    (GaussianNoise, "sigma", None, TypeError),
    (GaussianNoise, "scale", -1, ValueError),
    (GaussianNoise, "scale", [1.0, 1.0], TypeError),
    (GaussianNoise, "clip", 0, ValueError),
    (GaussianNoise, "clip", -0.5, ValueError),
    (OrnsteinUhlenbeckNoise, "sigma", -0.1, ValueError),
    (OrnsteinUhlenbeckNoise, "theta", 0, ValueError),
    (OrnsteinUhlenbeckNoise, "theta", -0.15, ValueError),
    (OrnsteinUhlenbeckNoise, "dt", 0.0, ValueError),
    (OrnsteinUhlenbeckNoise, "dt", -1, ValueError),
    (OrnsteinUhlenbeckNoise, "start", "foo", ValueError),
    (OrnsteinUhlenbeckNoise, "start", None, TypeError),
    (OrnsteinUhlenbeckNoise, "scale", -1, ValueError),
    (ColouredNoise, "sigma", -0.1, ValueError),
    (ColouredNoise, "beta", -0.1, ValueError),
    (ColouredNoise, "beta", 2.1, ValueError),
    (ColouredNoise, "length", 1, ValueError),
    (ColouredNoise, "length", 0, ValueError),
    (ColouredNoise, "length", 10.5, TypeError),
    (ColouredNoise, "length", True, TypeError),
    (ColouredNoise, "length", "10", TypeError),
    (UniformMixing, "epsilon", -0.1, ValueError),
    (UniformMixing, "epsilon", 1.1, ValueError),
    (UniformMixing, "epsilon", [0.1], TypeError),
]


@pytest.mark.parametrize(("cls", "name", "value", "error"), WRONG)
def test_wrong_arguments_are_named(cls, name, value, error):
    """A value outside what is allowed, or of another type, is refused with its name and itself."""
    arguments = dict(covariance=COVARIANCE) if cls is CorrelatedNoise else {}
    with pytest.raises(error) as caught:
        cls(**arguments | {name: value})
    assert f"{name}={value!r} must be" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "error", "named"),
    [
        ([0.1, -0.2], ValueError, "sigma[1]=-0.2"),
        ([0.1, math.nan], ValueError, "sigma[1]=nan"),
        (np.array([0.1, -0.2]), ValueError, "sigma[1]=-0.2"),
        (["0.1", "0.2"], TypeError, "sigma[0]='0.1'"),
        ([True, False], TypeError, "sigma[0]=True"),
        pytest.param([0.1, True], TypeError, "sigma[1]=True"),
        pytest.param([0.1, None], TypeError, "sigma[1]=None"),
        pytest.param([0.1, "0.2"], TypeError, "sigma[1]='0.2'"),
        pytest.param([0.1, [0.2, 0.3]], TypeError, "sigma"),
    ],
)
@pytest.mark.parametrize("cls", [GaussianNoise, OrnsteinUhlenbeckNoise, ColouredNoise])
def test_wrong_number_of_one_dimension_is_named(cls, value, error, named):
    """In a list, the error names the entry."""
    with pytest.raises(error) as caught:
        cls(sigma=value)
    assert named in str(caught.value)


@pytest.mark.parametrize(("theta", "dt"), [(2.0, 1.0), (0.15, 13.4), (300, 0.01)])
def test_ou_that_explodes_is_refused(theta, dt):
    """At theta dt >= 2 the recurrence grows without bound; the error names both, and just below it is taken."""
    with pytest.raises(ValueError, match="< 2") as caught:
        OrnsteinUhlenbeckNoise(theta=theta, dt=dt)
    assert f"theta={theta!r}" in str(caught.value)
    assert f"dt={dt!r}" in str(caught.value)
    path = run(OrnsteinUhlenbeckNoise(theta=1.99 / dt, dt=dt).prepare(3, 2, seed=0), 500)
    assert np.abs(path).max() < 6 * 0.2 * math.sqrt(dt / (1 - 0.99**2))


@pytest.mark.parametrize("parts", [["normal_0.1"], [GaussianNoise(), None], [GaussianNoise]])
def test_parts_that_are_no_noise_are_refused(parts):
    """The error says what was given."""
    with pytest.raises((TypeError, ValueError)) as caught:
        CombinedNoise(parts)
    assert repr(parts[-1]) in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("ou_0.2", "Noise: Ornstein-Uhlenbeck noise with dt=0.01 remembers 667 steps; dt=0.01 is Stable-Baselines3's default"),
        ("normal_0.1, ou_0.2", "the figures of DDPG's paper have dt=1, 7 steps: dict(kind='ou', sigma=0.2, dt=1.0)"),
        (dict(kind="ou", sigma=0.2, dt=1.0), "Noise: Ornstein-Uhlenbeck noise with dt=1 remembers 7 steps\n"),
    ],
    ids=str,
)
def test_the_log_says_how_long_noise_remembers(spec, text, capsys):
    """At verbose 1, of the string's dt, which is SB3's and not the paper's; nothing at 0, and nothing of other noise."""
    for verbose, action_noise, expected in ((1, spec, True), (0, spec, False), (1, "normal_0.1", False)):
        DDPG("MlpPolicy", "Pendulum-v1", action_noise=action_noise, buffer_size=10, device="cpu", verbose=verbose)
        assert (text in capsys.readouterr().out) is expected


def test_dt_of_the_string_is_that_of_sb3():
    """And of rl_zoo3's noise_type, so that the same sigma means the same."""
    assert OrnsteinUhlenbeckNoise(0.2).dt == OrnsteinUhlenbeckActionNoise(np.zeros(1), np.ones(1))._dt
