"""Losses on their way to the log."""

from typing import Any

import torch as th
from stable_baselines3.common.logger import Logger


class LossLog:
    """
    Means of losses over the updates since the log was last written.

    Losses stay tensors on their device until :meth:`record` turns their sums into floats: an update waits for no number.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Any] = {}
        self._counts: dict[str, int] = {}
        self._recorded: dict[str, tuple[float, int]] = {}  # sums and counts that the logger holds

    def add(self, losses: dict[str, Any]) -> None:
        """:param losses: of an update, each a number or a tensor of shape ()"""
        for name, loss in losses.items():
            count = self._counts.get(name, 0)
            self._sums[name] = self._sums[name] + loss if count else loss
            self._counts[name] = count + 1

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` takes, for a training that goes on from a checkpoint."""
        return dict(sums=dict(self._sums), counts=dict(self._counts), recorded=dict(self._recorded))

    def restore(self, state: dict[str, Any], device: th.device) -> None:
        """
        :param state: of :meth:`state`
        :param device: of the losses
        """
        self._sums = {name: value.to(device) if th.is_tensor(value) else value for name, value in state["sums"].items()}
        self._counts, self._recorded = state["counts"], state["recorded"]

    def record(self, logger: Logger) -> bool:
        """
        Put the mean of each loss under ``train/`` into a logger, which forgets them when it is dumped.

        :param logger: always the same one
        :return: whether there was a loss since the last time
        """
        if not self._counts:
            return False
        for name, count in self._counts.items():
            key = f"train/{name}"
            total, n = self._recorded.get(name, (0.0, 1))
            if logger.name_to_value.get(key) != total / n:  # dumped since
                total, n = 0.0, 0
            total, n = total + float(self._sums[name]), n + count
            logger.record(key, total / n)
            self._recorded[name] = total, n
        self._counts = {}
        return True
