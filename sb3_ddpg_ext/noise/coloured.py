"""Noise whose power falls with its frequency."""

from collections.abc import Iterable, Sequence

import numpy as np

from sb3_ddpg_ext.noise.base import NOISES, AdditiveNoise, Scheduled
from sb3_ddpg_ext.validation import check_integer, check_real

MAX_LENGTH = 10**7  # which takes 80 MB for each dimension and environment


def coloured_sequence(generator: np.random.Generator, beta: float, length: int, dim: int) -> np.ndarray:
    """
    Gaussian sequences with a power spectral density proportional to 1 / frequency ** beta, Timmer & Koenig (1995), section 3.

    The lowest frequency beside 0 is 1 / length, and 0 has the power of that one: the sequences are periodic, their end is as
    near to their beginning as two neighbours are. The variance is 1 in the mean over sequences; within a single one it is
    less, the more of the power is in the lowest frequencies. (The ``colorednoise`` package leaves frequency 0 out of the
    variance: its pink noise of 1000 steps is 4% stronger.)

    :param generator: random stream
    :param beta: 0 white, 1 pink, 2 red
    :param length: steps
    :param dim: number of independent sequences
    :return: of shape (length, dim)
    """
    frequencies = np.fft.rfftfreq(length)
    amplitude = np.maximum(frequencies, 1 / length) ** (-beta / 2)
    # What stands for itself alone, frequency 0 and half the sampling rate of an even length, is real and has all the power.
    is_real = np.zeros(len(amplitude), dtype=bool)
    is_real[0] = True
    is_real[-1] |= length % 2 == 0
    real, imaginary = generator.standard_normal((2, len(amplitude), dim))
    real[is_real] *= np.sqrt(2)  # irfft takes no notice of their imaginary parts
    variance = np.sum(np.where(is_real, 2, 4) * amplitude**2) / length**2
    return np.fft.irfft(amplitude[:, None] * (real + 1j * imaginary), n=length, axis=0) / np.sqrt(variance)


@NOISES.register("pink", beta=1.0)
@NOISES.register("red", beta=2.0)
@NOISES.register("coloured")
class ColouredNoise(AdditiveNoise):
    """
    Noise between white (no memory) and red (the spectrum of a random walk); pink noise, Eberhard et al. (2023), "Pink Noise Is
    All You Need", section 4, by default.

    :param sigma: standard deviation over many episodes, >= 0, on the [-1, 1] scale: a number, one for each dimension, or a
        schedule
    :param beta: exponent of the spectrum, in [0, 2]: 0 white, 1 pink, 2 red
    :param length: steps of the sequence that is drawn at the beginning of each episode, and again where an episode is longer;
        None for the environment's ``max_episode_steps``, or 1000 where it has none
    :param mean: mean, a number or one for each dimension
    :param scale: a factor on ``sigma``, a number or a schedule
    """

    def __init__(
        self,
        sigma: Scheduled | Sequence[float] = 0.3,
        beta: float = 1.0,
        length: int | None = None,
        mean: float | Sequence[float] = 0.0,
        scale: Scheduled = 1.0,
    ):
        super().__init__(sigma, mean, scale)
        self.beta = check_real("beta", beta, low=0, high=2)
        self.length = length if length is None else check_integer("length", length, 2, MAX_LENGTH)

    @property
    def wants_episode_length(self) -> bool:  # type: ignore[override]
        return self.length is None

    def _prepare(self, episode_length: int | None) -> None:
        super()._prepare(episode_length)
        self._length = self.length or max(episode_length or 1000, 2)
        self._sequences = np.zeros((self._length, self.n_envs, self.action_dim))
        self._steps = np.zeros(self.n_envs, dtype=int)
        self._envs = np.arange(self.n_envs)

    def reset(self, indices: Iterable[int] | None = None) -> None:
        for env in range(self.n_envs) if indices is None else indices:
            self._sequences[:, env] = coloured_sequence(self._generators[env], self.beta, self._length, self.action_dim)
            self._steps[env] = 0

    def _next(self) -> np.ndarray:
        if self._steps.max() == self._length:
            self.reset(np.flatnonzero(self._steps == self._length))
        noise = self._sequences[self._steps, self._envs]
        self._steps += 1
        return noise
