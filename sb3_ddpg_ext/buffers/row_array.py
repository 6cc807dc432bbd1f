"""One value for each transition."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sb3_ddpg_ext.buffers.column import in_memory
from sb3_ddpg_ext.buffers.storage import Storage


class RowArray:
    """
    An array with one value for each transition that a storage has room for. A part of a replay buffer keeps its own values so.

    :param storage: whose rows they are
    :param name: in files
    :param shape: of one value
    :param dtype: of NumPy
    :param file: its name in the folder of the storage, where that has one; None to keep it in memory
    """

    def __init__(self, storage: Storage, name: str, shape: tuple[int, ...], dtype: Any, file: str | None = None):
        self.storage, self.name = storage, name
        make = in_memory if file is None else storage.new_array
        self.values = make(file or name, (storage.n_rows, *shape), dtype)

    @property
    def nbytes(self) -> int:
        return self.values.nbytes

    def contents(self) -> dict[str, list[np.ndarray]]:
        """As :meth:`Storage.contents`."""
        return {self.name: [self.values[: self.storage.n_written]]}

    def restore(self, arrays: Mapping[str, Any]) -> bool:
        """
        :param arrays: as for :meth:`Storage.restore`, which has been called
        :return: whether it was among them and had this shape; if not, it repeats what a mended storage repeats
        """
        saved = arrays.get(self.name)
        if saved is None or saved.shape != (self.storage.n_written, *self.values.shape[1:]):
            self.repeat()
            return False
        self.values[: self.storage.n_written] = np.asarray(saved)
        return True

    def repeat(self) -> None:
        """Have the same values in the rows that the storage repeats."""
        if self.storage.repeated is not None:
            rows, source = self.storage.repeated
            self.values[rows] = self.values[source]

    def __getstate__(self) -> dict[str, Any]:
        written = self.values[: self.storage.n_written].copy()
        return dict(storage=self.storage, name=self.name, written=written)

    def __setstate__(self, state: dict[str, Any]) -> None:
        written = state["written"]
        self.__init__(state["storage"], state["name"], written.shape[1:], written.dtype)  # type: ignore[misc]
        self.values[: len(written)] = written
