"""Running statistics of observations, returns and targets, kept inside the networks and saved with them."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_ddpg_ext.observations import parts_of
from sb3_ddpg_ext.validation import check_real

Buffer = Any  # a tensor, which mypy sees as Tensor or Module


class _Double(nn.Module):
    """A module whose buffers stay in float64 when the model is cast to another type."""

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            self._buffers[name] = buffer.to(self._buffers[name].device)  # type: ignore[union-attr]
        return self


class RunningMoments(_Double):
    """
    Mean and variance of all that was seen, by the parallel algorithm of Chan et al. (1979), in float64.

    :param shape: of one sample
    """

    mean: Buffer
    variance: Buffer
    count: Buffer

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.register_buffer("mean", th.zeros(shape, dtype=th.float64))
        self.register_buffer("variance", th.ones(shape, dtype=th.float64))
        self.register_buffer("count", th.zeros((), dtype=th.float64))

    def update(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        NumPy does it in a third of torch's time, on the buffers' own memory where that is the processor's.

        :param samples: of shape (n, \\*shape)
        :return: mean and variance
        """
        x, buffers = np.asarray(samples, dtype=np.float64), (self.mean, self.variance, self.count)
        mean, variance, count = arrays = [buffer.cpu().numpy() for buffer in buffers]
        n, before = len(x), float(count)
        share = n / (before + n)
        delta = (x[0] if n == 1 else x.mean(axis=0)) - mean
        own = 0.0 if n == 1 else x.var(axis=0)
        variance += share * (own - variance + delta * delta * (1 - share))
        mean += delta * share
        count += n
        if not self.mean.is_cpu:
            for buffer, array in zip(buffers, arrays, strict=True):
                buffer.copy_(th.from_numpy(array))
        return mean, variance


class ObservationNormaliser(nn.Module):
    """
    (x - mean) / std, with the mean and standard deviation of the observations met in training; the identity before there are
    any.

    It is applied to what comes from the replay buffer, which stays as it was, so old observations are seen with the present
    statistics.

    :param shape: of an observation
    :param clip: bound of the result, > 0
    :param min_std: least standard deviation that is divided by, > 0: a larger one keeps dimensions that nearly always
        are the same, such as contact forces or the height of goals on a table, from jumping to the bound; 0.01 in HER's DDPG
    """

    shift: Buffer
    factor: Buffer

    def __init__(self, shape: tuple[int, ...], clip: float = 10.0, min_std: float = 1e-4):
        super().__init__()
        self.clip = check_real("normalize_observations: clip", clip, low=0, above=True)
        self.min_std = check_real("normalize_observations: min_std", min_std, low=0, above=True)
        self.moments = RunningMoments(shape)
        self.register_buffer("shift", th.zeros(shape))
        self.register_buffer("factor", th.ones(shape))

    def update(self, observations: np.ndarray) -> None:
        """:param observations: of shape (n, \\*shape)"""
        mean, variance = self.moments.update(observations)
        self.shift.copy_(th.from_numpy(mean))
        self.factor.copy_(th.from_numpy(1 / np.maximum(np.sqrt(variance), self.min_std)))

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return ((observations - self.shift) * self.factor).clamp(-self.clip, self.clip)


class Normalised(BaseFeaturesExtractor):
    """
    A features extractor behind normalisation of its observations.

    :param extractor: of this network
    :param normaliser: shared by all networks; for ``Dict`` observations a ``ModuleDict`` with one for each entry that has one
    """

    def __init__(self, extractor: BaseFeaturesExtractor, normaliser: nn.Module):
        super().__init__(extractor._observation_space, extractor.features_dim)
        self.extractor = extractor
        self.normaliser = normaliser

    def forward(self, observations: Any) -> th.Tensor:
        return self.extractor(normalise(self.normaliser, observations))


def without_normaliser(extractor: nn.Module) -> tuple[nn.Module, Any]:
    """:return: what a features extractor is without the normaliser before it, and that, or None"""
    return (extractor.extractor, extractor.normaliser) if type(extractor) is Normalised else (extractor, None)


def normalise(normaliser: nn.Module, observations: Any) -> Any:
    """Observations (batch, *obs_shape), or a dict of such, of which the entries with a normaliser change."""
    of_entries = _by_key(normaliser)
    if of_entries is None:
        return normaliser(observations)
    return observations | {key: one(observations[key]) for key, one in of_entries.items()}


def _by_key(normaliser: nn.Module) -> nn.ModuleDict | None:
    """The normalisers of the entries of a dict; None where observations are none."""
    return normaliser if isinstance(normaliser, nn.ModuleDict) else None


def make_normaliser(space: spaces.Space, clip: float = 10.0, min_std: float = 1e-4) -> ObservationNormaliser | nn.ModuleDict:
    """
    :param space: of the observations
    :param clip: see :class:`ObservationNormaliser`
    :param min_std: the same
    :raises ValueError: if there is nothing in it to normalise
    """
    entries = {key: part for key, part in parts_of(space).items() if _is_numeric(part)}
    if not entries:
        raise ValueError(f"normalize_observations: {space} has no Box of numbers; images are scaled to [0, 1] already")
    made = {key: ObservationNormaliser(part.shape or (), clip, min_std) for key, part in entries.items()}
    return made[""] if "" in made else nn.ModuleDict(made)


def _is_numeric(space: spaces.Space) -> bool:
    return isinstance(space, spaces.Box) and not is_image_space(space)


def update_normaliser(normaliser: nn.Module, observations: np.ndarray | dict[str, np.ndarray]) -> None:
    """:param observations: of shape (n, \\*obs_shape), or a dict of such"""
    of_entries = _by_key(normaliser)
    for key, one in {"": normaliser}.items() if of_entries is None else of_entries.items():
        one.update(observations[key] if key else observations)  # type: ignore[operator]


class ReturnScaler(nn.Module):
    """
    Divides rewards so that returns have a standard deviation of 1 and do not leave [-bound, bound], without moving zero, Lee
    et al. (2025), "Hyperspherical Normalization for Scalable Deep Reinforcement Learning" (SimbaV2), section 4.3.

    The replay buffer keeps the rewards as they came; what is sampled is scaled by the present statistics.

    :param bound: of the scaled returns, > 0
    """

    largest: Buffer
    factor: Buffer

    def __init__(self, bound: float = 5.0):
        super().__init__()
        self.bound = check_real("scale_returns: bound", bound, low=0, above=True)
        self.moments = RunningMoments(())
        self.register_buffer("largest", th.zeros((), dtype=th.float64))
        self.register_buffer("factor", th.ones(()))
        self._returns = np.zeros(0)  # of the episodes that run, one for each environment

    def get_extra_state(self) -> th.Tensor:
        """The returns of the present episodes, which are saved for a training that goes on in the middle of them."""
        return th.from_numpy(self._returns.copy())

    def set_extra_state(self, state: th.Tensor) -> None:
        self._returns = state.numpy(force=True).copy()

    def begin_episodes(self, which: np.ndarray | None = None) -> None:
        """
        Take note that environments have been reset.

        :param which: (n_envs,), True for these; None for all
        """
        if which is None or len(self._returns) != len(which):
            self._returns = np.zeros(0)
        else:
            self._returns[which] = 0

    def update(self, rewards: np.ndarray, dones: np.ndarray, gamma: float) -> None:
        """
        :param rewards: one for each environment
        :param dones: whether its episode ended with it
        :param gamma: discount factor
        """
        if len(self._returns) != len(rewards):
            self._returns = np.zeros(len(rewards))
        self._returns = self._returns * gamma + rewards
        _, variance = self.moments.update(self._returns)
        largest = max(self.largest.item(), float(np.abs(self._returns).max()))
        self.largest.fill_(largest)
        self.factor.fill_(1 / max(math.sqrt(variance), largest / self.bound, 1e-8))
        self._returns[dones.astype(bool)] = 0

    def forward(self, rewards: th.Tensor) -> th.Tensor:
        return rewards * self.factor


class PopArt(_Double):
    """
    Outputs that are learnt on the scale of targets with mean 0 and standard deviation 1, and keep their value while that scale
    moves, van Hasselt et al. (2016), "Learning values across many orders of magnitude", section 2.

    With the statistics, the last layers are changed so that sigma * output + mu stays what it was (Algorithm 1). The
    optimiser's moments stay as they are.

    :param beta: share of each batch of targets in their moving mean and mean square, in (0, 1]
    """

    mean: Buffer
    mean_square: Buffer
    seen: Buffer

    def __init__(self, beta: float = 3e-4):
        super().__init__()
        self.beta = check_real("popart: beta", beta, low=0, high=1, above=True)
        self.register_buffer("mean", th.zeros((), dtype=th.float64))
        self.register_buffer("mean_square", th.ones((), dtype=th.float64))
        self.register_buffer("seen", th.zeros((), dtype=th.float64))  # weight of n batches: 1 - (1 - beta)^n
        self._layers: tuple[nn.Linear, ...] = ()

    def preserve(self, layers: Iterable[nn.Linear]) -> None:
        """:param layers: the last layers, of targets too, whose outputs are on this scale"""
        self._layers = tuple(layers)  # not children: they belong to the critics

    @property
    def sigma(self) -> th.Tensor:
        return (self.mean_square - self.mean.square()).clamp(min=1e-8).sqrt()

    def forward(self, outputs: th.Tensor) -> th.Tensor:
        """From the networks' scale to that of returns."""
        return outputs * self.sigma.to(outputs.dtype) + self.mean.to(outputs.dtype)

    def normalise(self, targets: th.Tensor) -> th.Tensor:
        """From the scale of returns to the networks'."""
        return (targets - self.mean.to(targets.dtype)) / self.sigma.to(targets.dtype)

    @th.no_grad()
    def update(self, targets: th.Tensor) -> None:
        """
        :param targets: a batch of them, on the scale of returns
        """
        old_mean, old_sigma = self.mean.clone(), self.sigma
        targets = targets.to(self.mean.dtype)
        self.seen += self.beta * (1 - self.seen)
        step = self.beta / self.seen  # 1 for the first batch: the beginning has no weight
        self.mean += step * (targets.mean() - self.mean)
        self.mean_square += step * (targets.square().mean() - self.mean_square)
        sigma = self.sigma
        for layer in self._layers:
            layer.weight.mul_((old_sigma / sigma).to(layer.weight.dtype))
            layer.bias.copy_((old_sigma * layer.bias + old_mean - self.mean) / sigma)
