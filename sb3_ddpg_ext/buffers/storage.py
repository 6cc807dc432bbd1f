"""Transitions as a learner wants them: each observation stored once, each batch one gather."""

import secrets
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces

from sb3_ddpg_ext.buffers.column import Column, NewArray, checked_device, in_memory, read_only
from sb3_ddpg_ext.buffers.disk import Folder
from sb3_ddpg_ext.buffers.observations import Observations

ADDING, GOING_BACK = 1, 2  # what a program was doing with the arrays when it ended
N_FORKS = 64  # earlier identities of the contents of a folder that are remembered


class Storage:
    """
    What is in a replay memory, in memory or in a folder. It knows nothing of how it is sampled.

    The transition at position ``pos`` of environment ``env`` is row ``pos * n_envs + env``. An observation is stored once:
    the one that follows a transition is the one that the next transition starts from. Where no transition goes on from it
    (the end of an episode, a time limit, an interrupted training, the newest transition) it is stored by itself, in a row
    behind those of the transitions.

    :param n_positions: transitions of each environment
    :param n_envs: number of environments
    :param observation_space: also ``Dict``
    :param action_dim: numbers in an action
    :param device: where transitions are stored; None for the CPU
    :param keep_float64: store 64-bit floats as they are: all, for VecNormalize, which subtracts the mean before it rounds, or
        those of these keys
    :param frame_stack: how many frames an observation consists of, each of which is stored once; right for any observation
    :param folder: where its arrays are files; None for memory
    :raises ValueError: for a device that is not there
    """

    def __init__(
        self,
        n_positions: int,
        n_envs: int,
        observation_space: spaces.Space,
        action_dim: int,
        device: th.device | str | None = None,
        keep_float64: bool | tuple[str, ...] = False,
        frame_stack: int = 1,
        folder: Folder | None = None,
    ):
        self.n_positions, self.n_envs, self.action_dim = n_positions, n_envs, action_dim
        self.n_rows = n_positions * n_envs
        self.device, self.folder = checked_device("cpu" if device is None else device), folder
        # Behind the transitions: the observation after the newest one of each environment, then those at ends.
        self.newest = slice(self.n_rows, self.n_rows + n_envs)
        self._newest_rows = np.arange(self.newest.start, self.newest.stop)
        self.obs = Observations(observation_space, self.newest.stop, self.n_rows, keep_float64, frame_stack)
        self.n_added = 0  # transitions of each environment until now; one number, so that it is never half changed
        self.is_adding = 0  # not 0 after add() only if it was stopped in the middle
        self.identity = 0  # of the contents of a folder, since it was last empty
        self.repeated: tuple[slice, slice] | None = None  # rows that were torn, and those that they repeat since
        self.goes_on = np.zeros(n_envs, bool)  # whether the newest transition's next observation may start another
        self._incoming = np.empty((n_envs, action_dim + 2), np.float32)

    def allocate(self) -> None:
        """Make the arrays, in a folder after it has been claimed."""
        self.obs.allocate(self.device, self.new_array)
        # Action, reward, terminated.
        self.rest = Column("rest", self.n_rows, (self.action_dim + 2,), np.float32, self.device, self.new_array)
        self.follows = self.new_array("next", (self.n_rows,), np.int32)  # the row of the observation that follows
        self.timeouts = self.new_array("timeouts", (self.n_rows,), bool)
        # Position, how often it has come round, what the program is busy with, and the identity.
        self.counters = None if self.folder is None else self.new_array("counters", (4,), np.int64)
        # Earlier identities, the newest last, and up to how many transitions what is here still is what they were.
        self.forks = None if self.folder is None else self.new_array("forks", (N_FORKS, 2), np.int64)

    @property
    def new_array(self) -> NewArray:
        """What makes an array from a name, a shape and a type."""
        return in_memory if self.folder is None else self.folder.new_array

    @property
    def nbytes(self) -> int:
        """Bytes when it is full."""
        return sum(part.nbytes for part in (self.obs, self.rest, self.follows, self.timeouts))

    @property
    def pos(self) -> int:
        """The position at which the next transitions go."""
        return self.n_added % self.n_positions

    @pos.setter
    def pos(self, value: int) -> None:
        self.n_added = self.n_added - self.pos + value

    @property
    def full(self) -> bool:
        """Whether old transitions are overwritten now."""
        return self.n_added >= self.n_positions

    @full.setter
    def full(self, value: bool) -> None:
        self.n_added = self.pos + self.n_positions * bool(value)

    @property
    def n_filled(self) -> int:
        """Positions that have been filled."""
        return min(self.n_added, self.n_positions)

    @property
    def n_written(self) -> int:
        """Rows of transitions that have been written."""
        return self.n_filled * self.n_envs

    @property
    def next_rows(self) -> slice:
        """Where the next transitions will be written."""
        return slice(self.pos * self.n_envs, (self.pos + 1) * self.n_envs)

    @property
    def last_rows(self) -> slice:
        """Where the newest transitions are, once there are some."""
        first = (self.n_added - 1) % self.n_positions * self.n_envs
        return slice(first, first + self.n_envs)

    def add(
        self, obs: Any, next_obs: Any, action: np.ndarray, reward: np.ndarray, done: np.ndarray, timeouts: list[bool] | None,
        write_others: Callable[[slice], None] | None = None,
    ) -> slice:  # fmt: skip
        """
        Write a transition of each environment. An error leaves everything as it was; what stops it in the middle, such as
        Ctrl-C, leaves ``is_adding`` set, and :func:`~sb3_ddpg_ext.buffers.mending.mend` is to be called.

        :param obs: of shape (n_envs, \\*obs_shape), or a dict of such
        :param next_obs: the observations that followed, the last ones of episodes that have ended
        :param action: of shape (n_envs, action_dim)
        :param reward: of shape (n_envs,)
        :param done: whether the episodes have ended
        :param timeouts: whether that was by a time limit, which is no termination; None for by none
        :param write_others: writes what else belongs to these rows, before they count as transitions
        :return: the rows
        """
        starts, follows, rest = self.obs.as_rows(obs, self.n_envs), self.obs.as_rows(next_obs, self.n_envs), self._incoming
        rest[:, :-2] = np.reshape(action, (self.n_envs, self.action_dim))
        rest[:, -2] = reward
        rest[:, -1] = done
        done = np.asarray(done, bool).reshape(-1)
        rows = self.next_rows
        overwritten = [row for row in self.follows[rows].tolist() if row >= self.newest.stop] if self.full else []
        self._begin_to_add()
        self.obs.write(rows, starts)
        self._link_previous(rows)
        self.obs.write(self.newest, follows)
        self.follows[rows] = self._newest_rows
        self.obs.free.extend(overwritten)
        self.goes_on[:] = True
        self.timeouts[rows] = False
        if np.count_nonzero(done):
            self._end_episodes(rows, done, timeouts)
        self.rest.write(rows, rest)
        if write_others is not None:
            write_others(rows)
        self.n_added += 1
        self.note()
        return rows

    def _begin_to_add(self) -> None:
        if self.folder is not None:
            self.folder.lock()
            self.identity = self.identity or new_identity()
        self.note(ADDING)

    def note(self, busy: int = 0) -> None:
        """
        Take note of the position, also in the folder.

        :param busy: with what: :data:`ADDING`, where a program that ends now leaves a torn transition, or :data:`GOING_BACK`
        """
        if self.counters is not None:
            self.counters[:] = self.pos, self.n_added // self.n_positions, busy, self.identity
        self.is_adding = busy

    def _link_previous(self, rows: slice) -> None:
        """Let the transitions before ``rows`` end where these start, or keep their last observation elsewhere."""
        if not np.count_nonzero(self.goes_on) or self.n_positions == 1:
            return
        same, first = self.obs.equal(rows, self.newest), self.last_rows.start
        if same is True and np.count_nonzero(self.goes_on) == self.n_envs:
            self.follows[first : first + self.n_envs] = np.arange(rows.start, rows.stop) if self.n_envs > 1 else rows.start
            return
        starts_there = np.broadcast_to(same, self.n_envs)
        for env in np.flatnonzero(self.goes_on).tolist():
            self.follows[first + env] = rows.start + env if starts_there[env] else self._copy_newest(env)

    def interrupt(self, envs: np.ndarray | None = None) -> None:
        """See :meth:`~sb3_ddpg_ext.buffers.TransitionReplayBuffer.interrupt`."""
        first, ends = self.last_rows.start, self.goes_on if envs is None else self.goes_on & envs
        for env in np.flatnonzero(ends).tolist():
            self.follows[first + env] = self._copy_newest(env)
            self.goes_on[env] = False

    def _end_episodes(self, rows: slice, done: np.ndarray, timeouts: list[bool] | None) -> None:
        for env in np.flatnonzero(done).tolist():
            self.follows[rows.start + env] = self._copy_newest(env)
            self.goes_on[env] = False
            if timeouts is not None and timeouts[env]:
                self.timeouts[rows.start + env] = True
                self._incoming[env, -1] = 0.0

    def _copy_newest(self, env: int) -> int:
        """Copy the observation after the newest transition to a row of its own, and return that."""
        return self.obs.copy_behind(self.newest.start + env)

    def array(self, column: Any, rows: slice | np.ndarray) -> np.ndarray:
        """:return: rows of a column, of shape (n_positions, n_envs, ...)"""
        array = column.array(rows)
        return array.reshape(self.n_positions, self.n_envs, *array.shape[1:])

    def observations(self) -> Any:
        """(n_positions, n_envs, ...), or a dict of such; copies, of stacked frames and from other devices, are read-only."""
        rows = slice(self.n_rows)
        arrays = {key: self.array(column, rows) for key, column in self.obs.columns.items()}
        for key in (key for key, column in self.obs.columns.items() if column.view is None):
            read_only(arrays[key])
        return arrays if self.obs.is_dict else arrays[""]

    def next_observations(self) -> Any:
        """The same of those that follow. All of them are copies, and read-only."""
        arrays = {key: read_only(self.array(column, self.follows)) for key, column in self.obs.columns.items()}
        return arrays if self.obs.is_dict else arrays[""]

    def reset(self) -> None:
        """Forget all transitions."""
        self.n_added = self.identity = 0
        if self.forks is not None:
            self.forks[:] = 0
        self.goes_on[:] = False
        self.obs.reset()
        self.note()

    def layout(self) -> dict[str, Any]:
        """What a file or a folder must agree with to hold these transitions, as JSON has it."""
        return dict(
            buffer_size=self.n_positions,
            n_envs=self.n_envs,
            observations=self.obs.layout(),
            action_dim=self.action_dim,
            arrays=["next", "timeouts"],
            frame_stack=self.obs.frame_stack,
        )

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` is to know beside the arrays, as JSON has it."""
        return dict(pos=self.pos, full=self.full, n_used=self.obs.n_used, goes_on=self.goes_on.tolist())

    def contents(self) -> dict[str, list[np.ndarray]]:
        """What has been written, without the room for more: arrays by name, each in parts that follow one another."""
        parts = self._written_parts()
        arrays = {"rest": [self.rest.array(parts[0])]} | self.obs.contents(parts)
        return arrays | {"next": [self.follows[parts[0]]], "timeouts": [self.timeouts[parts[0]]]}

    def _written_parts(self) -> list[slice]:
        return [slice(0, self.n_written), slice(self.n_rows, self.obs.n_used)]

    def restore(self, state: dict[str, Any], arrays: Mapping[str, Any]) -> None:
        """
        Take over what a storage of the same size has saved. This one has been empty until now.

        :param state: of that storage
        :param arrays: its contents, by name, of which slices are taken in order
        """
        self.n_added, self.obs.n_used = state["pos"] + self.n_positions * state["full"], state["n_used"]
        parts = self._written_parts()
        self.rest.restore(parts[:1], {"rows": arrays["rest"]}, self.n_envs)
        self.obs.restore(parts, arrays, self.n_envs)
        self.follows[parts[0]] = np.asarray(arrays["next"])
        self.timeouts[parts[0]] = np.asarray(arrays["timeouts"])
        self.goes_on[:] = state["goes_on"]
        self.obs.forget_unused(self.follows[parts[0]])
        self.identity = 0 if self.folder is None else new_identity()
        self.note()

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: what has been written, in memory."""
        contents = {name: np.concatenate(parts) for name, parts in self.contents().items()}
        left_out = dict.fromkeys(("rest", "follows", "timeouts", "folder", "counters", "forks"))
        return self.__dict__ | left_out | {"contents": contents, "state": self.state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        contents, own = state.pop("contents"), state.pop("state")
        self.__dict__.update(state)
        self.goes_on, self.n_added, self.is_adding, self.identity = np.zeros(self.n_envs, bool), 0, 0, 0
        self.repeated = None
        self.allocate()
        self.restore(own, contents)


def new_identity() -> int:
    """A number that no other contents of a folder have."""
    return 1 + secrets.randbelow(2**62)
