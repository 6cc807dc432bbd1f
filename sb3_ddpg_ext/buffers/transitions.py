"""The replay buffer: any way of sampling, returns of any number of steps, any observations, many environments."""

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_ddpg_ext.batch import Batch, constant
from sb3_ddpg_ext.buffers.persistent import PersistentStorage
from sb3_ddpg_ext.buffers.sampling import Prioritized, Sampling, Uniform
from sb3_ddpg_ext.validation import check_instance, check_integer, check_real


class TransitionReplayBuffer(PersistentStorage):
    """
    Replay memory of transitions. By default sampled uniformly, with the random draws of SB3's ``ReplayBuffer``.

    Returns of several steps are those of SB3's ``NStepReplayBuffer``, for observations of every kind: rewards up to and with
    that of the last step of an episode, then the observation that really followed, with gamma to the number of steps taken.
    A window ends where an episode ended, was interrupted, or has not gone on yet.

    :param buffer_size: transitions, over all environments
    :param observation_space: also ``Dict``
    :param action_space: action space
    :param device: where the samples go
    :param n_envs: number of environments
    :param n_steps: largest number of rewards in a return, Sutton (1988)
    :param gamma: discount factor of these
    :param sampling: which transitions a batch has; None for :class:`~sb3_ddpg_ext.buffers.Uniform`
    :param combined: whether each batch has the newest transition of each environment,
        combined experience replay, Zhang & Sutton (2017), https://arxiv.org/abs/1712.01275
    :param kwargs: arguments of :class:`~sb3_ddpg_ext.buffers.persistent.PersistentStorage`, ``path`` among them
    """

    is_ours: ClassVar[bool] = True  # unlike a buffer of Stable-Baselines3
    copies: ClassVar[bool] = True  # whether add() leaves nothing of what it is given for others to change

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "add" in vars(cls):  # which may keep what it is given
            cls.copies = False

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: th.device | str = "auto",
        n_envs: int = 1,
        *,
        n_steps: int = 1,
        gamma: float = 0.99,
        sampling: Sampling | None = None,
        combined: bool = False,
        **kwargs: Any,
    ):
        super().__init__(buffer_size, observation_space, action_space, device, n_envs, **kwargs)
        self.n_steps = check_integer("n_steps", n_steps, at_least=1)
        self.gamma = check_real("gamma", gamma, 0, 1)
        check_instance("sampling", sampling, (Sampling, type(None)), "a Sampling of sb3_ddpg_ext.buffers or None")
        self.sampling = Uniform() if sampling is None else copy.deepcopy(sampling)  # which has a state
        self.renew_sampling()
        check_instance("combined", combined, bool, "True or False")
        self.combined = combined
        self.demonstrations: TransitionReplayBuffer | None = None
        self.demonstration_share = 0.0

    def _added(self, rows: slice, infos: list[dict[str, Any]]) -> None:
        super()._added(rows, infos)
        self.sampling.added(rows)

    def reset(self) -> None:
        super().reset()
        self.renew_sampling()

    def priority_settings(self) -> dict[str, Any] | None:
        """What the meaning of a priority depends on, as JSON has it; None without."""
        return self.sampling.settings() if isinstance(self.sampling, Prioritized) else None

    def renew_sampling(self) -> None:
        """All that is there is new to the sampling."""
        self.sampling.allocate(self._n_rows)
        if self.n_written:
            self.sampling.added(slice(0, self.n_written))

    def batch(self, batch_size: int, env: VecNormalize | None, gamma: float) -> Any:
        """
        :meth:`sample` for a model.

        :param batch_size: number of transitions, or sequences
        :param env: normalises observations and rewards with its present statistics
        :param gamma: discount factor of the model, which becomes that of the buffer
        """
        self.gamma = gamma
        return self.sample(batch_size, env)

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> Batch:  # type: ignore[override]
        """
        Actions, rewards and dones of a sample are views of one tensor, so ``reshape`` works on them where ``view`` does not.

        :param batch_size: number of transitions
        :param env: normalises observations and rewards with its present statistics
        :raises ValueError: if the buffer is empty
        """
        if self.demonstrations is None:
            return self._sample(batch_size, env)
        n = round(batch_size * self.demonstration_share)
        if 0 < self.demonstration_share < 1:  # some of each
            n = min(max(n, 1), batch_size - (self.n_written > 0))
        if n == 0:
            return self._sample(batch_size, env)
        demonstrations = self.demonstrations._sample(n, env)
        if n == batch_size:
            return demonstrations.as_demonstrations(self._n_rows)
        return self._sample(batch_size - n, env).with_demonstrations(demonstrations, self._n_rows)

    def _sample(self, batch_size: int, env: VecNormalize | None) -> Batch:
        n_filled = self.buffer_size if self.full else self.pos
        if n_filled == 0:
            raise ValueError("the replay buffer is empty: nothing can be sampled from it")
        rows = self.sampling.draw(batch_size, n_filled, self.n_envs)
        if self.combined:
            newest = (self.pos - 1) % self.buffer_size * self.n_envs + np.arange(self.n_envs)
            rows[-self.n_envs :] = newest[-batch_size:]
        samples = self.samples_of(rows, env)
        if not self.sampling.takes_errors:
            return samples
        weights = self.sampling.weights(rows)
        if weights is not None:
            samples = samples._replace(weights=self.to_torch(weights.astype(np.float32)[:, None]))
        return samples._replace(indices=rows)

    def update_priorities(self, rows: np.ndarray, errors: th.Tensor) -> None:
        """
        Let the sampling take note of what the critic made of a sample.

        :param rows: ``indices`` of the sample
        :param errors: of shape (n,)
        """
        if self.demonstrations is not None:
            is_own = rows < self._n_rows
            self.demonstrations.update_priorities(rows[~is_own] - self._n_rows, errors[th.from_numpy(~is_own)])
            rows, errors = rows[is_own], errors[th.from_numpy(is_own)]
        self.sampling.update_priorities(rows, errors.numpy(force=True))

    def advance(self, progress_remaining: float, num_timesteps: int) -> None:
        """
        Let the sampling follow its schedules.

        :param progress_remaining: from 1 to 0
        :param num_timesteps: environment steps until now
        """
        for buffer in (self, self.demonstrations):
            if buffer is not None:
                buffer.sampling.advance(progress_remaining, num_timesteps)

    def set_env(self, env: VecEnv | None) -> None:
        """
        For subclasses that ask the environments for rewards.

        :param env: the training environments
        """

    def keep(self, demonstrations: "TransitionReplayBuffer", share: float) -> None:
        """
        Let each batch have a share of demonstrations, which stay, behind the other transitions.

        :param demonstrations: of one environment, with the same observations, actions and kind of sampling
        :param share: of each batch, 0 to 1; with 1 nothing else is learnt from
        """
        self.demonstrations, self.demonstration_share = demonstrations, check_real("demonstration_share", share, 0, 1)

    def samples_of(self, rows: np.ndarray, env: VecNormalize | None = None) -> Batch:
        """
        :param rows: of shape (n,)
        :param env: as in :meth:`sample`
        """
        n, n_steps = len(rows), self.n_steps
        steps, inside = self._windows(rows)
        rest = self._rest.gather(steps.reshape(-1))  # (n_steps * n, action_dim + 2), a step after the other
        # One gather gives (2 n, ...): first the observations, then those that follow.
        both = np.concatenate((rows, self._next.take(steps[-1])))
        observations = {key: column.gather(both) for key, column in self._obs.items()}
        self._relabel(steps, observations, rest)
        if env is not None:
            observations = self._normalized(observations, env)
            rewards = env.normalize_reward(rest[:, -2].numpy(force=True)).astype(np.float32)
            rest[:, -2] = th.from_numpy(rewards).to(rest.device)
        if n_steps > 1:
            powers = self.gamma ** np.arange(n_steps + 1, dtype=np.float32)
            factors = th.from_numpy(powers[:n_steps, None] * inside).to(rest.device)
            returns = (rest[:, -2].view(n_steps, n) * factors).sum(dim=0)
            dones = rest[-n:, -1]  # of the last step of each window, which its row is repeated to fill
            rest = th.cat((rest[:n, :-2], returns[:, None], dones[:, None]), dim=1)
            discounts = self.to_torch(powers[inside.sum(axis=0)][:, None])
        actions, rewards, dones = self._to_device(rest).split((self.action_dim, 1, 1), dim=1)
        observations = {key: self._to_device(obs) for key, obs in observations.items()}
        if self._is_dict:
            before, after = ({key: obs[half] for key, obs in observations.items()} for half in (slice(n), slice(n, None)))
        else:
            before, after = observations[""].split(n)  # type: ignore[assignment]
        if n_steps == 1:
            discounts = constant(self.gamma, rewards)
        return Batch(before, actions, after, dones, rewards, discounts)

    def _windows(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the steps from each of ``rows`` on, and whether they belong to its return: two arrays (n_steps, n)."""
        steps = np.empty((self.n_steps, len(rows)), np.int64)
        inside = np.ones(steps.shape, bool)
        steps[0] = rows
        for i in range(1, self.n_steps):
            follows = self._next.take(steps[i - 1])
            np.less(follows, self._n_rows, out=inside[i])  # else it is no transition's observation
            steps[i] = np.where(inside[i], follows, steps[i - 1])
        return steps, inside

    def _relabel(self, steps: np.ndarray, observations: dict[str, th.Tensor], rest: th.Tensor) -> None:
        """For subclasses, to change what was gathered, in place, before it is normalised."""

    def _normalized(self, observations: dict[str, th.Tensor], env: VecNormalize) -> dict[str, th.Tensor]:
        arrays = {key: obs.numpy(force=True) for key, obs in observations.items()}
        normalized = env.normalize_obs(arrays if self._is_dict else arrays[""])
        by_key = normalized if isinstance(normalized, Mapping) else {"": normalized}
        return {key: th.from_numpy(obs) for key, obs in by_key.items()}

    def _to_device(self, tensor: th.Tensor) -> th.Tensor:
        if tensor.device == self.device:
            return tensor
        if self.pin_memory:
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)
