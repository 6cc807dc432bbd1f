"""Noise with the memory of a particle that is pulled back."""

from collections.abc import Iterable, Sequence

import numpy as np

from sb3_ddpg_ext.noise.base import NOISES, AdditiveNoise, Scheduled, check_numbers
from sb3_ddpg_ext.validation import check_real

STATIONARY = "stationary"


@NOISES.register("ou")
class OrnsteinUhlenbeckNoise(AdditiveNoise):
    """
    The Ornstein-Uhlenbeck process of Lillicrap et al. (2016), section 7, begun anew in each episode.

    In each step ``x += theta * (mean - x) * dt + sigma * sqrt(dt) * N(0, 1)``. The correlation with k steps earlier is
    ``(1 - theta * dt) ** k``: 1/e after about ``1 / (theta * dt)`` steps. The standard deviation approaches
    ``sigma / sqrt(2 * theta - theta ** 2 * dt)``, about 1.8 times ``sigma`` at the usual ``theta``. Begun at zero, the noise
    has ``sqrt(1 - (1 - theta * dt) ** (2 * n))`` of that after n steps.

    Two conventions are in use; a model with ``verbose=1`` says which it has. A string such as ``"ou_0.2"`` has ``dt=0.01``, as
    it has for rl_zoo3's ``noise_type``. With ``dt=0.01`` (OpenAI Baselines, Stable-Baselines3, and the default here) the
    memory is 666 steps long: nearly one constant push for a whole episode, which begins at zero and has a tenth of its final
    size only after some 3 steps, half after 100. With ``dt=1`` (rllab, most ports, the paper by its figures) it is 6 steps
    long.

    :param sigma: diffusion, >= 0, on the [-1, 1] scale: a number, one for each dimension, or a schedule; it scales the process
        as a whole, its past too
    :param theta: rate of the pull towards the mean, > 0, with ``theta * dt`` < 2
    :param dt: time of one environment step, > 0
    :param mean: mean, a number or one for each dimension
    :param start: value before the first step of an episode, a number or one for each dimension, or ``"stationary"`` to draw it
        from the distribution that the process approaches
    :param scale: a factor on ``sigma``, a number or a schedule
    """

    _of_each_dimension = ("sigma", "mean", "start")

    def __init__(
        self,
        sigma: Scheduled | Sequence[float] = 0.2,
        theta: float = 0.15,
        dt: float = 0.01,
        mean: float | Sequence[float] = 0.0,
        start: float | Sequence[float] | str = 0.0,
        scale: Scheduled = 1.0,
    ):
        super().__init__(sigma, mean, scale)
        self.theta = check_real("theta", theta, low=0, above=True)
        self.dt = check_real("dt", dt, low=0, above=True)
        if self.theta * self.dt >= 2:
            raise ValueError(f"theta={theta!r} and dt={dt!r}: theta * dt must be < 2, or the noise explodes")
        if isinstance(start, str) and start != STATIONARY:
            raise ValueError(f'start={start!r} must be a number, one for each dimension, or "stationary"')
        self.start = start if start == STATIONARY else check_numbers("start", start)
        self._keep, self._drive = 1 - self.theta * self.dt, np.sqrt(self.dt)
        self._stationary_std = 1 / np.sqrt(2 * self.theta - self.theta**2 * self.dt)

    @property
    def remark(self) -> str:  # type: ignore[override]
        """For how many steps it remembers, and what the paper has, if that is longer."""
        text = f"Ornstein-Uhlenbeck noise with dt={self.dt:g} remembers {1 / (self.theta * self.dt):.0f} steps"
        if self.dt >= 1:
            return text
        paper = f"dict(kind='ou', sigma={self.sigma!r}, dt=1.0)"
        return f"{text}; dt=0.01 is Stable-Baselines3's default, the figures of DDPG's paper have dt=1, 7 steps: {paper}"

    def _prepare(self, episode_length: int | None) -> None:
        super()._prepare(episode_length)
        shape = self.n_envs, self.action_dim
        self._state = np.zeros(shape)  # for sigma 1 around 0
        self._offset = np.zeros(shape)  # what is left of start - mean; its own state, for any sigma

    def reset(self, indices: Iterable[int] | None = None) -> None:
        envs = range(self.n_envs) if indices is None else indices
        for env in envs:
            if self.start == STATIONARY:
                self._state[env] = self._stationary_std * self._generators[env].standard_normal(self.action_dim)
            else:
                self._state[env] = 0
                self._offset[env] = np.subtract(self.start, self.mean)

    def _next(self) -> np.ndarray:
        self._state = self._keep * self._state + self._drive * self._white.next()
        return self._state

    def __call__(self) -> np.ndarray:
        noise = super().__call__()
        if self._offset.any():
            self._offset *= self._keep
            noise += self._offset
        return noise
