"""What waits for the first ``learn()`` after a checkpoint was loaded."""

from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from sb3_ddpg_ext.checkpoints.file import CheckpointFile
from sb3_ddpg_ext.checkpoints.followers import restore_callbacks
from sb3_ddpg_ext.checkpoints.streams import restore_streams
from sb3_ddpg_ext.model_file import damage_named
from sb3_ddpg_ext.packing import CannotPack, check_readable

PENDING = ("name_to_value", "name_to_count", "name_to_excluded")  # of the logger, until it is dumped


def pending_logs(logger: Logger | None) -> dict[str, Any]:
    """:param logger: whose numbers are not dumped yet; None before a model has learnt. Figures and films are left out."""
    numbers: dict[str, Any] = {}
    for name in () if logger is None else PENDING:
        try:
            check_readable(dict(getattr(logger, name)))
            numbers[name] = dict(getattr(logger, name))
        except CannotPack:
            continue
    return numbers


class Resumption:
    """
    Lets a training go on where a checkpoint was made.

    :param checkpoint: the file
    """

    def __init__(self, checkpoint: CheckpointFile):
        self._state, self._trusted, self._name = checkpoint.state, checkpoint.trusted, checkpoint.name

    def remaining(self, total_timesteps: int | None, num_timesteps: int) -> int:
        """
        :param total_timesteps: of the whole training, as ``learn`` was given it; None for what it was
        :param num_timesteps: until now
        :return: environment steps that are left
        """
        return max((self._state["total_timesteps"] if total_timesteps is None else total_timesteps) - num_timesteps, 0)

    def apply(self, callback: BaseCallback, logger: Logger) -> bool:
        """
        Give callbacks, logger and random streams their states, when all that comes before the first step is done.

        :param callback: of the training
        :param logger: of the model
        :return: whether it is still in the warm-up that it was in
        :raises ValueError: if the file has what cannot be a state; it names it. What environments raise stays as it is
        """
        with damage_named(self._name):
            callbacks = [(name, dict(kept), dict(envs)) for name, kept, envs in self._state["callbacks"]]
            logs = {name: dict(self._state["logs"].get(name, {})) for name in PENDING}
            streams, is_past_warmup = self._state["streams"], self._state["is_past_warmup"]
        restore_callbacks(callback, callbacks, self._trusted)
        for name, pending in logs.items():
            getattr(logger, name).update(pending)
        with damage_named(self._name):
            restore_streams(streams)
        return is_past_warmup
