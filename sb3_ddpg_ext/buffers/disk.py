"""Arrays in files, which outlive the program."""

import gc
import json
import os
import shutil
import warnings
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import torch as th

from sb3_ddpg_ext.files import is_stray, written_whole
from sb3_ddpg_ext.validation import check_instance

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

LOCK = "replay_buffer.lock"
CPU = (None, "cpu", th.device("cpu"))
BEGUN = {"begun": True}  # in the header of a folder whose arrays are being made
# Subfolders with contents that are to take the place of the present ones: until all is written, and from then on.
INCOMING, COMPLETE = "incoming", "complete"
_open: "weakref.WeakSet[Folder]" = weakref.WeakSet()


def folder_of(path: str | Path | None, storage_device: Any) -> "Folder | None":
    """
    :param path: of a folder, or None
    :param storage_device: which must be the CPU with a folder
    :raises ValueError: if it is another one
    """
    if path is not None and storage_device not in CPU:
        raise ValueError(f"storage_device={str(storage_device)!r} must be None with path={str(path)!r}")
    return None if path is None else Folder(path)


def _let_go() -> None:
    """Release the locks in a forked process: the folders belong to its parent. Adding to a buffer takes the lock again."""
    for folder in _open:
        folder._lock.close()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_let_go)


class Folder:
    """
    Memory-mapped arrays in the files of a folder, for one process at a time.

    What has been written survives the end of the process, also a kill, unless the whole machine stops. Files grow as room is
    needed. If the disk is full, the operating system stops the process. Without ``fcntl`` (on Windows) nothing keeps two
    processes apart.

    :param path: of the folder, which is made if it is not there
    :raises BlockingIOError: if another buffer uses it
    :raises ValueError: if it is the path of a file
    """

    _lock: Any = None

    def __init__(self, path: str | Path):
        check_instance("path", path, (str, os.PathLike), "the path of a folder, or None")
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise ValueError(f"path={str(path)!r} must be a folder, or not there yet; it is, or is in, a file") from None
        except OSError as error:
            raise ValueError(f"path={str(path)!r} must be a folder that is there or can be made ({error})") from error
        self.lock()
        self._finish_replacing()
        shutil.rmtree(self.path / INCOMING, ignore_errors=True)  # of a process that was stopped before all was written
        _open.add(self)

    def lock(self) -> None:
        """
        Take the lock, unless this process has it.

        :raises BlockingIOError: if another buffer has it
        """
        if self._lock is not None and not self._lock.closed:
            return
        self._lock = (self.path / LOCK).open("a")
        if not self._take() and (gc.collect() == 0 or not self._take()):  # the other may be waiting to be collected
            self._lock.close()
            raise BlockingIOError(f"path={str(self.path)!r} must not be used by another replay buffer")

    def _take(self) -> bool:
        try:
            if fcntl is not None:
                fcntl.flock(self._lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def incoming(self) -> Path | None:
        """
        :return: an empty subfolder for a replay buffer whose contents are to take the place of these, see :meth:`replace`;
            both are on the disk until then. None on Windows, which renames no open file
        """
        if fcntl is None:
            return None
        shutil.rmtree(self.path / INCOMING, ignore_errors=True)
        return self.path / INCOMING

    def replace(self, present: "Folder") -> None:
        """
        Take the place of the folder in which this is the subfolder for new contents. If the process is stopped meanwhile, the
        folder has either the old contents or, when it is next opened, the new ones.

        :param present: which has no lock afterwards, and whose arrays are no files any more
        """
        os.rename(self.path, present.path / COMPLETE)
        self.path, self._lock, present._lock = present.path, present._lock, None
        _open.discard(present)
        self._finish_replacing()

    def _finish_replacing(self) -> None:
        complete = self.path / COMPLETE
        if complete.is_dir():
            for file in complete.iterdir():
                if file.name != LOCK:
                    os.replace(file, self.path / file.name)
            shutil.rmtree(complete)

    def claim(self, contents: dict[str, Any]) -> bool:
        """
        :param contents: what the arrays will hold, in values that JSON has
        :return: whether they are there already
        :raises ValueError: if the folder holds something else
        """
        header, counters = self.path / "header.json", self.path / "counters.bin"
        if not header.exists():
            others = sorted(each.name for each in self.path.iterdir() if each.name != LOCK and not is_stray(each))
            if others:
                raise ValueError(f"path={str(self.path)!r} must be a folder of a replay buffer, or an empty one: {others[0]}")
            self.sign(BEGUN)
            return False
        present = json.loads(header.read_text())
        if present == BEGUN or not any(counters.read_bytes()):  # nothing has been added
            self.sign(BEGUN)
            for file in self.path.glob("*.bin"):
                file.unlink()
            return False
        for name, wanted in contents.items():
            if present.get(name) != wanted:
                raise ValueError(
                    f"path={str(self.path)!r} has a replay buffer with {name}={present.get(name)}; it must be {wanted}, or in "
                    "another folder"
                )
        return True

    def warn_if_too_large(self, n_bytes: int) -> None:
        """
        :param n_bytes: bytes that all files will take
        """
        taken = sum(file.stat().st_blocks * 512 for file in self.path.iterdir()) if hasattr(os.stat_result, "st_blocks") else 0
        free = shutil.disk_usage(self.path).free
        if n_bytes - taken > free:
            warnings.warn(
                f"a full replay buffer takes {n_bytes / 1e9:.2f} GB in path={str(self.path)!r}, where {free / 1e9:.2f} GB are "
                "free; the process will be stopped when there are none left",
                stacklevel=2,
            )

    def sign(self, contents: dict[str, Any]) -> None:
        """:param contents: what the arrays hold, all of which have been made"""
        with written_whole(self.path / "header.json") as file:
            file.write((json.dumps(contents, indent=1) + "\n").encode())

    def new_array(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """
        The array with this name, with more rows than before if they are asked for, and no fewer.

        :param name: of the file
        :param shape: the number of rows first
        :param dtype: of the elements
        """
        file = self.path / f"{name}.bin"
        row = int(np.prod(shape[1:], dtype=np.int64)) * np.dtype(dtype).itemsize
        if row == 0:
            return np.zeros(shape, dtype)
        size = max(file.stat().st_size if file.exists() else 0, shape[0] * row)
        with file.open("ab") as stream:
            stream.truncate(size)  # what is new reads as zeros, and takes no space until it is written
        return np.asarray(np.memmap(file, dtype, "r+", shape=(size // row, *shape[1:])))
