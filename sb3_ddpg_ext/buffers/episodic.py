"""A replay buffer that knows of each transition where in its episode it is."""

from collections.abc import Collection
from typing import Any

import numpy as np

from sb3_ddpg_ext.buffers.transitions import TransitionReplayBuffer


class EpisodicReplayBuffer(TransitionReplayBuffer):
    """
    :class:`TransitionReplayBuffer` for subclasses that look around in episodes.

    An episode is what goes on from one transition to the next: it ends at ``done``, and where a training was interrupted.
    """

    _per_row = (*TransitionReplayBuffer._per_row, "_before", "_after")
    _derived = ("_after",)

    def _allocate(self, n_used: int) -> None:
        super()._allocate(n_used)
        self._before = np.zeros(self._n_rows, np.int32)  # transitions of the same episode before each
        self._after = np.zeros(self._n_rows, np.int32)  # and after it; -1 in an episode that may go on
        self._age = np.zeros(self.n_envs, np.int64)  # of the present episodes, in transitions

    def _derive(self, arrays: Collection[str]) -> None:
        super()._derive(arrays)
        n = self.n_written // self.n_envs
        if not n:
            return
        positions = np.roll(np.arange(n), -self.pos) if self.full else np.arange(n)  # the oldest first
        rows = positions[:, None] * self.n_envs + np.arange(self.n_envs)
        times = np.arange(n)[:, None]
        begins = np.vstack([np.ones((1, self.n_envs), bool), self._next[rows[:-1]] != rows[1:]])
        starts = np.maximum.accumulate(np.where(begins, times, 0), axis=0)
        if "before" not in arrays:
            self._before[rows] = times - starts
        ends = np.vstack([begins[1:], np.ones((1, self.n_envs), bool)])
        ends = np.minimum.accumulate(np.where(ends, times, n)[::-1], axis=0)[::-1]
        self._after[rows] = np.where(ends == n - 1, -1, ends - times)
        self._age = self._before[rows[-1]].astype(np.int64) + 1

    def _added(self, rows: slice, infos: list[dict[str, Any]]) -> None:
        super()._added(rows, infos)
        previous = (rows.start - self.n_envs) % self._n_rows
        goes_on = self._next[previous : previous + self.n_envs] == np.arange(rows.start, rows.stop)
        goes_on &= rows.start > 0 or self.full  # nothing has come before the first
        for env in np.flatnonzero(~goes_on & (self._age > 0)).tolist():
            n = min(int(self._age[env]), self.buffer_size - 1)  # what has not been overwritten
            self._after[(previous + env - self.n_envs * np.arange(n)) % self._n_rows] = np.arange(n)
        self._age = np.where(goes_on, self._age, 0) + 1
        self._before[rows], self._after[rows] = self._age - 1, -1

    def reset(self) -> None:
        super().reset()
        self._age[:] = self._after[:] = 0

    def _n_after(self, rows: np.ndarray) -> np.ndarray:
        """How many transitions of the same episode come after each, until now."""
        known = self._after.take(rows)
        return np.where(known < 0, (self.pos - 1 - rows // self.n_envs) % self.buffer_size, known)

    def _n_before(self, rows: np.ndarray) -> np.ndarray:
        """How many before it are still there."""
        positions = rows // self.n_envs
        n_older = (positions - self.pos) % self.buffer_size if self.full else positions
        return np.minimum(self._before.take(rows), n_older)
