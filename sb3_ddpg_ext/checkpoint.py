"""Checkpoints from which a training goes on as if it had never stopped."""

import warnings
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from sb3_ddpg_ext.checkpoints import CheckpointFile, find_checkpoint, sorted_checkpoints
from sb3_ddpg_ext.ddpg import DDPG
from sb3_ddpg_ext.files import written_whole
from sb3_ddpg_ext.recurrent import RecurrentDDPG
from sb3_ddpg_ext.validation import check_integer

CLASSES = {cls.__name__: cls for cls in (DDPG, RecurrentDDPG)}


def save(model: DDPG, path: str | Path, callback: BaseCallback | None = None) -> list[str]:
    """
    Save all that the rest of a training depends on, in one file: model, optimisers, noise, replay buffer, the environments in
    the middle of their episodes, random streams, callbacks. The file also is one of a model, for ``DDPG.load`` and rl_zoo3.

    An older file stays until the new one is whole. A replay buffer in a folder is not written again: the file has its
    position.

    :param model: outside ``learn``, or at the beginning of a rollout; :class:`ExactCheckpoint` sees to that
    :param path: the file, with ".zip" behind it if it has no suffix
    :param callback: of the present training, whose state is saved, too
    :return: why the continuation will not be exact; empty if it will. What most often stands in the way is an environment
        whose state cannot be pickled (Box2D, PyBullet), or is in other processes: see
        :class:`~sb3_ddpg_ext.wrappers.Resumable`
    :raises ValueError: if the networks are not finite
    """
    with written_whole(path, "zip") as file:
        return model.write_checkpoint(file, callback)


def resume(path: str | Path, env: Any, *, trusted: bool | None = None, **kwargs: Any) -> Any:
    """
    Load a checkpoint. ``learn(total_timesteps)``, with the ``total_timesteps`` of the training that was stopped and the same
    callbacks, then goes on to its end, bit for bit as if nothing had happened.

    :param path: a checkpoint, or a folder, of whose checkpoints the newest whole one is taken
    :param env: environments that are made as before
    :param trusted: see ``DDPG.load``; environments that are more than arrays and numbers, such as MuJoCo's, are pickles
    :param kwargs: other arguments of ``DDPG.load``
    :return: the model, a :class:`DDPG` or a :class:`RecurrentDDPG`
    :raises FileNotFoundError: if there is no checkpoint
    :raises ValueError: for another file, or other environments
    """
    found = find_checkpoint(path)
    name = CheckpointFile(found, trusted).state["class_name"]
    if name not in CLASSES:
        raise ValueError(f"path={str(found)!r} is of the class {name}: call its load(path, env=env)")
    return CLASSES[name].load(found, env=env, trusted=trusted, **kwargs)


class ExactCheckpoint(BaseCallback):
    """
    Save checkpoints on the way, ``checkpoint_1000_steps.zip`` and so on; :func:`resume` takes the folder.

    They are made between two rollouts, when the last transition has been stored and learnt from, and at the end of the
    training. For rl_zoo3: ``callback: - sb3_ddpg_ext.checkpoint.ExactCheckpoint: {path: checkpoints, every: 10000}``.

    :param path: folder, made if need be
    :param every: environment steps between two checkpoints
    :param keep: how many stay, the newest ones
    :param verbose: 1 to print each save
    """

    def __init__(self, path: str | Path, every: int = 10_000, keep: int = 2, verbose: int = 0):
        super().__init__(verbose)
        self.path = Path(path)
        self.every, self.keep = check_integer("every", every, at_least=1), check_integer("keep", keep, at_least=1)
        self._saved_at = 0
        self._has_warned = False

    def _on_training_start(self) -> None:
        self._saved_at = self.model.num_timesteps

    def _on_step(self) -> bool:
        return True

    def between_rollouts(self) -> None:
        """``learn`` calls it before the callbacks know of the next rollout, which they do once more in a new training."""
        if self.model.num_timesteps - self._saved_at >= self.every:
            self._save()

    def _on_training_end(self) -> None:
        if self.model.num_timesteps > self._saved_at:
            self._save()

    def _save(self) -> None:
        model: Any = self.model
        self._saved_at = model.num_timesteps
        self.path.mkdir(parents=True, exist_ok=True)
        file = self.path / f"checkpoint_{model.num_timesteps}_steps.zip"
        reasons = save(model, file, self._outermost())
        if reasons and not self._has_warned:
            self._has_warned = True
            warnings.warn(f"{file} will not go on exactly: {'; '.join(reasons)}", stacklevel=4)
        for old in sorted_checkpoints(self.path)[: -self.keep]:
            old.unlink(missing_ok=True)
        if self.verbose > 0:
            print(f"Checkpoint after {model.num_timesteps} steps: {file}")

    def _outermost(self) -> BaseCallback:
        """The callback of the training, of which this one is a part."""
        callback: BaseCallback = self.locals.get("callback", self)
        return callback if isinstance(callback, BaseCallback) else self
