"""Noise without memory."""

from collections.abc import Sequence

import numpy as np

from sb3_ddpg_ext.noise.base import NOISES, AdditiveNoise, Scheduled
from sb3_ddpg_ext.validation import check_real


@NOISES.register("normal")
class GaussianNoise(AdditiveNoise):
    """
    Independent Gaussian noise in each step and dimension, as in Fujimoto et al. (2018), section 6.1.

    :param sigma: standard deviation, >= 0, on the [-1, 1] scale: a number, one for each dimension, or a schedule
    :param mean: mean, a number or one for each dimension
    :param clip: largest absolute value of the noise, its mean included, > 0; None for no limit
    :param scale: a factor on ``sigma``, a number or a schedule
    """

    def __init__(
        self,
        sigma: Scheduled | Sequence[float] = 0.1,
        mean: float | Sequence[float] = 0.0,
        clip: float | None = None,
        scale: Scheduled = 1.0,
    ):
        super().__init__(sigma, mean, scale)
        self.clip = clip if clip is None else check_real("clip", clip, low=0, above=True)

    def _next(self) -> np.ndarray:
        return self._white.next()

    def __call__(self) -> np.ndarray:
        noise = super().__call__()
        return noise if self.clip is None else np.clip(noise, -self.clip, self.clip)


@NOISES.register("correlated")
class CorrelatedNoise(AdditiveNoise):
    """
    Gaussian noise whose dimensions are correlated, for joints that should explore together.

    :param covariance: of shape (action_dim, action_dim), symmetric and positive semi-definite
    :param mean: mean, a number or one for each dimension
    :param scale: a factor on the noise (its square on the covariance), a number or a schedule
    :raises ValueError: if ``covariance`` is none
    """

    _of_each_dimension = ("covariance", "mean")
    _hidden = (*AdditiveNoise._hidden, "sigma")

    def __init__(
        self, covariance: Sequence[Sequence[float]] | np.ndarray, mean: float | Sequence[float] = 0.0, scale: Scheduled = 1.0
    ):
        super().__init__(1.0, mean, scale)
        try:
            matrix = np.array(covariance, dtype=float)
        except (TypeError, ValueError):
            matrix = np.empty(0)
        if matrix.ndim != 2 or len(matrix) == 0 or len(matrix) != matrix.shape[1] or not np.isfinite(matrix).all():
            raise ValueError(f"covariance={covariance!r} must be a square matrix of finite numbers")
        variances, directions = np.linalg.eigh(matrix)
        error = 1e-9 * np.abs(matrix).max()
        if np.abs(matrix - matrix.T).max() > error or variances.min() < -error:
            raise ValueError(f"covariance={covariance!r} must be symmetric and positive semi-definite")
        self.covariance = matrix.tolist()
        self._root = (directions * np.sqrt(np.maximum(variances, 0))).T  # white @ root has the covariance

    def _next(self) -> np.ndarray:
        return self._white.next() @ self._root

    def statistics(self) -> dict[str, float]:
        return {"sigma": float(np.sqrt(np.mean(np.diag(self.covariance))) * self._sigma)}
