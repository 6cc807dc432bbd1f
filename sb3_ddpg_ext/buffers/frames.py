"""Stacked frames, each stored once."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th

from sb3_ddpg_ext.buffers.column import Column, NewArray, chunks, in_memory, join, saved_rows

BLANK = 0  # the frame that a row without any has


def frame_axis(shape: tuple[int, ...], n_frames: int, channels_first: bool) -> int | None:
    """
    The axis along which frames may have been stacked: that of the channels, as ``VecFrameStack`` does, or a first axis of
    that length, as gymnasium's ``FrameStackObservation`` does.

    :param shape: of an observation
    :param n_frames: how many
    :param channels_first: whether it is an image with the channels in front
    :return: None if there is none
    """
    if not shape:
        return None
    axis = 0 if shape[0] == n_frames or channels_first else len(shape) - 1
    return axis if shape[axis] % n_frames == 0 else None


class FrameStackColumn:
    """
    A :class:`Column` for stacks of frames. Two stacks that follow one another have all frames but one in common.

    A row holds the numbers of its frames. A frame is stored once if the row written before has it, too, in the same place or
    one further on; any other frame is stored anew. So every observation is read as it was written. Only the memory that it
    takes depends on whether it is a stack. What stops a method in the middle, such as Ctrl-C, may leave a frame that is never
    used again, but none that is in use and taken for free.

    :param name: of the arrays
    :param n_rows: how many
    :param shape: of one row
    :param dtype: of NumPy
    :param device: where the frames lie
    :param n_frames: of a row
    :param axis: along which they are stacked
    :param new_array: makes the arrays, in memory or in files
    """

    stacks_frames = True
    view = None  # rows are put together when they are read

    def __init__(
        self,
        name: str,
        n_rows: int,
        shape: tuple[int, ...],
        dtype: Any,
        device: th.device,
        n_frames: int,
        axis: int,
        new_array: NewArray = in_memory,
    ):
        self.name, self.shape, self.n_frames, self.axis = name, shape, n_frames, axis
        frame = tuple(length // n_frames if i == axis else length for i, length in enumerate(shape))
        self.frames = Column(f"{name}.frames", n_rows + 16, frame, dtype, device, new_array)
        self._new_array = new_array
        self.index = self._new_index(n_rows)
        self._recount()

    def _new_index(self, n_rows: int) -> np.ndarray:
        return self._new_array(f"{self.name}.index", (n_rows, self.n_frames), np.int32)

    def _recount(self) -> None:
        """Count how often each frame is used, and find those that are not."""
        self._uses = np.bincount(self.index.reshape(-1), minlength=self.frames.n_rows)
        self._n_used = 1 + max(int(self.index.max(initial=BLANK)), BLANK)
        self._free = (1 + np.flatnonzero(self._uses[1 : self._n_used] == 0)).tolist()
        self._last: tuple[np.ndarray, np.ndarray] | None = None  # the frames written last, and their numbers

    @property
    def n_rows(self) -> int:
        return len(self.index)

    @property
    def dtype(self) -> np.dtype:
        return self.frames.dtype

    @property
    def nbytes(self) -> int:
        return self.frames.nbytes + self.index.nbytes

    def write(self, rows: slice, values: np.ndarray) -> None:
        """
        :param rows: of the environments, one for each
        :param values: of shape (n, *shape)
        """
        split = (*self.shape[: self.axis], self.n_frames, self.frames.shape[self.axis], *self.shape[self.axis + 1 :])
        frames = np.moveaxis(np.asarray(values, self.dtype).reshape(len(values), *split), 1 + self.axis, 1)
        index = np.zeros(frames.shape[:2], np.int32)
        last, self._last = self._last, None  # whose numbers may be given to others from here on
        if last is not None and len(last[1]) == len(index):
            last_frames, last_index = last
            stays, moves = _equal(frames, last_frames), _equal(frames[:, :-1], last_frames[:, 1:])
            index[:, :-1][moves] = last_index[:, 1:][moves]
            index[stays] = last_index[stays]
            index[self._uses[index] == 0] = BLANK  # the row may have been overwritten since
        for env, place in zip(*np.nonzero(index == BLANK), strict=True):
            if place and np.array_equal(frames[env, place], frames[env, place - 1]):
                index[env, place] = index[env, place - 1]
            else:
                index[env, place] = self._store(frames[env, place])
        self._point(rows, index)
        self._last = frames.copy(), index

    def _store(self, frame: np.ndarray) -> int:
        if self._free:
            number = self._free.pop()
        else:
            number = self._n_used
            if number == self.frames.n_rows:
                n_rows = number + number // 8 + 16
                self._uses = np.pad(self._uses[:number], (0, n_rows - number))
                self.frames.grow(n_rows)
            self._n_used = number + 1  # when there is room for it, whatever stops this
        self.frames.write(slice(number, number + 1), frame[None])
        return number

    def _point(self, rows: slice, index: np.ndarray) -> None:
        """Let rows have these frames, and free the frames that no row has any more."""
        before = self.index[rows].reshape(-1).copy()
        np.add.at(self._uses, index.reshape(-1), 1)
        self.index[rows] = index
        np.subtract.at(self._uses, before, 1)
        self._free.extend(number for number in set(before[self._uses[before] == 0].tolist()) if number != BLANK)

    def copy_row(self, to: int, row: int) -> None:
        self._point(slice(to, to + 1), self.index[row : row + 1].copy())

    def equal(self, rows: slice, others: slice) -> np.ndarray | bool:
        """Which of ``rows`` equal their counterparts in ``others``; True for all."""
        if np.array_equal(self.index[rows], self.index[others]):
            return True
        mine, its = (self.gather(np.arange(each.start, each.stop)) for each in (rows, others))
        return (mine == its).flatten(1).all(1).numpy(force=True)

    def gather(self, rows: np.ndarray) -> th.Tensor:
        """Copies of ``rows``."""
        frames = self.frames.gather(self.index.take(rows, axis=0).reshape(-1))
        return join(frames.view(len(rows), self.n_frames, *self.frames.shape), self.shape)

    def array(self, rows: slice | np.ndarray) -> np.ndarray:
        return self.gather(np.arange(self.n_rows)[rows]).numpy(force=True)

    def grow(self, n_rows: int) -> None:
        index = self._new_index(n_rows)
        if self._new_array is in_memory:
            index[: len(self.index)] = self.index
        self.index = index

    def reset(self) -> None:
        self.index[:] = BLANK
        self._recount()

    def contents(self, parts: list[slice]) -> dict[str, list[np.ndarray]]:
        frames = self.frames.array(slice(self._n_used))
        return {"frames": [frames], "index": [self.index[part] for part in parts]}

    def restore(self, parts: list[slice], contents: Mapping[str, Any], n_envs: int) -> None:
        self.reset()
        if "rows" in contents or contents["index"].shape[1] != self.n_frames:
            for rows, saved in chunks(parts, n_envs):
                self.write(rows, saved_rows(contents, saved, self.shape))
        else:
            n = len(contents["frames"])
            if n > self.frames.n_rows:
                self.frames.grow(n + 16)
            self.frames.restore([slice(0, n)], {"rows": contents["frames"]}, n_envs)
            for rows, saved in chunks(parts):
                self.index[rows] = contents["index"][saved]
        self._recount()


def _equal(frames: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which frames equal their counterparts, of shape (n, n_frames)."""
    return (frames == others).reshape(*frames.shape[:2], -1).all(-1)
