"""What all exploration noise has in common: environments, random streams, schedules."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from stable_baselines3.common.noise import ActionNoise

from sb3_ddpg_ext.kinds import Kinds
from sb3_ddpg_ext.schedules import check_schedule, check_scheduled, evaluate, number_or_schedule
from sb3_ddpg_ext.validation import check_integer, check_real

Scheduled = float | Callable[..., float]  # a number, a Schedule, or a function of the progress remaining


class PerturbedActor(Protocol):
    """A noise that acts by an actor of its own; see :class:`~sb3_ddpg_ext.noise.parameter.ParameterNoise`."""

    def act(self, policy: Any, observations: Any) -> np.ndarray:
        """From observations, one for each environment, to actions of shape (n_envs, action_dim) on the [-1, 1] scale."""

    def after_update(self, n_updates: int, policy: Any, observations: Any) -> None:
        """Take note of an update, the ``n_updates``-th, on a batch with these observations."""


class Noise(ActionNoise):
    """
    Exploration noise for several environments at once, on the [-1, 1] scale of the actions.

    Each environment has its own process and its own random stream, so that what happens in one does not depend on how many
    there are. :class:`sb3_ddpg_ext.DDPG` prepares a copy for its environments and its seed, tells it how far the training is,
    and saves it with the model: processes, streams and all.

    What the constructor keeps in a name without an underscore in front is something that it was given, such as ``sigma``. By
    these a training that goes on from a checkpoint knows a noise again that it is given once more. What changes from step to
    step belongs into names such as ``_state``, or comes later, in ``_prepare``. A noise with other public attributes counts as
    another one, and begins anew.
    """

    action_dim: int
    n_envs: int = 0  # until it is prepared
    parameter_noise: PerturbedActor | None = None
    wants_episode_length: bool = False
    is_added: bool = False  # whether it is a process that is added to the actions
    comes_last: bool = False  # among several
    remark: str = ""  # for the log at verbose 1: what a user may not expect of it
    _stream_key = 0  # noises with the same seed and different keys draw different numbers
    _first_env = 0  # the number of the first environment, where others are elsewhere
    _hidden: tuple[str, ...] = ("action_dim", "n_envs", "parameter_noise", "wants_episode_length")  # from its repr

    @property
    def members(self) -> list["Noise"]:
        """The noises that it is made of: itself, where it is not several."""
        return [self]

    def prepare(self, action_dim: int, n_envs: int = 1, seed: int | None = None, episode_length: int | None = None) -> "Noise":
        """
        Begin, with new random streams.

        :param action_dim: dimensions of an action
        :param n_envs: number of environments
        :param seed: of the random streams; None for fresh ones
        :param episode_length: longest possible episode, in steps, where it is known
        :return: itself
        """
        n_envs, action_dim = check_integer("n_envs", n_envs, 1), check_integer("action_dim", action_dim, 1)
        self._check_dimensions(action_dim)
        self.action_dim, self.n_envs = action_dim, n_envs
        self.seed(seed)
        self._prepare(episode_length)
        self.set_progress(1.0, 0)
        self.reset()
        return self

    def move_to(self, n_envs: int, seed: int | None = None, episode_length: int | None = None) -> "Noise":
        """As :meth:`prepare`, for other environments of the same training: what it has adapted to stays."""
        return self.prepare(self.action_dim, n_envs, seed, episode_length)

    def seed(self, seed: int | None) -> None:
        """Begin new random streams, one for each environment."""
        self._check_is_prepared()
        if seed is not None:
            check_integer("seed", seed, at_least=0)
        entropy = np.random.SeedSequence(seed).entropy  # of the operating system where seed is None
        self._generators = [
            np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(self._stream_key, self._first_env + env)))
            for env in range(self.n_envs)
        ]

    def begin_at(self, first_env: int) -> None:
        """
        Draw, from the next :meth:`prepare` on, what a noise for all environments draws for some of them.

        :param first_env: the number of the first of them
        """
        for member in self.members:
            member._first_env = first_env

    def adapted(self) -> dict[str, Any]:
        """What it has adapted to the updates, for :meth:`take_over` by noises that act elsewhere; most do not adapt."""
        return {}

    def take_over(self, adapted: dict[str, Any]) -> None:
        """:param adapted: of a noise of the same kind"""

    def _check_dimensions(self, action_dim: int) -> None:
        """Check what was given for each dimension of the action."""

    def _prepare(self, episode_length: int | None) -> None:
        """Make the state."""

    def _check_is_prepared(self) -> None:
        if self.n_envs == 0:
            raise ValueError(f"{self!r} has no dimensions yet: call prepare(action_dim, n_envs, seed), as DDPG does")

    def reset(self, indices: Iterable[int] | None = None) -> None:
        """
        Begin a new episode.

        :param indices: the environments that do; None for all
        """

    def set_progress(self, progress_remaining: float, num_timesteps: int) -> None:
        """
        Set the values of the schedules.

        :param progress_remaining: 1 at the beginning of the training, 0 at its end
        :param num_timesteps: environment steps so far
        """

    @abstractmethod
    def apply(self, actions: np.ndarray) -> np.ndarray:
        """
        :param actions: of the policy, on the [-1, 1] scale, of shape (n_envs, action_dim)
        :return: noisy actions of the same shape, which may leave [-1, 1]
        """

    def statistics(self) -> dict[str, float]:
        """What is to be seen in the log."""
        return {}

    def __call__(self) -> np.ndarray:
        raise TypeError(f"{type(self).__name__} is not added to the actions; only sb3_ddpg_ext.DDPG can use it")

    def shown_attributes(self) -> dict[str, str]:
        """The attributes without an underscore in front, as they are shown."""
        return {name: repr(value) for name, value in vars(self).items() if name[0] != "_" and name not in self._hidden}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={shown}' for name, shown in self.shown_attributes().items())})"


NOISES: Kinds[Noise] = Kinds(
    'None or "KIND_NUMBER" such as "normal_0.1", "KIND_SCHEDULE" such as "normal_lin_0.5_0.05", several of them with commas '
    "between, a dict(kind=..., ...) with the arguments of its class, or a noise of sb3_ddpg_ext.noise, alone also an "
    "ActionNoise of Stable-Baselines3",
    accepts=lambda spec: isinstance(spec, Noise),
    read=lambda text: [number_or_schedule("the number", text or "")],
    readers=dict.fromkeys(("sigma", "scale", "epsilon", "target"), number_or_schedule),
    reserved=("none",),
    synonyms={
        "gaussian": "normal", "white": "normal", "ornstein-uhlenbeck": "ou", "brown": "red", "parameter": "param",
        "adaptive": "adaptive-param", "uniform": "epsilon",
    },
)  # fmt: skip


def applied(noise: Noise, actions: np.ndarray) -> np.ndarray:
    """
    What ``noise.apply`` gives.

    :raises ValueError: if it is not of the shape of the actions
    """
    noisy = noise.apply(actions)
    if getattr(noisy, "shape", None) != actions.shape:
        given = f"action_noise={noise!r}: {type(noise).__name__}.apply"
        raise ValueError(f"{given} gave the shape {np.shape(noisy)}; it must be an array of the actions' {actions.shape}")
    return noisy


class AdditiveNoise(Noise):
    """
    A random process that is added to the actions.

    :param sigma: scale of the noise, >= 0: a number, one for each dimension of the action, or a schedule
    :param mean: mean of the noise: a number or one for each dimension
    :param scale: a factor on ``sigma``, >= 0, for a schedule where ``sigma`` differs between dimensions
    """

    is_added = True
    _of_each_dimension: tuple[str, ...] = ("sigma", "mean")
    _given: tuple[Any, Any, Any] = (None, None, None)  # what the present values were made of

    def __init__(self, sigma: Scheduled | Sequence[float], mean: float | Sequence[float] = 0.0, scale: Scheduled = 1.0):
        super().__init__()
        self.sigma = check_schedule("sigma", sigma) if callable(sigma) else check_numbers("sigma", sigma, low=0)
        self.mean = check_numbers("mean", mean)
        self.scale = check_scheduled("scale", scale)

    def _check_dimensions(self, action_dim: int) -> None:
        for name in self._of_each_dimension:
            value = getattr(self, name)
            if isinstance(value, list) and len(value) != action_dim:
                raise ValueError(
                    f"action_noise: {name}={value!r} has {len(value)} dimensions; it must have the action's {action_dim}"
                )

    def seed(self, seed: int | None) -> None:
        super().seed(seed)
        self._white = Blocks(self._generators, "standard_normal", self.action_dim)

    def set_progress(self, progress_remaining: float, num_timesteps: int) -> None:
        given = self.sigma, self.scale, self.mean
        if callable(self.sigma) or callable(self.scale) or any(a is not b for a, b in zip(given, self._given, strict=True)):
            sigma, scale = (
                evaluate(value, progress_remaining, num_timesteps, name=f"action_noise: {name}")
                if callable(value)
                else np.asarray(value)
                for name, value in (("sigma", self.sigma), ("scale", self.scale))
            )
            self._sigma = np.multiply(sigma, scale)
            self._mean = None if not np.any(self.mean) else np.asarray(self.mean)
            self._given = given

    @abstractmethod
    def _next(self) -> np.ndarray:
        """The process one step on, for ``sigma`` 1 and ``mean`` 0, of shape (n_envs, action_dim)."""

    def __call__(self) -> np.ndarray:
        """The noise of the next step, of shape (n_envs, action_dim)."""
        self._check_is_prepared()
        noise = self._next() * self._sigma
        return (noise if self._mean is None else noise + self._mean).astype(np.float32)

    def apply(self, actions: np.ndarray) -> np.ndarray:
        return actions + self()

    def statistics(self) -> dict[str, float]:
        return {"sigma": float(np.mean(self._sigma))}


class Blocks:
    """
    Random numbers of several streams, step by step, drawn many steps at a time.

    :param generators: one for each environment
    :param draw: the generator's method
    :param dim: numbers for each environment and step
    """

    STEPS = 64

    def __init__(self, generators: list[np.random.Generator], draw: Literal["standard_normal", "random"], dim: int):
        self._generators, self._draw, self._dim = generators, draw, dim
        self._block, self._step = np.empty((0, len(generators), dim)), 0

    def next(self) -> np.ndarray:
        """The next numbers, of shape (number of environments, dim)."""
        if self._step == len(self._block):
            drawn = [getattr(generator, self._draw)((self.STEPS, self._dim)) for generator in self._generators]
            self._block, self._step = np.stack(drawn, axis=1), 0
        self._step += 1
        return self._block[self._step - 1]


def check_numbers(name: str, value: Any, low: float = -np.inf) -> float | list[float]:
    """Return a number, or a list of numbers, one for each dimension, as floats."""
    value = getattr(value, "tolist", lambda: value)()  # of an array
    if isinstance(value, list | tuple):
        return [check_real(f"{name}[{i}]", number, low) for i, number in enumerate(value)]
    return check_real(name, value, low)
