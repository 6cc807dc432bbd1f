"""Whether an exported actor acts as its model does."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_ddpg_ext.export.source import Part, Source
from sb3_ddpg_ext.networks import ObservationNormaliser
from sb3_ddpg_ext.observations import each, first
from sb3_ddpg_ext.runtime import Actor

TOLERANCE = 1e-5  # of an action on the [-1, 1] scale
N_TOGETHER, N_SINGLE = 50, 10  # observations in one call, and calls with one
LARGEST = 1e3  # a wider range of a space is no range of its observations
START = 0.05  # share of steps at which an episode is said to begin
LONGEST = 10_000  # steps of an episode


class ParityError(RuntimeError):
    """An exported actor that acts otherwise than its model."""


class Parity:
    """
    Compares actions, in parts of half the range between the bounds.

    :param source: with the model
    :param actor: the exported one
    """

    def __init__(self, source: Source, actor: Actor):
        self.source, self.actor = source, actor
        space = source.action_space
        self.unit = 0.5 * (space.high.astype(np.float64) - space.low)

    def of_observations(self, n: int, seed: int) -> float:
        """
        :param n: number of observations, drawn from the spaces; those of a recurrent actor are steps of histories
        :param seed: of the draw
        :return: the largest difference; NaN if an action is not finite
        """
        rng = np.random.default_rng(seed)
        batches = list(sampled(self.source, n, rng))
        if self.source.has_memory:
            return self._along(batches, rng)
        differences = [self._difference(self.source.predict(batch)[0], self.actor.predict(batch)[0]) for batch in batches]
        for i in range(N_SINGLE):
            one = each(lambda part, i=i: part[i % len(part)], batches[0])
            alone = each(lambda part, i=i: part[i % len(part)][None], batches[0])
            differences.append(self._difference(self.source.predict(alone)[0][0], self.actor.predict(one)[0]))
        return float(np.max(differences))

    def _along(self, batches: list[Any], rng: np.random.Generator) -> float:
        """Histories side by side, in which each batch is a step; each of the two actors has its own states."""
        mine, own = None, None
        differences: list[float] = []
        for step, batch in enumerate(batches):
            n = len(first(batch))
            starts = np.ones(n, bool) if step == 0 else rng.random(n) < START
            rewards = rng.normal(size=n).astype(np.float32) if self.source.takes_reward else None
            expected, own = self.source.predict(batch, own, starts, rewards)
            actions, mine = self.actor.predict(batch, mine, starts, previous_reward=rewards)
            differences.append(self._difference(expected, actions))
        return float(np.max(differences))

    def of_episode(self) -> tuple[float, int]:
        """
        Act in the environment by the model, and ask the exported actor for each observation, too.

        :return: the largest difference, and the number of steps
        """
        env: Any = self.source.env
        observations, starts = env.reset(), np.ones(env.num_envs, bool)
        differences: list[float] = []
        mine, own, rewards = None, None, np.zeros(env.num_envs, np.float32)
        while len(differences) < LONGEST:
            reward = rewards if self.source.takes_reward else None
            expected, own = self.source.predict(observations, own, starts, reward)
            actions, mine = self.actor.predict(observations, mine, starts, previous_reward=reward)
            differences.append(self._difference(expected, actions))
            observations, rewards, starts, _ = env.step(expected)
            if starts[0]:
                break
        return float(np.max(differences)), len(differences)

    def _difference(self, expected: np.ndarray, actions: np.ndarray) -> float:
        if np.shape(actions) != np.shape(expected):
            raise ParityError(f"actions have the shape {np.shape(actions)}, the model's {np.shape(expected)}")
        return float(np.max(np.abs(expected.astype(np.float64) - actions) / self.unit))


def sampled(source: Source, n: int, rng: np.random.Generator) -> Iterator[Any]:
    """
    Observations as the environment may give them, some at a time.

    :param source: with the spaces
    :param n: their number, rounded up
    :param rng: what draws them
    """
    for _ in range(-(-n // N_TOGETHER)):
        parts = {part.key: sample(part, source, rng) for part in source.parts}
        yield parts.get(None, parts)


def sample(part: Part, source: Source, rng: np.random.Generator) -> np.ndarray:
    """
    :return: several observations of one part: between its bounds where these say how large they are, else around the mean
        that was met in training
    """
    raw = part.raw
    if not isinstance(raw, spaces.Box):
        raw.seed(int(rng.integers(2**31)))
        return np.stack([np.asarray(raw.sample()) for _ in range(N_TOGETHER)])
    shape = (N_TOGETHER, *raw.shape)
    if np.issubdtype(raw.dtype, np.integer):
        return rng.integers(raw.low, raw.high, shape, dtype=raw.dtype, endpoint=True)
    mean, std = moments_of(part, source)
    with np.errstate(over="ignore", invalid="ignore"):
        bounded = np.isfinite(raw.low) & np.isfinite(raw.high) & (raw.high - raw.low <= 2 * LARGEST)
    low, high = np.where(bounded, raw.low, 0.0), np.where(bounded, raw.high, 1.0)
    drawn = np.where(bounded, rng.uniform(low, high, shape), mean + std * rng.normal(size=shape))
    return np.clip(drawn, raw.low, raw.high).astype(raw.dtype)


def moments_of(part: Part, source: Source) -> tuple[Any, Any]:
    """Mean and standard deviation of an observation in training, where something has kept them; else 0 and 1."""
    if part.statistics is not None:
        return part.statistics.mean, part.statistics.std
    normaliser: Any = getattr(source.model.policy, "normaliser", None)
    own = normaliser if part.key is None or normaliser is None else dict(normaliser.named_children()).get(part.key)
    if not isinstance(own, ObservationNormaliser):
        return 0.0, 1.0
    moments = own.moments
    return moments.mean.cpu().numpy(), moments.variance.sqrt().cpu().numpy()
