"""What travels from the replay buffer to the learner."""

from functools import lru_cache
from typing import NamedTuple

import torch as th
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, PyTorchObs, ReplayBufferSamples


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

    @classmethod
    def from_samples(cls, samples: ReplayBufferSamples | DictReplayBufferSamples, gamma: float) -> "Batch":
        """
        :param samples: what a Stable-Baselines3 replay buffer returns from ``sample``
        :param gamma: the discount of one step, used where the buffer gives no ``discounts`` of its own
        """
        discounts = samples.discounts
        if discounts is None:
            discounts = _constant(gamma, samples.rewards.shape, samples.rewards.dtype, samples.rewards.device)
        return cls(samples.observations, samples.actions, samples.next_observations, samples.dones, samples.rewards, discounts)


@lru_cache(maxsize=8)
def _constant(value: float, shape: th.Size, dtype: th.dtype, device: th.device) -> th.Tensor:
    """A tensor that is made once, and never written to."""
    return th.full(shape, value, dtype=dtype, device=device)
