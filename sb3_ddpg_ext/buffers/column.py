"""Rows of a replay buffer: written by NumPy, gathered for torch."""

from typing import Any

import numpy as np
import torch as th


class Column:
    """
    Rows of one shape and type in a tensor, on the CPU or on another device.

    :param n_rows: how many
    :param shape: of one row
    :param dtype: of NumPy
    :param device: where they lie
    """

    def __init__(self, n_rows: int, shape: tuple[int, ...], dtype: Any, device: th.device):
        rows = th.from_numpy(np.zeros((n_rows, *shape), dtype))  # NumPy's zeros take no memory until they are written
        self.shape = shape
        self.tensor = rows.to(device)
        self.view = self.tensor.numpy() if device.type == "cpu" else None

    def write(self, rows: slice | np.ndarray, values: np.ndarray) -> None:
        if self.view is not None:
            self.view[rows] = values
        else:
            self.tensor[rows] = th.as_tensor(values).to(self.tensor.device, self.tensor.dtype)

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

    def numpy(self) -> np.ndarray:
        return self.tensor.cpu().numpy() if self.view is None else self.view

    def resized(self, n_rows: int) -> "Column":
        """A copy with room for more rows."""
        other = Column(n_rows, self.shape, self.numpy().dtype, self.tensor.device)
        other.tensor[: len(self.tensor)] = self.tensor
        return other
