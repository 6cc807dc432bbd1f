"""Files that are written whole or not at all."""

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedIOBase
from pathlib import Path
from typing import Any
from uuid import uuid4

from stable_baselines3.common.save_util import open_path

try:
    import fcntl
except ImportError:  # not there on Windows
    fcntl = None  # type: ignore[assignment]

UNFINISHED = ".unfinished"


@contextmanager
def written_whole(path: str | Path | BufferedIOBase, suffix: str = "") -> Iterator[Any]:
    """
    A binary file to write, which takes its name when all of it is on the disk.

    Until then the file that had the name stays, whatever happens: an error, a full disk, a process that is killed. What a
    killed process leaves, a hidden file beside, goes with the next file that is written into the folder. Names are treated
    as Stable-Baselines3 does.

    :param path: where to write; missing folders are made, and where there is a folder of that name, ``_2`` is put behind. An
        open file is written to as it is
    :param suffix: for a path that has none
    """
    if not isinstance(path, str | Path):
        yield path
        return
    path = _target(Path(path), suffix)
    _remove_strays(path.parent)
    unfinished, file = _open_beside(path)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if fcntl is not None:
                os.replace(unfinished, path)
        if fcntl is None:  # Windows renames no open file
            os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextmanager
def opened(path: str | Path | BufferedIOBase, suffix: str, verbose: int = 0) -> Iterator[Any]:
    """
    :param path: a file as Stable-Baselines3 opens it to read; closed after it unless it was open before
    :param suffix: for a path that is not there without it
    :param verbose: as in Stable-Baselines3
    """
    file = open_path(path, "r", verbose, suffix)
    try:
        yield file
    finally:
        if file is not path:
            file.close()


def _target(path: Path, suffix: str) -> Path:
    def with_suffix(path: Path) -> Path:
        return path if path.suffix or not suffix else Path(f"{path}.{suffix}")

    target = with_suffix(path)
    while target.is_dir():
        warnings.warn(f"Path '{target}' is a folder. Will save instead to {target}_2", stacklevel=5)
        target = with_suffix(Path(f"{target}_2"))
    if not target.parent.exists():
        warnings.warn(f"Path '{target.parent}' does not exist. Will create it.", stacklevel=5)
        target.parent.mkdir(exist_ok=True, parents=True)
    return target.resolve() if target.is_symlink() else target


def _open_beside(path: Path) -> tuple[Path, Any]:
    """A new file in the same folder, held by a lock as long as it is open, with the permissions of the file at ``path``."""
    while True:
        beside = path.with_name(f".{path.name[:100]}.{uuid4().hex[:8]}{UNFINISHED}")
        file = beside.open("xb")
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        if beside.exists():  # else taken for a stray before it had its lock
            break
        file.close()
    if path.exists():
        shutil.copymode(path, beside)
    return beside, file


def is_stray(path: Path) -> bool:
    """Whether it is a file that a process was writing when it was killed, or is writing now."""
    return path.name.startswith(".") and path.name.endswith(UNFINISHED)


def _remove_strays(folder: Path) -> None:
    """A file that is being written has a lock."""
    if fcntl is None or not os.access(folder, os.R_OK):
        return
    for stray in filter(is_stray, folder.iterdir()):
        with suppress(OSError), stray.open("ab") as file:  # in use, gone, or somebody else's
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            stray.unlink()


def _sync_folder(folder: Path) -> None:
    """Write the folder to the disk, so that the name survives a power cut, too."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with suppress(OSError):  # a file system that cannot
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
