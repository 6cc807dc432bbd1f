"""What is known in closed form of exploration noise: moments, density, autocorrelation, power spectrum."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any, NamedTuple

import numpy as np
import torch as th

from sb3_ddpg_ext.noise import (
    AdditiveNoise,
    ColouredNoise,
    CombinedNoise,
    CorrelatedNoise,
    GaussianNoise,
    Noise,
    OrnsteinUhlenbeckNoise,
    UniformMixing,
)
from sb3_ddpg_ext.schedules import evaluate

CDF = Callable[[np.ndarray, int], np.ndarray]  # (x, episode) -> (steps, len(x)), one distribution for each step


class Training(NamedTuple):
    """``episodes`` of ``steps`` each, one after the other; the time of schedules runs from the first step to the last."""

    episodes: int
    steps: int

    @property
    def frequencies(self) -> np.ndarray:
        """In cycles per step, without 0."""
        return np.fft.rfftfreq(self.steps)[1:]

    def time(self, step: int) -> tuple[float, int]:
        """Progress remaining and environment steps so far, before a step of the training."""
        return 1 - step / (self.episodes * self.steps), step

    def values(self, value: Any) -> np.ndarray:
        """A number, the first of a list of them, or a schedule, at each step, of shape (episodes, steps)."""
        if callable(value):
            flat = [evaluate(value, *self.time(step)) for step in range(self.episodes * self.steps)]
            return np.reshape(flat, self)
        return np.full(self, np.ravel(value)[0], dtype=float)


class Memory(NamedTuple):
    """
    A process x that remembers: cov(x[t], x[t + k]) = ``then[t] * now[t + k] * correlation[k]``, zero across ``length``.

    :param then: of shape (episodes, steps)
    :param now: of shape (episodes, steps)
    :param correlation: for the lags 0 to ``length - 1``
    :param spectrum: power spectral density where ``then`` and ``now`` are 1, at the training's frequencies
    :param length: steps after which the process begins anew, independent of its past
    """

    then: np.ndarray
    now: np.ndarray
    correlation: np.ndarray
    spectrum: np.ndarray
    length: int


@dataclass(frozen=True)
class Theory:
    """
    The noise of one action dimension where the policy's action is 0.

    :param mean: at each step, of shape (episodes, steps)
    :param variance: the same
    :param memories: the parts of the variance that are correlated in time; what they leave is white
    :param cdf: distribution of each step; None where it has no closed form
    :param limit: the distribution that each step would have after a long episode, where that is another one
    :param is_normal: whether the distribution of each step is Gaussian
    """

    mean: np.ndarray
    variance: np.ndarray
    memories: tuple[Memory, ...] = ()
    cdf: CDF | None = None
    limit: CDF | None = None
    is_normal: bool = False

    @property
    def std(self) -> float:
        """Standard deviation of all steps of all episodes together."""
        return float(np.sqrt(self.variance.mean() + self.mean.var()))

    def bands(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each step of an episode, over the episodes."""
        return self.mean.mean(axis=0), np.sqrt(self.variance.mean(axis=0) + self.mean.var(axis=0))

    def autocorrelation(self) -> np.ndarray:
        """Covariance of steps that are k apart, by the variance of the earlier ones, for the lags k from 0."""
        variance = self.variance.sum(axis=0).cumsum()[::-1]  # of the steps that have a successor k later
        covariance = np.zeros_like(variance)
        for memory in self.memories:
            sums = lagged_products(memory.then, memory.now, memory.length)
            covariance[: memory.length] += sums * memory.correlation[: len(sums)]
        covariance[0] = variance[0]
        return np.divide(covariance, variance, out=np.zeros_like(variance), where=variance > 0)

    def spectrum(self) -> np.ndarray:
        """Power spectral density at the training's frequencies, as of long episodes; the variance is its mean."""
        white = self.variance.mean() - sum(np.mean(memory.then * memory.now) for memory in self.memories)
        coloured = (np.mean(memory.now**2) * memory.spectrum for memory in self.memories)
        return sum(coloured, start=np.full(self.variance.shape[1] // 2, max(white, 0.0)))

    def density(self, edges: np.ndarray, cdf: CDF | None = None) -> np.ndarray:
        """Mean density within bins, over all steps, of ``cdf`` or of the noise's own."""
        cdf = cdf or self.cdf
        assert cdf is not None
        episodes = [np.diff(cdf(edges, episode).mean(axis=0)) for episode in range(len(self.mean))]
        return np.mean(episodes, axis=0) / np.diff(edges)


def lagged_products(then: np.ndarray, now: np.ndarray, length: int) -> np.ndarray:
    """
    Sums of ``then[t] * now[t + k]`` over all t, and over all rows.

    :param then: of shape (rows, steps)
    :param now: of shape (rows, steps)
    :param length: steps after which a row is cut, so that no product goes across
    :return: for the lags k from 0 to ``min(length, steps) - 1``
    """
    steps = then.shape[1]
    length = min(length, steps)
    padded = [np.pad(x, ((0, 0), (0, -steps % length))).reshape(-1, length) for x in (then, now)]
    first, second = (np.fft.rfft(x, n=2 * length) for x in padded)
    return np.fft.irfft((first.conj() * second).sum(axis=0), n=2 * length)[:length]


def theory(noise: Noise, training: Training) -> Theory | None:
    """
    :param noise: whose arguments alone are looked at
    :param training: what is simulated
    :return: None for noise of the actor's parameters, whose effect on the actions has no closed form, and for a kind that has
        none here
    """
    silence = np.zeros(training)
    try:
        return None if noise.parameter_noise is not None else disturbed(noise, normal(silence, silence), training)
    except NoTheory:
        return None


class NoTheory(TypeError):
    """A kind of noise without a closed form."""


@singledispatch
def disturbed(noise: Noise, before: Theory, training: Training) -> Theory:
    """What becomes of ``before``, as ``noise.apply`` does it to actions."""
    raise NoTheory(f"noise={noise!r}")


@disturbed.register
def _(noise: CombinedNoise, before: Theory, training: Training) -> Theory:
    for part in noise.parts:
        before = disturbed(part, before, training)
    return before


@disturbed.register
def _(noise: UniformMixing, before: Theory, training: Training) -> Theory:
    epsilon = training.values(noise.epsilon)
    keep, inner = 1 - epsilon, before.cdf
    mean = keep * before.mean
    variance = keep * (before.variance + before.mean**2) + epsilon / 3 - mean**2

    def cdf(x: np.ndarray, episode: int) -> np.ndarray:
        assert inner is not None
        uniform = np.clip((x + 1) / 2, 0, 1)
        return keep[episode][:, None] * inner(x, episode) + epsilon[episode][:, None] * uniform

    memories = tuple(memory._replace(then=keep * memory.then, now=keep * memory.now) for memory in before.memories)
    return Theory(mean, variance, memories, cdf if inner else None)


@disturbed.register
def _(noise: AdditiveNoise, before: Theory, training: Training) -> Theory:
    own = added(noise, training)
    if not (before.variance.any() or before.mean.any()):
        return own
    mean, variance, memories = before.mean + own.mean, before.variance + own.variance, before.memories + own.memories
    if before.is_normal and own.is_normal:
        return Theory(mean, variance, memories, normal_cdf(mean, variance), is_normal=True)
    return Theory(mean, variance, memories)


@singledispatch
def added(noise: AdditiveNoise, training: Training) -> Theory:
    """The noise that is added to the actions."""
    raise NoTheory(f"noise={noise!r}")


@added.register
def _(noise: GaussianNoise, training: Training) -> Theory:
    white = normal(training.values(noise.mean), scales(noise, training))
    return white if noise.clip is None else clipped(white, noise.clip)


@added.register
def _(noise: CorrelatedNoise, training: Training) -> Theory:
    return normal(training.values(noise.mean), np.sqrt(max(noise.covariance[0][0], 0)) * training.values(noise.scale))


@added.register
def _(noise: OrnsteinUhlenbeckNoise, training: Training) -> Theory:
    keep, elapsed = 1 - noise.theta * noise.dt, np.arange(1, training.steps + 1)
    scale = scales(noise, training) * np.sqrt(noise.dt / (1 - keep**2))  # standard deviation of the stationary process
    is_stationary = isinstance(noise.start, str)
    share = np.ones(training.steps) if is_stationary else 1 - keep ** (2.0 * elapsed)  # of the variance, reached so far
    mean = settled = training.values(noise.mean)
    if not isinstance(noise.start, str):
        mean = settled + (np.ravel(noise.start)[0] - settled) * keep**elapsed
    spectrum = (1 - keep**2) / np.abs(1 - keep * np.exp(-2j * np.pi * training.frequencies)) ** 2
    memory = Memory(scale * share, scale, keep ** np.arange(training.steps), spectrum, training.steps)
    limit = None if is_stationary else normal_cdf(settled, scale**2)
    return replace(normal(mean, scale * np.sqrt(share)), memories=(memory,), limit=limit)


@added.register
def _(noise: ColouredNoise, training: Training) -> Theory:
    length = noise.length or training.steps
    scale = scales(noise, training)
    correlation, spectrum = coloured(noise.beta, length, training.frequencies)
    memory = Memory(scale, scale, correlation, spectrum, length)
    return replace(normal(training.values(noise.mean), scale), memories=(memory,))


def coloured(beta: float, length: int, frequencies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    A sequence of ``length`` steps with the power 1 / frequency ** beta, level below 1 / length, and variance 1.

    The sequence is made by a discrete Fourier transform and so is periodic: its last step is as close to the first as to the
    last but one, and its autocorrelation rises again beyond half the length.

    :return: autocorrelation for the lags from 0, the inverse transform of the power; power spectral density at ``frequencies``
    """
    own, wanted = (np.maximum(np.abs(x), 1 / length) ** -beta for x in (np.fft.fftfreq(length), frequencies))
    return np.fft.ifft(own).real / own.mean(), wanted / own.mean()


def scales(noise: AdditiveNoise, training: Training) -> np.ndarray:
    return training.values(noise.sigma) * training.values(noise.scale)


def normal(mean: np.ndarray, std: np.ndarray) -> Theory:
    """White Gaussian noise."""
    return Theory(mean, std**2, cdf=normal_cdf(mean, std**2), is_normal=True)


def normal_cdf(mean: np.ndarray, variance: np.ndarray) -> CDF:
    def cdf(x: np.ndarray, episode: int) -> np.ndarray:
        return phi((x - mean[episode][:, None]) / np.sqrt(np.maximum(variance[episode], 1e-30))[:, None])

    return cdf


def clipped(white: Theory, clip: float) -> Theory:
    """White Gaussian noise within [-clip, clip], with the mass of its tails at the two ends."""
    std = np.sqrt(np.maximum(white.variance, 1e-30))
    low, high = (-clip - white.mean) / std, (clip - white.mean) / std
    below, inside, above = phi(low), phi(high) - phi(low), 1 - phi(high)
    at_low, at_high = (np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) for z in (low, high))
    mean = clip * (above - below) + white.mean * inside + std * (at_low - at_high)
    square = (
        clip**2 * (above + below)
        + (white.mean**2 + std**2) * inside
        + 2 * white.mean * std * (at_low - at_high)
        + std**2 * (low * at_low - high * at_high)
    )

    def cdf(x: np.ndarray, episode: int) -> np.ndarray:
        assert white.cdf is not None
        return np.where(x < -clip, 0.0, np.where(x >= clip, 1.0, white.cdf(x, episode)))

    return Theory(mean, square - mean**2, cdf=cdf)


def phi(z: np.ndarray) -> np.ndarray:
    """The standard normal distribution function."""
    return th.special.ndtr(th.from_numpy(z)).numpy()
