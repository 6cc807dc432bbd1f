"""Files of checkpoints: a model as its own files have it, and beside it what an exact continuation needs."""

import errno
import io
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback

from sb3_ddpg_ext.buffers import BufferFile, TransitionReplayBuffer, write_members
from sb3_ddpg_ext.checkpoints.environments import environment_state, may_unpickle
from sb3_ddpg_ext.checkpoints.followers import callback_states
from sb3_ddpg_ext.checkpoints.streams import stream_states
from sb3_ddpg_ext.files import opened
from sb3_ddpg_ext.model_file import check_trusted, damage_named
from sb3_ddpg_ext.packing import DAMAGE, CannotPack, Packer, check_archive, check_readable, read_packed, write_packed
from sb3_ddpg_ext.validation import check_instance

MEMBER, BUFFER, PICKLED_BUFFER = "checkpoint/state.json", "checkpoint/buffer/", "checkpoint/buffer.pkl"
FORMAT, VERSION = "sb3_ddpg_ext checkpoint", 1
NAME = re.compile(r"checkpoint_(\d+)_steps\.zip")


def write_checkpoint(
    file: BufferedIOBase,
    save_model: Callable[[BufferedIOBase], None],
    state: dict[str, Any],
    env: Any,
    buffer: ReplayBuffer | None,
    callback: BaseCallback | None,
    action_space: Any,
) -> list[str]:
    """
    :param file: open for writing
    :param save_model: writes the file of a model
    :param state: of the training, for :class:`~sb3_ddpg_ext.packing.Packer`
    :param env: the training environments
    :param buffer: the replay buffer; of one in a folder of its own the position is written
    :param callback: of the present training
    :param action_space: of the model, which environments may have, too
    :return: why it will not go on exactly; empty if it will
    """
    callbacks, reasons = callback_states(callback)
    environments = None
    try:
        environments = environment_state(env, [action_space])
    except ValueError as reason:
        reasons.append(f"{reason}: a new episode begins there")
    position = buffer.position() if isinstance(buffer, TransitionReplayBuffer) and buffer.is_on_disk else None
    around = dict(reasons=reasons, environments=environments, callbacks=callbacks, streams=stream_states(), folder=position)
    try:
        check_readable(state | around)
    except CannotPack as reason:
        reasons.append(f"its state can only be read with trusted=True ({reason})")
    model = io.BytesIO()
    save_model(model)
    with zipfile.ZipFile(model) as own, zipfile.ZipFile(file, "w") as archive:  # type: ignore[arg-type]
        for name in own.namelist():
            archive.writestr(name, own.read(name))
        packer = Packer()
        packed = packer.pack(dict(format=FORMAT, version=VERSION) | state | around)
        write_packed(archive, MEMBER, packed, packer)
        if isinstance(buffer, TransitionReplayBuffer) and position is None:
            write_members(archive, buffer, BUFFER)
        elif buffer is not None and position is None:
            with archive.open(PICKLED_BUFFER, "w", force_zip64=True) as stream:
                pickle.dump(buffer, stream, pickle.HIGHEST_PROTOCOL)  # as Stable-Baselines3 does
    return reasons


def is_checkpoint(path: Any) -> bool:
    """
    :param path: a file, which may be missing its suffix, or an open one
    :raises OSError: if it cannot be read
    """
    try:
        with opened(path, "zip") as file, zipfile.ZipFile(file) as archive:
            return MEMBER in archive.namelist()
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a place before the beginning, in a damaged file
            raise
        return False


def find_checkpoint(path: str | Path) -> Path:
    """
    :param path: a checkpoint, or a folder of some
    :return: the checkpoint itself, or the newest one that is whole
    :raises FileNotFoundError: if there is none
    :raises ValueError: for another file
    """
    path = Path(path)
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"path={str(path)!r} must be a checkpoint, or a folder with one")
        if not is_checkpoint(path):
            raise ValueError(f"path={str(path)!r} must be a checkpoint; it is another file")
        return path
    for each in sorted_checkpoints(path)[::-1]:
        try:
            with zipfile.ZipFile(each) as archive:
                check_archive(archive)
                if MEMBER in archive.namelist():
                    return each
        except DAMAGE:
            continue
    raise FileNotFoundError(f"path={str(path)!r} must be a checkpoint, or a folder with one; there is none that is whole")


def sorted_checkpoints(folder: Path) -> list[Path]:
    """:return: those in a folder, by their steps"""
    found = [(int(match[1]), each) for each in folder.iterdir() if (match := NAME.fullmatch(each.name))]
    return [each for _, each in sorted(found)]


class CheckpointFile:
    """
    What :func:`write_checkpoint` has written.

    :param path: the file
    :param trusted: False where none of its pickles is to be read, True where its parts may be repeated as often as they are
    :raises ValueError: if it is damaged
    """

    def __init__(self, path: Any, trusted: bool | None = None):
        self.path, self.name, self.trusted = path, str(path), trusted
        with damage_named(self.name), opened(path, "zip") as file, zipfile.ZipFile(file) as archive:
            check_archive(archive)
            packed, unpacker = read_packed(archive, MEMBER, trusted)
            self._has_pickled_environments = may_unpickle(packed)
            self.state: dict[str, Any] = unpacker.unpack(packed)
            self.has_pickled_buffer = PICKLED_BUFFER in archive.namelist()
            if self.state["format"] != FORMAT or self.state["version"] not in range(1, VERSION + 1):
                raise ValueError(f"its format must be {FORMAT!r}, version {VERSION}")
            check_instance("class_name", self.state["class_name"], str, "the name of a class")

    @property
    def pickles(self) -> list[str]:
        """What in it is a pickle, beside what the model has."""
        return ["the environments"] * self._has_pickled_environments + ["the replay buffer"] * self.has_pickled_buffer

    def open_buffer(self, file: Any) -> BufferFile:
        """:param file: this one, open for reading"""
        return BufferFile(file, self.name, BUFFER)

    @contextmanager
    def open_pickled_buffer(self, file: Any) -> Iterator[Any]:
        """:param file: this one, open for reading"""
        with zipfile.ZipFile(file) as archive:
            yield io.BytesIO(archive.read(PICKLED_BUFFER))


def opened_checkpoint(path: Any, trusted: bool | None) -> CheckpointFile | None:
    """
    :param path: a file, which may be missing its suffix, or an open one
    :param trusted: whether its pickles may be read: False never, True silently, None with a warning
    :return: None for a file of something else
    :raises ValueError: if it is damaged, or has pickles that are not to be read
    """
    if not is_checkpoint(path):
        return None
    checkpoint = CheckpointFile(path, trusted)
    if pickles := checkpoint.pickles:
        check_trusted(f"path={checkpoint.name!r} has {', '.join(pickles)} as pickles", trusted)
    return checkpoint
