"""From rows of a storage to batches: gathered, relabelled, normalised, summed over several steps, moved to a device."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.vec_env import VecNormalize

from sb3_ddpg_ext.batch import Batch, constant
from sb3_ddpg_ext.buffers.column import Column
from sb3_ddpg_ext.buffers.storage import Storage

Relabel = Callable[[np.ndarray, dict[str, th.Tensor], th.Tensor], None]


class BatchMaker:
    """
    Makes batches of the transitions in a storage.

    :param storage: where the transitions are
    :param device: where the batches go
    :param pin_memory: hand batches to a GPU through page-locked memory, without waiting for the copy
    """

    def __init__(self, storage: Storage, device: th.device, pin_memory: bool):
        self.storage, self.device = storage, device
        self.pin_memory = pin_memory and device.type == "cuda" and storage.device.type == "cpu"

    def transitions(
        self, rows: np.ndarray, n_steps: int, gamma: float, env: VecNormalize | None = None, relabel: Relabel | None = None
    ) -> Batch:
        """
        :param rows: of the first steps, of shape (n,)
        :param n_steps: largest number of rewards in a return
        :param gamma: discount factor of these
        :param env: normalises observations and rewards with its present statistics
        :param relabel: changes, in place and before they are normalised, what was gathered: it is given the rows of all
            steps (n_steps, n), the observations by key (2 n, ...), first those before and then those after, and actions,
            rewards and dones (n_steps * n, action_dim + 2)
        """
        storage, n = self.storage, len(rows)
        if n_steps == 1 and env is None and relabel is None and (column := self._only_column()) is not None:
            return self._of_arrays(rows, gamma, column)
        steps, inside = self._windows(rows, n_steps)
        rest = storage.rest.gather(steps.reshape(-1))
        observations = storage.obs.gather(np.concatenate((rows, storage.follows.take(steps[-1]))))
        if relabel is not None:
            relabel(steps, observations, rest)
        observations = self._as_float32(observations) if env is None else self.normalized(observations, env)
        if env is not None:
            rest = self.with_normalized_rewards(rest, env)
        if n_steps > 1:
            powers = gamma ** np.arange(n_steps + 1, dtype=np.float32)
            factors = th.from_numpy(powers[:n_steps, None] * inside).to(rest.device)
            returns = (rest[:, -2].view(n_steps, n) * factors).sum(dim=0)
            dones = rest[-n:, -1]  # of the last step of each window, which its row is repeated to fill
            rest = th.cat((rest[:n, :-2], returns[:, None], dones[:, None]), dim=1)
            discounts = th.as_tensor(powers[inside.sum(axis=0)][:, None], device=self.device)
        actions, rewards, dones = self.to_device(rest).split((rest.shape[1] - 2, 1, 1), dim=1)
        if n_steps == 1:
            discounts = constant(gamma, rewards)
        observations = {key: self.to_device(obs) for key, obs in observations.items()}
        before, after = ({key: obs[half] for key, obs in observations.items()} for half in (slice(n), slice(n, None)))
        return Batch(self.unkeyed(before), actions, self.unkeyed(after), dones, rewards, discounts)

    def _only_column(self) -> Column | None:
        """That of the observations, where nothing is to be done to them but to gather them."""
        obs = self.storage.obs
        is_plain = not obs.is_dict and not obs.keep_float64 and self.device.type == "cpu" == self.storage.device.type
        return column if is_plain and type(column := obs.columns[""]) is Column else None

    def _of_arrays(self, rows: np.ndarray, gamma: float, column: Column) -> Batch:
        """The batch of :meth:`transitions` in the simplest case, in the fewest calls."""
        n, of = len(rows), th.from_numpy
        observations = column.view.take(np.concatenate((rows, self.storage.follows.take(rows))), axis=0)  # type: ignore[union-attr]
        rest = self.storage.rest.view.take(rows, axis=0)  # type: ignore[union-attr]
        rewards = of(rest[:, -2:-1])
        before, after, actions, dones = of(observations[:n]), of(observations[n:]), of(rest[:, :-2]), of(rest[:, -1:])
        return Batch(before, actions, after, dones, rewards, constant(gamma, rewards))

    def _windows(self, rows: np.ndarray, n_steps: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the steps from each of ``rows`` on, and whether they belong to its return: two arrays (n_steps, n)."""
        follows_of, n_rows = self.storage.follows, self.storage.n_rows
        steps = np.empty((n_steps, len(rows)), np.int64)
        inside = np.ones(steps.shape, bool)
        steps[0] = rows
        for i in range(1, n_steps):
            follows = follows_of.take(steps[i - 1])
            np.less(follows, n_rows, out=inside[i])  # else it is no transition's observation
            steps[i] = np.where(inside[i], follows, steps[i - 1])
        return steps, inside

    def _as_float32(self, observations: dict[str, th.Tensor]) -> dict[str, th.Tensor]:
        """Round the entries that are stored with 64 bits, unless all are, for ``VecNormalize``."""
        exact = self.storage.obs.keep_float64
        if not exact or exact is True:
            return observations
        return {key: obs.float() if obs.dtype is th.float64 else obs for key, obs in observations.items()}

    def observations(self, rows: np.ndarray, env: VecNormalize | None) -> Any:
        """
        :param rows: of any shape
        :param env: as in :meth:`transitions`
        :return: the observations, (\\*rows.shape, ...), or a dict of such
        """
        observations = self.storage.obs.gather(rows.reshape(-1))
        if env is not None:
            observations = self.normalized(observations, env)
        return self.unkeyed({key: self.to_device(obs).view(*rows.shape, *obs.shape[1:]) for key, obs in observations.items()})

    def rest(self, rows: np.ndarray, env: VecNormalize | None) -> th.Tensor:
        """
        :param rows: of any shape
        :param env: as in :meth:`transitions`
        :return: actions, rewards, terminations, (\\*rows.shape, action_dim + 2), where they are stored
        """
        rest = self.storage.rest.gather(rows.reshape(-1))
        return (rest if env is None else self.with_normalized_rewards(rest, env)).view(*rows.shape, -1)

    def normalized(self, observations: dict[str, th.Tensor], env: VecNormalize) -> dict[str, th.Tensor]:
        """
        :param observations: by key, (n, ...)
        :param env: whose statistics are used
        """
        arrays = {key: obs.numpy(force=True) for key, obs in observations.items()}
        normalized: Any = env.normalize_obs(self.unkeyed(arrays))
        by_key = normalized if self.storage.obs.is_dict else {"": normalized}
        return {key: th.from_numpy(obs) for key, obs in by_key.items()}

    def with_normalized_rewards(self, rest: th.Tensor, env: VecNormalize) -> th.Tensor:
        """
        :param rest: actions, rewards, terminations, (n, action_dim + 2); changed in place
        :param env: whose statistics are used
        """
        rewards = env.normalize_reward(rest[:, -2].numpy(force=True)).astype(np.float32)
        rest[:, -2] = th.from_numpy(rewards).to(rest.device)
        return rest

    def unkeyed(self, by_key: dict[str, Any]) -> Any:
        """
        :param by_key: something for each part of an observation
        :return: the same for observations as they are: without a key where they are no dict
        """
        return by_key if self.storage.obs.is_dict else by_key[""]

    def to_device(self, tensor: th.Tensor) -> th.Tensor:
        """
        :param tensor: where it is stored
        """
        if tensor.device == self.device:
            return tensor
        if self.pin_memory:
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)
