"""A binary tree of sums, for drawing in proportion to a priority."""

from typing import Any

import numpy as np

from sb3_ddpg_ext.validation import MAX_ROWS, check_integer


class SumTree:
    """
    Values >= 0 in the leaves of a binary tree whose nodes hold the sum of what is below them, all operations on many at once.

    Each sum is that of its two children and never a running total, so rounding errors do not accumulate. Sums are brought up
    to date when they are asked for.

    :param n: number of values, all 0 at first
    """

    def __init__(self, n: int):
        self.n = n
        self._first = 1 << max(n - 1, 1).bit_length()  # of the leaves; node i has the children 2i and 2i + 1
        self._nodes = np.zeros(2 * self._first)
        self._changed: list[np.ndarray] | None = []  # leaves; None for most of them

    @property
    def values(self) -> np.ndarray:
        """Of the leaves, shape (n,)."""
        return self._nodes[self._first : self._first + self.n]

    @property
    def total(self) -> float:
        self._update()
        return float(self._nodes[1])

    def set(self, indices: np.ndarray, values: np.ndarray | float) -> None:
        """
        :param indices: which, of shape (m,); of one that occurs twice the last value stays
        :param values: finite and >= 0
        """
        leaves = indices + self._first
        self._nodes[leaves] = values
        if self._changed is not None:
            self._changed.append(leaves)
            if len(self._changed) > self._first // 16 + 64:
                self._changed = None

    def find(self, sums: np.ndarray) -> np.ndarray:
        """
        The indices i with values[:i].sum() <= sum < values[:i + 1].sum(); never one whose value is 0.

        :param sums: from 0 to the total, of shape (m,)
        """
        self._update()
        nodes, rest = np.ones(len(sums), np.int64), sums.astype(np.float64)
        while nodes[0] < self._first:  # all are on one level
            nodes *= 2
            left = self._nodes.take(nodes)
            goes_right = (rest >= left) & (self._nodes.take(nodes + 1) > 0)  # the second matters where rounding is
            rest -= left * goes_right
            nodes += goes_right
        return nodes - self._first

    def _update(self) -> None:
        changed, self._changed = self._changed, []
        nodes = None if changed is None else np.concatenate(changed) if changed else np.empty(0, np.int64)
        if nodes is None or len(nodes) > self._first // 16 + 64:
            self._build()
            return
        while len(nodes) and nodes[0] > 1:
            nodes >>= 1
            self._nodes[nodes] = self._nodes.take(2 * nodes) + self._nodes.take(2 * nodes + 1)

    def _build(self) -> None:
        first = self._first
        while first > 1:
            self._nodes[first // 2 : first] = self._nodes[first : 2 * first].reshape(-1, 2).sum(axis=1)
            first //= 2

    def __getstate__(self) -> dict[str, Any]:
        """The leaves up to the last that is not 0: a buffer may be nearly empty."""
        used = np.flatnonzero(self.values)
        return {"n": self.n, "values": self.values[: used[-1] + 1 if len(used) else 0].copy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The sums are worked out when they are asked for: until then a large tree from a file takes no memory."""
        self.__init__(check_integer("n", state["n"], 0, MAX_ROWS))  # type: ignore[misc]
        self.values[: len(state["values"])] = state["values"]
        self._changed = None
