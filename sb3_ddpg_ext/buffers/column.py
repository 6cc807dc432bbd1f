"""Rows of a replay buffer: written by NumPy, gathered for torch."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch as th

from sb3_ddpg_ext.validation import naming

# A new array, of zeros, for a name, a shape and a type.
NewArray = Callable[[str, tuple[int, ...], Any], np.ndarray]
CHUNK = 1024  # rows restored at once


def in_memory(name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """NumPy's zeros take no memory until they are written."""
    return np.zeros(shape, dtype)


class Column:
    """
    Rows of one shape and type in a tensor, on the CPU or on another device.

    :param name: of the array
    :param n_rows: how many
    :param shape: of one row
    :param dtype: of NumPy
    :param device: where they lie
    :param new_array: makes the array, in memory or in a file
    """

    stacks_frames = False

    def __init__(
        self,
        name: str,
        n_rows: int,
        shape: tuple[int, ...],
        dtype: Any,
        device: th.device,
        new_array: NewArray = in_memory,
    ):
        self.name, self.shape, self.dtype, self.device = name, shape, np.dtype(dtype), device
        self.new_array = new_array
        self._use(self._made(n_rows))

    def _made(self, n_rows: int) -> th.Tensor:
        return th.from_numpy(self.new_array(self.name, (n_rows, *self.shape), self.dtype)).to(self.device)

    def _use(self, tensor: th.Tensor) -> None:
        self.tensor, self.view = tensor, tensor.numpy() if self.device.type == "cpu" else None

    @property
    def n_rows(self) -> int:
        return len(self.tensor)

    @property
    def nbytes(self) -> int:
        return self.tensor.nbytes

    def write(self, rows: slice | np.ndarray, values: np.ndarray) -> None:
        if self.view is not None:
            self.view[rows] = values
        else:
            self.tensor[rows] = th.as_tensor(values).to(self.tensor.device, self.tensor.dtype)

    def copy_row(self, to: int, row: int) -> None:
        self.tensor[to] = self.tensor[row]

    def equal(self, rows: slice, others: slice) -> np.ndarray | bool:
        """Which of ``rows`` equal their counterparts in ``others``; True for all."""
        if self.view is None:
            return (self.tensor[rows] == self.tensor[others]).flatten(1).all(1).cpu().numpy()
        mine, its = self.view[rows], self.view[others]
        if mine.tobytes() == its.tobytes():
            return True
        return (mine == its).reshape(len(mine), -1).all(1)

    def gather(self, rows: np.ndarray) -> th.Tensor:
        """Copies of ``rows``."""
        if self.view is not None:
            return th.from_numpy(self.view.take(rows, axis=0))
        return self.tensor.index_select(0, th.from_numpy(rows).to(self.tensor.device))

    def array(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return ``rows`` as an array, which is a view where they are a slice on the CPU."""
        return self.tensor[rows].cpu().numpy() if self.view is None else self.view[rows]

    def grow(self, n_rows: int) -> None:
        """Make room for more rows. What stops it in the middle, such as Ctrl-C, leaves the rows that there were."""
        tensor = self._made(n_rows)
        if self.new_array is in_memory:  # a file holds what it held
            tensor[: len(self.tensor)] = self.tensor
        self._use(tensor)

    def reset(self) -> None:
        """Forget all rows: nothing to do where they are overwritten anyway."""

    def contents(self, parts: list[slice]) -> dict[str, list[np.ndarray]]:
        """What is to be saved of these rows: arrays by name, each in parts that follow one another."""
        return {"rows": [self.array(part) for part in parts]}

    def restore(self, parts: list[slice], contents: Mapping[str, Any], n_envs: int) -> None:
        """
        Write what a column of this class or another has saved.

        :param parts: the rows, as when they were saved
        :param contents: arrays by name, of which slices are taken in order
        :param n_envs: rows that had been written together
        """
        if "rows" not in contents:
            contents = {name: np.asarray(array) for name, array in contents.items()}
        for rows, saved in chunks(parts):
            self.write(rows, saved_rows(contents, saved, self.shape))


def chunks(parts: list[slice], n: int = CHUNK) -> Iterator[tuple[slice, slice]]:
    """Yield at most ``n`` rows at a time, and their place in an array that holds all parts one after the other."""
    begin = 0
    for part in parts:
        for start in range(part.start, part.stop, n):
            rows = slice(start, min(start + n, part.stop))
            yield rows, slice(begin, begin + rows.stop - rows.start)
            begin += rows.stop - rows.start


def saved_rows(contents: Mapping[str, Any], rows: slice, shape: tuple[int, ...]) -> np.ndarray:
    """Read rows that a column has saved; their shape is (n, *shape)."""
    if "rows" in contents:
        return contents["rows"][rows]
    return join(contents["frames"][contents["index"][rows]], shape)


def join(frames: Any, shape: tuple[int, ...]) -> Any:
    """
    :param frames: of shape (n, n_frames, *frame_shape), an array or a tensor
    :param shape: of one observation, in which they lie one behind the other along the axis that is longer
    """
    axis = next((i for i, (whole, one) in enumerate(zip(shape, frames.shape[2:], strict=True)) if whole != one), 0)
    moved = np.moveaxis(frames, 1, 1 + axis) if isinstance(frames, np.ndarray) else frames.movedim(1, 1 + axis)
    return moved.reshape(len(frames), *shape)


def checked_device(given: th.device | str) -> th.device:
    """
    :param given: a device, or its name
    :raises ValueError: if it is not there
    """
    with naming("storage_device", given, "None or a device that is there"):
        device = th.device(given)
        th.zeros(1, device=device).item()
    return device


def read_only(array: np.ndarray) -> np.ndarray:
    """
    :param array: what was worked out or copied for who asks for it, so that writing to it would be lost
    :return: the same, in which writing is an error
    """
    array.flags.writeable = False
    return array
