"""Transitions as a learner wants them: each observation stored once, each batch one gather."""

import warnings
from typing import Any, ClassVar
from urllib.parse import quote

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer, psutil
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first

from sb3_ddpg_ext.buffers.column import Column, NewArray, in_memory
from sb3_ddpg_ext.buffers.frames import FrameStackColumn, frame_axis
from sb3_ddpg_ext.validation import check_choice, check_integer

Observation = np.ndarray | dict[str, np.ndarray]
STORED_AS = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64}  # torch has no arithmetic for unsigned ones


class TransitionStorage(ReplayBuffer):
    """
    What is in a replay memory, with the interface of SB3's ``ReplayBuffer``; how it is sampled says a subclass.

    An observation is stored once: the one that follows a transition is the one that the next transition starts from. Only
    where no transition goes on from it (the end of an episode, a time limit, an interrupted training, the newest transition)
    is it stored by itself. Images stay ``uint8``, 64-bit floats become 32-bit.

    :param buffer_size: transitions, over all environments
    :param observation_space: also ``Dict``
    :param action_space: action space
    :param device: where the samples go
    :param n_envs: number of environments
    :param optimize_memory_usage: for the signature only: the storage is economical, and right at time limits, in any case
    :param handle_timeout_termination: count a time limit as not terminal
    :param storage_device: where transitions are stored, e.g. ``"cuda"``; None for the CPU
    :param keep_float64: store 64-bit floats as they are: for VecNormalize, which subtracts the mean before it rounds
    :param pin_memory: hand samples to a GPU through page-locked memory, without waiting for the copy
    :param frame_stack: how many frames an observation consists of, each of which is stored once; right for any observation
    """

    _per_row: ClassVar[tuple[str, ...]] = ("_next", "_timeouts")  # arrays with an element for each transition
    _new_array: NewArray = staticmethod(in_memory)

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: th.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        storage_device: th.device | str | None = None,
        pin_memory: bool = False,
        keep_float64: bool = False,
        frame_stack: int = 1,
    ):
        super(ReplayBuffer, self).__init__(buffer_size, observation_space, action_space, device, n_envs=n_envs)
        self.buffer_size = max(buffer_size // n_envs, 1)
        for name, value in dict(
            optimize_memory_usage=optimize_memory_usage,
            handle_timeout_termination=handle_timeout_termination,
            pin_memory=pin_memory,
            keep_float64=keep_float64,
        ).items():
            check_choice(name, value, [True, False])
        self.optimize_memory_usage = optimize_memory_usage
        self.handle_timeout_termination = handle_timeout_termination
        self.keep_float64 = keep_float64
        self.storage_device = _device("cpu" if storage_device is None else storage_device)
        self.pin_memory = pin_memory and self.device.type == "cuda" and self.storage_device.type == "cpu"
        self._n_rows = self.buffer_size * n_envs  # transition (pos, env) is row pos * n_envs + env
        # Behind those rows: the observation after the newest transition of each environment, then those at ends.
        self._newest = slice(self._n_rows, self._n_rows + n_envs)
        self._n_used = self._newest.stop
        self._is_dict = isinstance(observation_space, spaces.Dict)
        self._newest_rows = np.arange(self._newest.start, self._newest.stop)
        self._free: list[int] = []
        self.frame_stack = check_integer("frame_stack", frame_stack, at_least=1)
        self._allocate(self._n_used)
        self._goes_on = np.zeros(n_envs, bool)  # whether the newest transition's next observation may start another
        self._incoming = np.empty((n_envs, self.action_dim + 2), np.float32)
        self._warn_if_too_large()

    def _allocate(self, n_used: int) -> None:
        capacity = n_used + max(self._n_rows // 16, 16)
        space = self.observation_space
        subspaces = space.spaces if isinstance(space, spaces.Dict) else {"": space}
        self._obs = {key: self._make_column(key, subspace, capacity) for key, subspace in subspaces.items()}
        # Action, reward, terminated.
        self._rest = Column("rest", self._n_rows, (self.action_dim + 2,), np.float32, self.storage_device, self._new_array)
        self._next = self._new_array("next", (self._n_rows,), np.int32)  # the row of the observation that follows
        self._timeouts = self._new_array("timeouts", (self._n_rows,), bool)

    def _stored_as(self, dtype: Any) -> np.dtype:
        if dtype == np.float64 and not self.keep_float64:
            return np.dtype(np.float32)  # as which it enters the networks
        return np.dtype(STORED_AS.get(np.dtype(dtype).name, dtype))

    def _make_column(self, key: str, space: spaces.Space, n_rows: int) -> Column | FrameStackColumn:
        shape = self.obs_shape[key] if isinstance(self.obs_shape, dict) else self.obs_shape
        name, dtype = array_prefix(key).replace("/", ".") + "rows", self._stored_as(space.dtype)
        if self.frame_stack > 1:
            is_first = is_image_space(space) and is_image_space_channels_first(space)  # type: ignore[arg-type]
            axis = frame_axis(shape, self.frame_stack, is_first)
            if axis is not None:
                place = (self.storage_device, self.frame_stack, axis, self._new_array)
                return FrameStackColumn(name, n_rows, shape, dtype, *place)
        return Column(name, n_rows, shape, dtype, self.storage_device, self._new_array)

    @property
    def stacks_frames(self) -> bool:
        """Whether some observations are stored frame by frame."""
        return any(isinstance(column, FrameStackColumn) for column in self._obs.values())

    @property
    def nbytes(self) -> int:
        """Bytes of a full buffer."""
        columns = [*self._obs.values(), self._rest]
        return sum(c.nbytes for c in columns) + sum(getattr(self, name).nbytes for name in self._per_row)

    def _warn_if_too_large(self) -> None:
        if psutil is None or self.storage_device.type != "cpu":  # an optional dependency of SB3's
            return
        available = psutil.virtual_memory().available
        if self.nbytes > available:
            warnings.warn(
                f"a full replay buffer of buffer_size={self.buffer_size * self.n_envs} takes {self.nbytes / 1e9:.2f} GB; "
                f"{available / 1e9:.2f} GB of memory are available",
                stacklevel=2,
            )

    def _rows_of(self, obs: Any) -> list[np.ndarray]:
        """The observations of all environments for each column. Discrete ones have no dimension of their own."""
        parts = [(column, obs[key] if self._is_dict else obs) for key, column in self._obs.items()]
        return [np.asarray(part).reshape(self.n_envs, *column.shape) for column, part in parts]

    def _write_obs(self, rows: slice, parts: list[np.ndarray]) -> None:
        for column, part in zip(self._obs.values(), parts, strict=True):
            column.write(rows, part)

    def add(
        self,
        obs: Observation,  # type: ignore[override]
        next_obs: Observation,  # type: ignore[override]
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        # First all that can fail, so that an error leaves the buffer as it was.
        starts, follows, rest = self._rows_of(obs), self._rows_of(next_obs), self._incoming
        rest[:, :-2] = np.reshape(action, (self.n_envs, self.action_dim))
        rest[:, -2] = reward
        rest[:, -1] = done
        done = np.asarray(done, bool).reshape(-1)
        rows = slice(self.pos * self.n_envs, (self.pos + 1) * self.n_envs)
        overwritten = [row for row in self._next[rows].tolist() if row >= self._newest.stop] if self.full else []
        self._adding()
        self._write_obs(rows, starts)
        self._link_previous(rows)
        self._write_obs(self._newest, follows)
        self._next[rows] = self._newest_rows
        self._free.extend(overwritten)
        self._goes_on[:] = True
        self._timeouts[rows] = False
        if np.count_nonzero(done):
            self._end_episodes(rows, done, infos)
        self._rest.write(rows, rest)
        self.pos += 1
        if self.pos == self.buffer_size:
            self.full = True
            self.pos = 0
        self._added(rows, infos)

    def _adding(self) -> None:
        """For subclasses, to take note that the first array is about to be written."""

    def _added(self, rows: slice, infos: list[dict[str, Any]]) -> None:
        """For subclasses, to take note of new transitions in these rows."""

    def _link_previous(self, rows: slice) -> None:
        """Let the transitions before ``rows`` end where these start, or keep their last observation elsewhere."""
        if not np.count_nonzero(self._goes_on) or self.buffer_size == 1:
            return
        same = [column.equal(rows, self._newest) for column in self._obs.values()]
        first = (rows.start - self.n_envs) % self._n_rows
        if all(s is True for s in same) and np.count_nonzero(self._goes_on) == self.n_envs:
            self._next[first : first + self.n_envs] = np.arange(rows.start, rows.stop) if self.n_envs > 1 else rows.start
            return
        starts_there = np.logical_and.reduce([np.broadcast_to(s, self.n_envs) for s in same])
        for env in np.flatnonzero(self._goes_on).tolist():
            self._next[first + env] = rows.start + env if starts_there[env] else self._keep_newest(env)

    def interrupt(self) -> None:
        """What is added next does not go on from what was added last, whatever the observations are."""
        first = (self.pos - 1) % self.buffer_size * self.n_envs
        for env in np.flatnonzero(self._goes_on).tolist():
            self._next[first + env] = self._keep_newest(env)
        self._goes_on[:] = False

    def _end_episodes(self, rows: slice, done: np.ndarray, infos: list[dict[str, Any]]) -> None:
        for env in np.flatnonzero(done).tolist():
            self._next[rows.start + env] = self._keep_newest(env)
            self._goes_on[env] = False
            if self.handle_timeout_termination and infos[env].get("TimeLimit.truncated", False):
                self._timeouts[rows.start + env] = True
                self._incoming[env, -1] = 0.0

    def _keep_newest(self, env: int) -> int:
        """Copy the observation after the newest transition to a row of its own, and return that."""
        return self._keep(self._newest.start + env)

    def _keep(self, source: int) -> int:
        if self._free:
            row = self._free.pop()
        else:
            row = self._n_used
            self._n_used += 1
        for column in self._obs.values():
            if row >= column.n_rows:
                column.grow(row + max(self._n_rows // 8, 16))
            column.copy_row(row, source)
        return row

    def _array(self, column: Column | FrameStackColumn, rows: slice | np.ndarray) -> np.ndarray:
        array = column.array(rows)
        return array.reshape(self.buffer_size, self.n_envs, *array.shape[1:])

    def _observation_arrays(self, rows: slice | np.ndarray) -> Any:
        arrays = {key: self._array(column, rows) for key, column in self._obs.items()}
        return arrays if self._is_dict else arrays[""]

    @property
    def observations(self) -> Any:  # type: ignore[override]
        """The observations, (buffer_size, n_envs, ...), or a dict of such arrays."""
        return self._observation_arrays(slice(self._n_rows))

    @property
    def next_observations(self) -> Any:  # type: ignore[override]
        """A copy of those that follow, made at each access."""
        return self._observation_arrays(self._next)

    @property
    def actions(self) -> np.ndarray:  # type: ignore[override]
        """(buffer_size, n_envs, action_dim), on the [-1, 1] scale."""
        return self._array(self._rest, slice(None))[..., :-2]

    @property
    def rewards(self) -> np.ndarray:  # type: ignore[override]
        """(buffer_size, n_envs)."""
        return self._array(self._rest, slice(None))[..., -2]

    @property
    def timeouts(self) -> np.ndarray:  # type: ignore[override]
        """Whether an episode was cut by its time limit, (buffer_size, n_envs)."""
        return _read_only(self._timeouts.reshape(self.buffer_size, self.n_envs).astype(np.float32))

    @property
    def dones(self) -> np.ndarray:  # type: ignore[override]
        """Whether an episode ended, by termination or by its time limit, (buffer_size, n_envs)."""
        return _read_only(np.maximum(self._array(self._rest, slice(None))[..., -1], self.timeouts))

    def reset(self) -> None:
        super().reset()
        self._goes_on[:] = False
        self._n_used, self._free = self._newest.stop, []
        for column in self._obs.values():
            column.reset()

    @property
    def n_written(self) -> int:
        """Rows of transitions that have been written."""
        return self._n_rows if self.full else self.pos * self.n_envs


def array_prefix(key: str) -> str:
    """Of the names of the arrays with these observations."""
    return f"observations/{quote(key, safe='')}/" if key else "observations/"


def _read_only(array: np.ndarray) -> np.ndarray:
    """For what is computed when it is asked for: writing to it would be lost."""
    array.flags.writeable = False
    return array


def _device(given: th.device | str) -> th.device:
    try:
        device = th.device(given)
        th.empty(0, device=device)
    except (RuntimeError, TypeError, AssertionError) as error:  # an assertion where torch has been built without CUDA
        raise ValueError(f"storage_device={given!r} must be None or a device that is there ({error})") from error
    return device
