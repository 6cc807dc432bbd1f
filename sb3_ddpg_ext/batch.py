"""What travels from the replay buffer to the learner."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, PyTorchObs, ReplayBufferSamples


class Samples(NamedTuple):
    """What our replay buffers return: the fields of SB3's ``ReplayBufferSamples``, and those of prioritised replay."""

    observations: PyTorchObs
    actions: th.Tensor
    next_observations: PyTorchObs
    dones: th.Tensor
    rewards: th.Tensor
    discounts: th.Tensor | None = None  # of returns of several steps
    weights: th.Tensor | None = None  # (batch, 1), of the losses
    indices: np.ndarray | None = None  # (batch,), where the replay buffer wants to know the critic's errors
    n_demonstrations: int = 0  # so many of the last ones are from demonstrations

    def behind(self, others: "Samples | None", n_rows: int) -> "Samples":
        """
        Demonstrations, and before them others.

        :param others: with the same fields, or None
        :param n_rows: added to the indices of demonstrations, which those of others are less than
        """
        n, indices = len(self.rewards), None if self.indices is None else self.indices + n_rows
        mine = self._replace(indices=indices, n_demonstrations=n)
        if others is None:
            return mine
        parts = zip(others[:-1], mine[:-1], strict=True)
        fields: list[Any] = [None if other is None else _cat(other, own) for other, own in parts]
        fields.append(n)
        return Samples(*fields)


class Batch(NamedTuple):
    """
    A minibatch of transitions.

    ``dones`` is 1 only for true terminations: a time limit bootstraps. ``discounts`` is gamma to the number of steps really
    taken, so one-step and n-step replay look alike to the learner.
    """

    observations: PyTorchObs  # (batch, *obs_shape)
    actions: th.Tensor  # (batch, action_dim), scaled to [-1, 1]
    next_observations: PyTorchObs  # (batch, *obs_shape)
    dones: th.Tensor  # (batch, 1)
    rewards: th.Tensor  # (batch, 1)
    discounts: th.Tensor  # (batch, 1)
    weights: th.Tensor | None = None  # (batch, 1), of each transition's loss; None for 1
    indices: np.ndarray | None = None  # (batch,), whose errors the replay buffer asks for
    n_demonstrations: int = 0  # so many of the last ones are from demonstrations

    @classmethod
    def from_samples(cls, samples: Samples | ReplayBufferSamples | DictReplayBufferSamples, gamma: float) -> "Batch":
        """
        :param samples: what a replay buffer, of Stable-Baselines3 too, returns from ``sample``
        :param gamma: the discount of one step, used where the buffer gives no ``discounts`` of its own
        """
        discounts = samples.discounts
        if discounts is None:
            discounts = _constant(gamma, samples.rewards.shape, samples.rewards.dtype, samples.rewards.device)
        further = samples[6:] if isinstance(samples, Samples) else ()
        return cls(
            samples.observations, samples.actions, samples.next_observations, samples.dones, samples.rewards, discounts,
            *further,
        )  # fmt: skip


def _cat(own: Any, other: Any) -> Any:
    """Tensors, those of a dict, or arrays, one behind the other."""
    if isinstance(own, np.ndarray):
        return np.concatenate([own, other])
    return {key: th.cat([own[key], other[key]]) for key in own} if isinstance(own, dict) else th.cat([own, other])


@lru_cache(maxsize=8)
def _constant(value: float, shape: th.Size, dtype: th.dtype, device: th.device) -> th.Tensor:
    """A tensor that is made once, and never written to."""
    return th.full(shape, value, dtype=dtype, device=device)
