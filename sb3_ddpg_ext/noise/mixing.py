"""Noise that is made of several kinds."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sb3_ddpg_ext.noise.base import NOISES, Blocks, Noise, Scheduled, applied
from sb3_ddpg_ext.schedules import check_scheduled, evaluate
from sb3_ddpg_ext.validation import check_instance


@NOISES.register("epsilon")
class UniformMixing(Noise):
    """
    Replaces an action by a uniform random one now and then, in each environment by its own chance, as Andrychowicz et al.
    (2017), Hindsight Experience Replay, appendix A, do.

    :param epsilon: probability, in [0, 1], or a schedule of it
    """

    _stream_key = 1
    comes_last = True

    def __init__(self, epsilon: Scheduled = 0.1):
        super().__init__()
        self.epsilon = check_scheduled("epsilon", epsilon, high=1)

    def seed(self, seed: int | None) -> None:
        super().seed(seed)
        self._uniform = Blocks(self._generators, "random", 1 + self.action_dim)

    def set_progress(self, progress_remaining: float, num_timesteps: int) -> None:
        epsilon, name = self.epsilon, "action_noise: epsilon"
        self._epsilon = evaluate(epsilon, progress_remaining, num_timesteps, 1, name) if callable(epsilon) else epsilon

    def apply(self, actions: np.ndarray) -> np.ndarray:
        self._check_is_prepared()
        drawn = self._uniform.next()
        is_random = drawn[:, :1] < self._epsilon
        return np.where(is_random, (2 * drawn[:, 1:] - 1).astype(np.float32), actions)

    def statistics(self) -> dict[str, float]:
        return {"epsilon": self._epsilon}


class CombinedNoise(Noise):
    """
    Several kinds of noise, one after the other: a perturbed actor's action, what is added to it, random actions in its place.

    :param parts: noises, at most one of them of the actor's parameters and one :class:`UniformMixing`
    """

    def __init__(self, parts: Sequence[Noise]):
        super().__init__()
        for part in parts:
            check_instance("action_noise: a part", part, Noise, "a noise of sb3_ddpg_ext.noise")
        parts = [one for part in parts for one in part.members]
        if not parts:
            raise ValueError(f"action_noise={parts!r} must have one part or more")
        of_parameters = [part for part in parts if part.parameter_noise is not None]
        if len(of_parameters) > 1 or sum(part.comes_last for part in parts) > 1:
            raise ValueError(f"action_noise={parts!r} must have at most one noise of the parameters, and one UniformMixing")
        if len(set(map(id, parts))) < len(parts):
            raise ValueError(f"action_noise={parts!r} must not hold one object twice: it would go two steps at once")
        self.parts: list[Noise] = sorted(parts, key=lambda part: part.comes_last)
        self.parameter_noise = of_parameters[0].parameter_noise if of_parameters else None
        self.wants_episode_length = any(part.wants_episode_length for part in parts)

    @property
    def members(self) -> list[Noise]:
        return self.parts

    def prepare(self, action_dim: int, n_envs: int = 1, seed: int | None = None, episode_length: int | None = None) -> Noise:
        for key, part in enumerate(self.parts):
            part._stream_key = key
            part.prepare(action_dim, n_envs, seed, episode_length)  # for an unknown seed each draws its own
        self.action_dim, self.n_envs = action_dim, n_envs
        return self

    def move_to(self, n_envs: int, seed: int | None = None, episode_length: int | None = None) -> Noise:
        for part in self.parts:
            part.move_to(n_envs, seed, episode_length)
        self.n_envs = n_envs
        return self

    def seed(self, seed: int | None) -> None:
        for part in self.parts:
            part.seed(seed)

    def reset(self, indices: Iterable[int] | None = None) -> None:
        indices = indices if indices is None else list(indices)
        for part in self.parts:
            part.reset(indices)

    def set_progress(self, progress_remaining: float, num_timesteps: int) -> None:
        for part in self.parts:
            part.set_progress(progress_remaining, num_timesteps)

    def __call__(self) -> np.ndarray:
        """The sum of the parts, where all of them are added to the actions."""
        if not all(part.is_added for part in self.parts):
            return super().__call__()
        return np.sum([part() for part in self.parts], axis=0)

    def apply(self, actions: np.ndarray) -> np.ndarray:
        for part in self.parts:
            actions = applied(part, actions)
        return actions

    def statistics(self) -> dict[str, float]:
        statistics: dict[str, float] = {}
        for i, part in enumerate(self.parts):
            for name, value in part.statistics().items():
                statistics[name if name not in statistics else f"{name}_{i}"] = value
        return statistics

    def adapted(self) -> dict[str, Any]:
        return {str(i): part.adapted() for i, part in enumerate(self.parts)}

    def take_over(self, adapted: dict[str, Any]) -> None:
        for i, part in enumerate(self.parts):
            part.take_over(adapted[str(i)])
