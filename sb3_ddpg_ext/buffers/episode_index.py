"""Where in its episode each transition is."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sb3_ddpg_ext.buffers.row_array import RowArray
from sb3_ddpg_ext.buffers.storage import Storage

BEFORE_OLDEST = "before_oldest"  # of each environment, transitions of the same episode before the oldest that is there


class EpisodeIndex:
    """
    How many transitions of the same episode come before and after each.

    An episode is what goes on from one transition to the next: it ends at ``done``, and where a training was interrupted.

    :param storage: of the transitions
    """

    def __init__(self, storage: Storage):
        self.storage = storage
        self._before = RowArray(storage, "before", (), np.int32)
        self._after = RowArray(storage, "after", (), np.int32)  # -1 in an episode that may go on
        self._age = np.zeros(storage.n_envs, np.int64)  # of the present episodes, in transitions

    @property
    def nbytes(self) -> int:
        return self._before.nbytes + self._after.nbytes

    @property
    def before(self) -> np.ndarray:
        """Transitions of the same episode before each, also those that have been overwritten; of shape (n_rows,)."""
        return self._before.values

    @property
    def after(self) -> np.ndarray:
        """Transitions of the same episode after each; -1 in an episode that may go on."""
        return self._after.values

    def added(self, rows: slice) -> None:
        """:param rows: that the storage has just written"""
        storage = self.storage
        previous = (rows.start - storage.n_envs) % storage.n_rows
        goes_on = storage.follows[previous : previous + storage.n_envs] == np.arange(rows.start, rows.stop)
        goes_on &= rows.start > 0 or storage.full  # nothing has come before the first
        for env in np.flatnonzero(~goes_on & (self._age > 0)).tolist():
            n = min(int(self._age[env]), storage.n_positions - 1)  # what has not been overwritten
            self.after[(previous + env - storage.n_envs * np.arange(n)) % storage.n_rows] = np.arange(n)
        self._age = np.where(goes_on, self._age, 0) + 1
        self.before[rows], self.after[rows] = self._age - 1, -1

    def reset(self) -> None:
        """There are no transitions any more."""
        self._age[:] = self.after[:] = 0

    def contents(self) -> dict[str, list[np.ndarray]]:
        """As :meth:`Storage.contents`. ``after`` is not saved, since it can be worked out."""
        return self._before.contents()

    def before_oldest(self) -> np.ndarray:
        """What :meth:`restore` needs where ``before`` is missing and old transitions have been overwritten, (n_envs,)."""
        first = self.storage.next_rows.start if self.storage.full else 0
        return self.before[first : first + self.storage.n_envs].copy()

    def restore(self, arrays: Mapping[str, Any]) -> None:
        """
        Follow the storage, which has been restored or opened again.

        :param arrays: contents by name, in which ``before`` may be missing; then there may be ``before_oldest``
        """
        storage = self.storage
        knows_before = self._before.restore(arrays)
        n = storage.n_filled
        if not n:
            return
        positions = np.roll(np.arange(n), -storage.pos) if storage.full else np.arange(n)  # the oldest first
        rows = positions[:, None] * storage.n_envs + np.arange(storage.n_envs)
        times = np.arange(n)[:, None]
        begins = np.vstack([np.ones((1, storage.n_envs), bool), storage.follows[rows[:-1]] != rows[1:]])
        starts = np.maximum.accumulate(np.where(begins, times, 0), axis=0)
        if not knows_before:
            self.before[rows] = times - starts + np.where(starts == 0, arrays.get(BEFORE_OLDEST, 0), 0)
        ends = np.vstack([begins[1:], np.ones((1, storage.n_envs), bool)])
        ends = np.minimum.accumulate(np.where(ends, times, n)[::-1], axis=0)[::-1]
        self.after[rows] = np.where(ends == n - 1, -1, ends - times)
        self._age = self.before[rows[-1]].astype(np.int64) + 1

    def n_after(self, rows: np.ndarray) -> np.ndarray:
        """:return: how many transitions of the same episode come after each, until now"""
        known = self.after.take(rows)
        storage = self.storage
        return np.where(known < 0, (storage.pos - 1 - rows // storage.n_envs) % storage.n_positions, known)

    def n_before(self, rows: np.ndarray) -> np.ndarray:
        """:return: how many before it are still there"""
        storage, positions = self.storage, rows // self.storage.n_envs
        n_older = (positions - storage.pos) % storage.n_positions if storage.full else positions
        return np.minimum(self.before.take(rows), n_older)
