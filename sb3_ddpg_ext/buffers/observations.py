"""The observations of a replay memory, each stored once."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_obs_shape, is_image_space, is_image_space_channels_first

from sb3_ddpg_ext.buffers.column import Column, NewArray
from sb3_ddpg_ext.buffers.frames import FrameStackColumn, frame_axis
from sb3_ddpg_ext.observations import has_keys, parts_of
from sb3_ddpg_ext.validation import check_integer

STORED_AS = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64}  # torch has no arithmetic for unsigned ones


class Observations:
    """
    Rows of observations: a fixed number of them, and behind these as many more as are needed.

    Images stay ``uint8``, 64-bit floats become 32-bit.

    :param space: also ``Dict``, of which each entry has a column of its own
    :param n_fixed: how many rows there are in any case
    :param n_extra: how many more there will be, roughly
    :param keep_float64: store 64-bit floats as they are, all of them or those of these keys
    :param frame_stack: how many frames an observation consists of, each of which is stored once; right for any observation
    """

    def __init__(
        self,
        space: spaces.Space,
        n_fixed: int,
        n_extra: int,
        keep_float64: bool | tuple[str, ...] = False,
        frame_stack: int = 1,
    ):
        self.is_dict, self._spaces = has_keys(space), parts_of(space)
        self.n_fixed, self.n_used, self._n_extra = n_fixed, n_fixed, n_extra
        self.free: list[int] = []  # rows behind the fixed ones that are not needed any more
        self.keep_float64 = keep_float64
        self.frame_stack = check_integer("frame_stack", frame_stack, at_least=1)

    def allocate(self, device: th.device, new_array: NewArray) -> None:
        """
        Make the columns.

        :param device: where they lie
        :param new_array: makes their arrays, in memory or in files
        """
        n_rows = self.n_used + max(self._n_extra // 16, 16)
        self.columns = {key: self._make_column(key, space, n_rows, device, new_array) for key, space in self._spaces.items()}

    def _make_column(
        self, key: str, space: spaces.Space, n_rows: int, device: th.device, new_array: NewArray
    ) -> Column | FrameStackColumn:
        shape: Any = get_obs_shape(space)
        name, dtype = array_prefix(key).replace("/", ".") + "rows", self._stored_as(key, space.dtype)
        if self.frame_stack > 1:
            is_first = is_image_space(space) and is_image_space_channels_first(space)  # type: ignore[arg-type]
            axis = frame_axis(shape, self.frame_stack, is_first)
            if axis is not None:
                return FrameStackColumn(name, n_rows, shape, dtype, device, self.frame_stack, axis, new_array)
        return Column(name, n_rows, shape, dtype, device, new_array)

    def _stored_as(self, key: str, dtype: Any) -> np.dtype:
        kept = self.keep_float64 is True or (self.keep_float64 and key in self.keep_float64)
        if dtype == np.float64 and not kept:
            return np.dtype(np.float32)  # as which it enters the networks
        return np.dtype(STORED_AS.get(np.dtype(dtype).name, dtype))

    @property
    def stacks_frames(self) -> bool:
        """Whether some are stored frame by frame."""
        return any(column.stacks_frames for column in self.columns.values())

    @property
    def nbytes(self) -> int:
        return sum(column.nbytes for column in self.columns.values())

    def layout(self) -> dict[str, Any]:
        """Shape and type for each key, in values that JSON has."""
        return {
            key: [list(get_obs_shape(space)), self._stored_as(key, space.dtype).name]  # type: ignore[arg-type]
            for key, space in self._spaces.items()
        }

    def as_rows(self, observations: Any, n: int) -> list[np.ndarray]:
        """
        :param observations: n of them, or a dict of such; discrete ones have no dimension of their own
        :param n: their number
        :return: the rows of each column
        :raises ValueError: if a shape does not fit
        """
        parts = [(column, observations[key] if self.is_dict else observations) for key, column in self.columns.items()]
        return [np.asarray(part).reshape(n, *column.shape) for column, part in parts]

    def write(self, rows: slice, parts: list[np.ndarray]) -> None:
        """
        :param rows: where
        :param parts: what :meth:`as_rows` gave
        """
        for column, part in zip(self.columns.values(), parts, strict=True):
            column.write(rows, part)

    def equal(self, rows: slice, others: slice) -> np.ndarray | bool:
        """Which of ``rows`` equal their counterparts in ``others``; True for all."""
        same = [column.equal(rows, others) for column in self.columns.values()]
        if all(one is True for one in same):
            return True
        return np.logical_and.reduce([np.broadcast_to(one, rows.stop - rows.start) for one in same])

    def copy_behind(self, source: int) -> int:
        """
        Copy a row to a free one behind the fixed ones.

        :param source: the row
        :return: where the copy is
        """
        if self.free:
            row = self.free.pop()
        else:
            row = self.n_used
            self.n_used += 1
        for column in self.columns.values():
            if row >= column.n_rows:
                column.grow(row + max(self._n_extra // 8, 16))
        self.copy(row, source)
        return row

    def copy(self, to: int, source: int) -> None:
        """Copy one row to another."""
        for column in self.columns.values():
            column.copy_row(to, source)

    def gather(self, rows: np.ndarray) -> dict[str, th.Tensor]:
        """:return: copies of ``rows`` by key, which is "" where observations are no dicts"""
        return {key: column.gather(rows) for key, column in self.columns.items()}

    def forget_unused(self, follows: np.ndarray) -> None:
        """
        Work out which rows behind the fixed ones are free.

        :param follows: rows that are needed, of shape (n,), fixed ones among them
        """
        needed = set(follows[follows >= self.n_fixed].tolist())
        self.free = [row for row in range(self.n_fixed, self.n_used) if row not in needed]

    def reset(self) -> None:
        """Forget all rows."""
        self.n_used, self.free = self.n_fixed, []
        for column in self.columns.values():
            column.reset()

    def contents(self, parts: list[slice]) -> dict[str, list[np.ndarray]]:
        """What is to be saved of these rows: arrays by name, each in parts that follow one another."""
        return {
            f"{array_prefix(key)}{name}": each
            for key, column in self.columns.items()
            for name, each in column.contents(parts).items()
        }

    def restore(self, parts: list[slice], arrays: Mapping[str, Any], n_envs: int) -> None:
        """
        :param parts: the rows, the same as when they were saved; ``n_used`` has been set
        :param arrays: contents by name, of which slices are taken in order
        :param n_envs: rows that had been written together
        """
        for key, column in self.columns.items():
            if self.n_used > column.n_rows:
                column.grow(self.n_used + max(self._n_extra // 8, 16))
            own = array_prefix(key)
            saved = {name.removeprefix(own): arrays[name] for name in arrays if name.startswith(own)}
            column.restore(parts, saved, n_envs)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the columns out: the storage saves them and makes them again."""
        return {name: value for name, value in self.__dict__.items() if name != "columns"}


def array_prefix(key: str) -> str:
    """The beginning of the names of the arrays with these observations."""
    return f"observations/{quote(key, safe='')}/" if key else "observations/"
