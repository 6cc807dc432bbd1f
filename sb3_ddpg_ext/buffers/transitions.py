"""The replay buffer: any way of sampling, returns of any number of steps, any observations, many environments."""

import copy
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_ddpg_ext.batch import Batch
from sb3_ddpg_ext.buffers.batch_maker import BatchMaker, Relabel
from sb3_ddpg_ext.buffers.column import read_only
from sb3_ddpg_ext.buffers.disk import folder_of
from sb3_ddpg_ext.buffers.mending import go_back, mend, position_of, reopen
from sb3_ddpg_ext.buffers.room import warn_if_too_large
from sb3_ddpg_ext.buffers.sampling import Sampling, Uniform, checked_draw, checked_weights
from sb3_ddpg_ext.buffers.storage import Storage
from sb3_ddpg_ext.validation import MAX_N_STEPS, check_flag, check_instance, check_integer, check_real


class TransitionReplayBuffer(ReplayBuffer):
    """
    Replay memory of transitions. By default sampled uniformly, with the random draws of SB3's ``ReplayBuffer``.

    It is put together from a :class:`~sb3_ddpg_ext.buffers.storage.Storage`, in which each observation is stored once, and a
    :class:`~sb3_ddpg_ext.buffers.Sampling`. Returns of several steps are those of SB3's ``NStepReplayBuffer``, for
    observations of every kind: rewards up to and with that of the last step of an episode, then the observation that really
    followed, with gamma to the number of steps taken. A window ends where an episode ended, was interrupted, or has not gone
    on yet.

    :param buffer_size: transitions, over all environments
    :param observation_space: also ``Dict``
    :param action_space: action space
    :param device: where the samples go
    :param n_envs: number of environments
    :param optimize_memory_usage: for the signature only: the storage is economical, and right at time limits, in any case
    :param handle_timeout_termination: count a time limit as not terminal
    :param n_steps: largest number of rewards in a return, Sutton (1988)
    :param gamma: discount factor of these
    :param sampling: which transitions a batch has; None for :class:`~sb3_ddpg_ext.buffers.Uniform`
    :param combined: whether each batch has the newest transition of each environment,
        combined experience replay, Zhang & Sutton (2017), https://arxiv.org/abs/1712.01275
    :param storage_device: where transitions are stored, e.g. ``"cuda"``; None for the CPU
    :param keep_float64: store 64-bit floats as they are: for VecNormalize, which subtracts the mean before it rounds
    :param pin_memory: hand samples to a GPU through page-locked memory, without waiting for the copy
    :param frame_stack: how many frames an observation consists of, each of which is stored once; right for any observation
    :param path: a folder for the transitions, which are there again when a buffer with the same arguments is made with it.
        What is in memory then is what the operating system keeps there. One process at a time.
    """

    exact_keys: ClassVar[tuple[str, ...]] = ()  # of observations that are stored with 64 bits, where they have so many
    is_ours: ClassVar[bool] = True  # unlike a buffer of Stable-Baselines3
    of_sequences: ClassVar[bool] = False
    relabel: Relabel | None = None  # changes what was gathered for a batch
    state_size = 0  # numbers in the state of recurrent networks that is stored for one environment
    _adding_at: int | None = None  # transitions of each environment before the one that is being added, until that is whole
    _is_mending = False  # also after that was stopped, too
    copies: ClassVar[bool] = True  # whether add() leaves nothing of what it is given for others to change

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "add" in vars(cls) and "copies" not in vars(cls):  # it may keep what it is given
            cls.copies = False

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: th.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        *,
        n_steps: int = 1,
        gamma: float = 0.99,
        sampling: Sampling | None = None,
        combined: bool = False,
        storage_device: th.device | str | None = None,
        pin_memory: bool = False,
        keep_float64: bool = False,
        frame_stack: int = 1,
        path: str | Path | None = None,
    ):
        super(ReplayBuffer, self).__init__(buffer_size, observation_space, action_space, device, n_envs=n_envs)
        self.buffer_size = max(buffer_size // n_envs, 1)
        self.optimize_memory_usage = check_flag("optimize_memory_usage", optimize_memory_usage)
        self.handle_timeout_termination = check_flag("handle_timeout_termination", handle_timeout_termination)
        self.n_steps = check_integer("n_steps", n_steps, 1, MAX_N_STEPS)
        self.gamma = check_real("gamma", gamma, 0, 1)
        check_instance("sampling", sampling, (Sampling, type(None)), "a Sampling of sb3_ddpg_ext.buffers or None")
        self.sampling = Uniform() if sampling is None else copy.deepcopy(sampling)  # which has a state
        check_instance("combined", combined, bool, "True or False")
        self.combined = combined
        self.demonstrations: TransitionReplayBuffer | None = None
        self.demonstration_share = 0.0
        kept = check_flag("keep_float64", keep_float64) or (self.exact_keys if path is None else ())
        self.storage = Storage(
            self.buffer_size, n_envs, observation_space, self.action_dim, storage_device, kept, frame_stack,
            folder_of(path, storage_device),
        )  # fmt: skip
        self.batches = BatchMaker(self.storage, self.device, check_flag("pin_memory", pin_memory))
        self._open()

    def _open(self) -> None:
        """Make the arrays, or find them in the folder."""
        storage, folder = self.storage, self.storage.folder
        is_there = folder is not None and folder.claim(self.layout())
        storage.allocate()
        self._make_parts()
        if is_there:
            reopen(storage)
            self._restore_parts({})
        elif folder is not None:
            folder.sign(self.layout())
        self.renew_sampling()
        self.warn_if_too_large()

    def _make_parts(self) -> None:
        """For subclasses, to make what keeps pace with the storage."""

    def _restore_parts(self, arrays: Mapping[str, Any]) -> None:
        """
        For subclasses, to let these follow the storage, which has been restored.

        :param arrays: contents by name; none where the storage has been opened again, and ``parts`` of
            its :meth:`position` where it goes back
        """

    @property
    def pos(self) -> int:  # type: ignore[override]
        """Where the next transition goes."""
        return self.storage.pos

    @pos.setter
    def pos(self, value: int) -> None:
        if "storage" in self.__dict__:  # SB3's constructor sets it, too
            self.storage.pos = value

    @property
    def full(self) -> bool:  # type: ignore[override]
        """Whether old transitions are overwritten now."""
        return self.storage.full

    @full.setter
    def full(self, value: bool) -> None:
        if "storage" in self.__dict__:
            self.storage.full = value

    @property
    def nbytes(self) -> int:
        """Bytes of a full buffer."""
        return self.storage.nbytes

    @property
    def n_written(self) -> int:
        """Rows of transitions that have been written."""
        return self.storage.n_written

    @property
    def stacks_frames(self) -> bool:
        """Whether some observations are stored frame by frame."""
        return self.storage.obs.stacks_frames

    @property
    def is_on_disk(self) -> bool:
        return self.storage.folder is not None

    def warn_if_too_large(self) -> None:
        """Warn where a full buffer has no room."""
        warn_if_too_large(self.nbytes, self.buffer_size * self.n_envs, self.storage)

    def add(
        self,
        obs: Any,
        next_obs: Any,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        timeouts = None
        if self.handle_timeout_termination and np.count_nonzero(done):
            timeouts = [info.get("TimeLimit.truncated", False) for info in infos]
        self._adding_at = self.storage.n_added  # until all of it is whole
        try:
            rows = self.storage.add(obs, next_obs, action, reward, done, timeouts, partial(self._write_others, infos))
            self._added(rows, infos)
            self.sampling.added(rows)
        except BaseException:  # such as Ctrl-C
            self._mend()
            raise
        self._adding_at = None

    def _write_others(self, infos: list[dict[str, Any]], rows: slice) -> None:
        """For subclasses, to write what else belongs to new transitions in these rows, before they count."""

    def _added(self, rows: slice, infos: list[dict[str, Any]]) -> None:
        """For subclasses, to let their parts take note of new transitions in these rows."""

    def _mend(self) -> None:
        """After :meth:`add` was stopped in the middle, have whole transitions again, and parts that follow them."""
        is_torn = self.storage.n_added == self._adding_at
        if self._is_mending or self.storage.is_adding or not is_torn:  # something was written
            self._is_mending = True
            kept = self.sampling.state(), self.sampling.contents(self.n_written)
            mend(self.storage, is_torn)
            self._restore_parts({})
            self.renew_sampling()
            if self.n_written and not self.of_sequences:  # which may begin elsewhere now
                self.sampling.restore(*kept)
                self.sampling.added(self.storage.last_rows)
        self._is_mending, self._adding_at = False, None

    @property
    def _whole(self) -> Storage:
        """The storage, to be read outside of :meth:`add`: a second Ctrl-C may have stopped :meth:`_mend`."""
        self._mend() if self._adding_at is not None else None
        return self.storage

    def interrupt(self, envs: np.ndarray | None = None) -> None:
        """
        What is added next does not go on from what was added last, whatever the observations are.

        :param envs: of which environments, (n_envs,); None for all
        """
        if self._adding_at is not None:  # a second Ctrl-C has come
            self._mend()
        self.storage.interrupt(envs)

    def reset(self) -> None:
        """Forget all transitions."""
        self.storage.reset()
        self.renew_sampling()

    def renew_sampling(self) -> None:
        """All that is there is new to the sampling."""
        self.sampling.allocate(self.storage.n_rows)
        if self.n_written:
            self.sampling.added(slice(0, self.n_written))

    @property
    def observations(self) -> Any:  # type: ignore[override]
        """The observations, (buffer_size, n_envs, ...), or a dict of such arrays; see :meth:`add` to write transitions."""
        return self.storage.observations()

    @property
    def next_observations(self) -> Any:  # type: ignore[override]
        """A copy of those that follow, made at each access and read-only; see :meth:`add` to write transitions."""
        return self.storage.next_observations()

    @property
    def actions(self) -> np.ndarray:  # type: ignore[override]
        """(buffer_size, n_envs, action_dim), on the [-1, 1] scale."""
        return self.storage.array(self.storage.rest, slice(None))[..., :-2]

    @property
    def rewards(self) -> np.ndarray:  # type: ignore[override]
        """(buffer_size, n_envs)."""
        return self.storage.array(self.storage.rest, slice(None))[..., -2]

    @property
    def timeouts(self) -> np.ndarray:  # type: ignore[override]
        """Whether an episode was cut by its time limit, (buffer_size, n_envs)."""
        return read_only(self.storage.timeouts.reshape(self.buffer_size, self.n_envs).astype(np.float32))

    @property
    def dones(self) -> np.ndarray:  # type: ignore[override]
        """Whether an episode ended, by termination or by its time limit, (buffer_size, n_envs)."""
        return read_only(np.maximum(self.storage.array(self.storage.rest, slice(None))[..., -1], self.timeouts))

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
            return demonstrations.as_demonstrations(self.storage.n_rows)
        return self._sample(batch_size - n, env).with_demonstrations(demonstrations, self.storage.n_rows)

    def _draw(self, n: int) -> np.ndarray:
        if not self._whole.n_added:
            raise ValueError("the replay buffer is empty: nothing can be sampled from it")
        return checked_draw(self.sampling, n, self.storage.n_filled, self.n_envs)

    def _weights(self, rows: np.ndarray) -> th.Tensor | None:
        weights = checked_weights(self.sampling, rows)
        return None if weights is None else self.to_torch(weights)

    def _sample(self, batch_size: int, env: VecNormalize | None) -> Batch:
        rows = self._draw(batch_size)
        if self.combined:
            rows, last = rows.copy(), self.storage.last_rows  # a copy, for it may be the sampling's own array
            rows[-self.n_envs :] = np.arange(last.start, last.stop)[-batch_size:]
        samples, weights = self.samples_of(rows, env), self._weights(rows)
        if weights is None and not self.sampling.takes_errors:
            return samples
        return samples._replace(weights=weights, indices=rows if self.sampling.takes_errors else None)

    def update_priorities(self, rows: np.ndarray, errors: th.Tensor) -> None:
        """
        Let the sampling take note of what the critic made of a sample.

        :param rows: ``indices`` of the sample
        :param errors: of shape (n,)
        """
        if self.demonstrations is not None:
            is_own = rows < self.storage.n_rows
            self.demonstrations.update_priorities(rows[~is_own] - self.storage.n_rows, errors[th.from_numpy(~is_own)])
            rows, errors = rows[is_own], errors[th.from_numpy(is_own)]
        self.sampling.update_priorities(rows, errors.numpy(force=True))

    def advance(self, progress_remaining: float, num_timesteps: int) -> None:
        """
        Let the sampling follow its schedules.

        :param progress_remaining: from 1 to 0
        :param num_timesteps: environment steps until now
        """
        self.sampling.advance(progress_remaining, num_timesteps)
        if self.demonstrations is not None:
            self.demonstrations.advance(progress_remaining, num_timesteps)

    def set_env(self, env: VecEnv | None) -> None:
        """
        For subclasses that ask the environments for rewards.

        :param env: the training environments
        """

    def reserve_states(self, size: int) -> None:
        """
        For a subclass that stores the states of recurrent networks.

        :param size: numbers in the state of one environment
        """

    def set_demonstrations(self, demonstrations: "TransitionReplayBuffer", share: float) -> None:
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
        return self.batches.transitions(rows, self.n_steps, self.gamma, env, self.relabel)

    def layout(self) -> dict[str, Any]:
        """What a file or a folder must agree with to hold this buffer's transitions, as JSON has it."""
        return self.storage.layout()

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` is to know beside the arrays, as JSON has it."""
        return self._whole.state()

    def contents(self) -> dict[str, list[np.ndarray]]:
        """What has been written, without the room for more: arrays by name, each in parts that follow one another."""
        return self._whole.contents()

    def restore(self, state: dict[str, Any], arrays: Mapping[str, Any]) -> None:
        """
        Take over what a buffer of the same size has saved. This one has been empty until now.

        :param state: of that buffer
        :param arrays: its contents, by name, of which slices are taken in order
        """
        self.storage.restore(state, arrays)
        self._restore_parts(arrays)
        self.renew_sampling()

    def position(self) -> dict[str, Any]:
        """Of a buffer in a folder: what :meth:`go_back` needs, which is all that the folder does not have."""
        storage = position_of(self._whole)
        return dict(storage=storage, sampling=self.sampling.state(), priorities=self.sampling.contents(self.n_written))

    def go_back(self, position: dict[str, Any]) -> bool:
        """
        Forget what has been added to the folder since.

        :param position: of an earlier time
        :return: whether that was possible
        """
        if not go_back(self.storage, position["storage"]):
            return False
        self._restore_parts(position.get("parts", {}))
        self.renew_sampling()
        self.sampling.restore(position["sampling"], position["priorities"])
        return True

    def sampling_settings(self) -> dict[str, Any] | None:
        """What the meaning of the sampling's state depends on, as JSON has it; None where it has none."""
        return self.sampling.settings()
