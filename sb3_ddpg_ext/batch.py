"""What travels from the replay buffer to the learner: transitions, or sequences of them."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, PyTorchObs, ReplayBufferSamples

from sb3_ddpg_ext.observations import each


class Batch(NamedTuple):
    """
    A minibatch of transitions.

    ``dones`` is 1 only for true terminations: a time limit bootstraps. ``discounts`` is gamma to the number of steps really
    taken, so one-step and n-step replay look alike to the learner.
    """

    observations: PyTorchObs  # (batch, *obs_shape), or a dict of such
    actions: th.Tensor  # (batch, action_dim), scaled to [-1, 1]
    next_observations: PyTorchObs  # as observations
    dones: th.Tensor  # (batch, 1)
    rewards: th.Tensor  # (batch, 1)
    discounts: th.Tensor  # (batch, 1)
    weights: th.Tensor | None = None  # (batch, 1), of each transition's loss; None for 1
    indices: np.ndarray | None = None  # (batch,), whose errors the replay buffer asks for
    n_demonstrations: int = 0  # so many of the last ones are from demonstrations

    @classmethod
    def from_samples(cls, samples: ReplayBufferSamples | DictReplayBufferSamples, gamma: float) -> "Batch":
        """
        :param samples: what a replay buffer of Stable-Baselines3, or of a user, returns from ``sample``; ``weights`` and
            ``indices`` may be among its fields
        :param gamma: the discount of one step, used where the buffer gives no ``discounts`` of its own
        :raises ValueError: for rewards and the like that are not columns, of which each would be combined with all others
        """
        discounts = getattr(samples, "discounts", None)
        batch = cls(
            samples.observations, samples.actions, samples.next_observations, samples.dones, samples.rewards,
            constant(gamma, samples.rewards) if discounts is None else discounts,
            getattr(samples, "weights", None), getattr(samples, "indices", None),
        )  # fmt: skip
        batch.check_columns()
        return batch

    def check_columns(self) -> None:
        """:raises ValueError: if rewards, dones, discounts or weights are not of shape (batch, 1)"""
        expected = len(self.actions), 1
        for name in ("rewards", "dones", "discounts", "weights"):
            column = getattr(self, name)
            if column is not None and column.shape != expected:
                raise ValueError(f"the replay buffer's samples have {name} of the shape {tuple(column.shape)}, not {expected}")

    def with_demonstrations(self, demonstrations: "Batch", n_rows: int) -> "Batch":
        """
        :param demonstrations: with the same fields, put behind these transitions
        :param n_rows: added to their indices, so that they differ from those of these transitions
        """
        its = demonstrations.as_demonstrations(n_rows)
        fields: list[Any] = [None if a is None else _cat(a, b) for a, b in zip(self[:-1], its[:-1], strict=True)]
        return Batch._make([*fields, its.n_demonstrations])

    def as_demonstrations(self, n_rows: int) -> "Batch":
        """
        :param n_rows: as in :meth:`with_demonstrations`
        :return: the same transitions, all of them demonstrations
        """
        indices = None if self.indices is None else self.indices + n_rows
        return self._replace(indices=indices, n_demonstrations=len(self.rewards))


class Prefix(NamedTuple):
    """Up to B steps before each sequence, aligned at their ends."""

    observations: Any  # (B, n, *obs_shape), or a dict of such
    previous_actions: th.Tensor  # (B, n, action_dim)
    previous_rewards: th.Tensor  # (B, n, 1)
    inside: th.Tensor  # (B, n), whether the step is there


class Sequences(NamedTuple):
    """
    A minibatch of n sequences of at most T steps, and the observation after the last of each.

    What is behind the end of a shorter one repeats its last observation. ``rewards``, ``dones`` and ``discounts`` are of
    n-step windows that begin at each step, ``follows`` is the index of the observation behind each window.
    """

    observations: Any  # (T + 1, n, *obs_shape), or a dict of such
    previous_actions: th.Tensor  # (T + 1, n, action_dim), 0 at the beginning of an episode
    previous_rewards: th.Tensor  # (T + 1, n, 1), likewise
    actions: th.Tensor  # (T, n, action_dim)
    rewards: th.Tensor  # (T, n, 1)
    dones: th.Tensor  # (T, n, 1)
    discounts: th.Tensor  # (T, n, 1)
    follows: th.Tensor  # (T, n)
    mask: th.Tensor  # (T, n), whether the step belongs to its sequence
    prefix: Prefix | None  # to warm up the state
    states: th.Tensor | None  # (n, state_size), those at the beginning, of the prefix where there is one; None for zeros
    weights: th.Tensor | None = None  # (n, 1)
    indices: np.ndarray | None = None  # the first row of its sequence for each step of the mask


def constant(value: float, like: th.Tensor) -> th.Tensor:
    """
    :param value: of all elements
    :param like: a tensor of the same shape, type and device
    :return: a tensor that is made once, and must not be written to
    """
    return _constant(value, like.shape, like.dtype, like.device)


@lru_cache(maxsize=8)
def _constant(value: float, shape: th.Size, dtype: th.dtype, device: th.device) -> th.Tensor:
    return th.full(shape, value, dtype=dtype, device=device)


def _cat(own: Any, other: Any) -> Any:
    """Tensors, those of a dict, or arrays, one behind the other."""
    return each(lambda a, b: np.concatenate([a, b]) if isinstance(a, np.ndarray) else th.cat([a, b]), own, other)
