"""Replay buffers in files of arrays and JSON. Reading such a file runs no code."""

import json
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import singledispatch
from io import BufferedIOBase
from typing import Any, BinaryIO

import numpy as np

from sb3_ddpg_ext.buffers.checking import check_arrays, check_header
from sb3_ddpg_ext.buffers.transitions import TransitionReplayBuffer

FORMAT, VERSION = "sb3_ddpg_ext replay buffer", 1
# What zipfile, zlib, NumPy and the file system raise for damaged archives.
DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, KeyError, EOFError, OSError, NotImplementedError, RuntimeError,
          OverflowError, TypeError, ValueError)  # fmt: skip
ZIP = b"PK\x03\x04"  # what such a file begins with
ARRAY = "__array__"


def write_buffer(file: BufferedIOBase | BinaryIO, buffer: TransitionReplayBuffer) -> None:
    """
    Write a zip archive: ``header.json``, and an uncompressed ``.npy`` file for each array; ``demonstrations/`` likewise.

    :param file: open for writing
    :param buffer: whose transitions, priorities and demonstrations are saved; how it samples is not
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[arg-type]
        write_members(archive, buffer)


def write_members(archive: zipfile.ZipFile, buffer: TransitionReplayBuffer, inside: str = "") -> None:
    """
    As :func:`write_buffer`, into an archive that has other members, too.

    :param archive: open for writing
    :param buffer: what is saved
    :param inside: the folder in the archive, with a slash behind it; "" for none
    """
    _write(archive, inside, buffer)
    if buffer.demonstrations is not None:
        _write(archive, f"{inside}demonstrations/", buffer.demonstrations)


def _write(archive: zipfile.ZipFile, folder: str, buffer: TransitionReplayBuffer) -> None:
    header = dict(format=FORMAT, version=VERSION, kind=type(buffer).__name__) | buffer.layout() | buffer.state()
    header["share"] = None if buffer.demonstrations is None else buffer.demonstration_share
    contents = buffer.contents()
    of_sampling = buffer.sampling.contents(buffer.n_written)
    if of_sampling:
        if both := sorted(set(contents) & set(of_sampling)):
            raise ValueError(f"{type(buffer.sampling).__name__}.contents() must have another name than {both[0]!r}")
        header |= dict(priority_settings=buffer.sampling_settings(), **buffer.sampling.state())
    archive.writestr(f"{folder}header.json", json.dumps(header, indent=1) + "\n")
    for name, parts in (contents | {name: [array] for name, array in of_sampling.items()}).items():
        if parts[0].dtype == object:
            infos = [{} if (plain := _plain(each)) is Ellipsis else plain for each in parts[0]]
            archive.writestr(f"{folder}{name}.json", json.dumps(infos))
        else:
            _write_array(archive, f"{folder}{name}.npy", parts)


def _write_array(archive: zipfile.ZipFile, name: str, parts: list[np.ndarray]) -> None:
    """Write an array part by part, so that no copy of the whole is made."""
    first = parts[0]
    shape = (sum(map(len, parts)), *first.shape[1:])
    with archive.open(name, "w", force_zip64=True) as stream:
        about = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, about)
        for part in parts:
            if part.size:
                stream.write(np.ascontiguousarray(part).data.cast("B"))


def is_buffer_file(file: BufferedIOBase | BinaryIO) -> bool:
    """
    :param file: open for reading, at its beginning, where it is left
    """
    begin = file.read(len(ZIP))
    file.seek(-len(begin), 1)
    return begin == ZIP


class BufferFile:
    """
    What :func:`write_buffer` has written.

    :param file: open for reading
    :param name: of the file, for errors
    :param inside: see :func:`write_members`
    :raises ValueError: if it is something else, or damaged
    """

    def __init__(self, file: BufferedIOBase | BinaryIO, name: str, inside: str = ""):
        self.name, self._inside = name, inside
        try:
            self._archive = zipfile.ZipFile(file)  # type: ignore[arg-type]
            self.header = self._json("header.json")
            self.demonstrations = self._json("demonstrations/header.json") if self.header["share"] is not None else None
            known = self.header["format"] == FORMAT
        except DAMAGE as error:
            raise ValueError(f"{name} must be a file that save_replay_buffer has written, to its end ({error})") from error
        if not known or self.header["version"] not in range(1, VERSION + 1):
            raise ValueError(f"{name} has the format {self.header['format']!r}, version {self.header['version']}; it must be "
                             f"{FORMAT!r}, version {VERSION}")  # fmt: skip

    def _json(self, member: str) -> Any:
        return json.loads(self._archive.read(f"{self._inside}{member}"))

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except DAMAGE as error:
            raise ValueError(f"{self.name} must be a file that save_replay_buffer has written, undamaged ({error})") from error

    def check_fits(self, buffer: TransitionReplayBuffer) -> None:
        """
        :raises ValueError: if it is of other environments than ``buffer`` is
        """
        layout, state = json.loads(json.dumps(buffer.layout())), buffer.state()
        for name in ("n_envs", "action_dim", "observations"):
            saved, wanted = self.header[name], layout[name]
            if _as_float32(saved) != _as_float32(wanted):
                raise ValueError(
                    f"the replay buffer in {self.name} has {name}={saved}; it must be the model's {name}={wanted}"
                )
        saved, wanted = self.header.get("state_size", 0), state.get("state_size", 0)  # of recurrent networks
        if wanted and saved != wanted:
            raise ValueError(f"the replay buffer in {self.name} has states of {saved} numbers; they must have {wanted}")
        if state.get("has_infos") and not self.header.get("has_infos"):
            raise ValueError(f"the replay buffer in {self.name} has no infos; they must be there with copy_info_dict=True")

    def restore(self, buffer: TransitionReplayBuffer, folder: str = "") -> None:
        """
        :param buffer: empty, with the number of transitions in the header
        :param folder: in the archive
        :raises ValueError: if the file is damaged
        """
        header: dict[str, Any] = self.demonstrations if folder else self.header  # type: ignore[assignment]
        with self._damage():
            arrays = self._arrays(folder)
            buffer.restore(header, arrays)
            settings = header.get("priority_settings")
            if settings is not None and settings == json.loads(json.dumps(buffer.sampling_settings())):
                buffer.sampling.restore(header, arrays)

    def _arrays(self, folder: str) -> dict[str, Any]:
        ours = [name.removeprefix(self._inside) for name in self._archive.namelist() if name.startswith(self._inside)]
        members = [
            name
            for name in ours
            if name.startswith(folder) and (folder or not name.startswith("demonstrations/"))
            if not name.endswith("header.json")
        ]
        return {name.removeprefix(folder).rpartition(".")[0]: self._read(name) for name in members}

    def check_contents(self) -> None:
        """
        Read all of it, and see whether it can be.

        :raises ValueError: if it is damaged, or contradicts itself
        """
        with self._damage():
            for folder, header in (("", self.header), ("demonstrations/", self.demonstrations)):
                if header is not None:
                    check_header(header)
                    check_arrays(header, {name: each for name, each in self._arrays(folder).items() if name != "infos"})

    def _read(self, member: str) -> Any:
        if not member.endswith(".json"):
            return SavedArray(self._archive, f"{self._inside}{member}")
        infos = np.empty(len(parsed := self._json(member)), object)
        infos[:] = [_rich(each) for each in parsed]
        return infos


class SavedArray:
    """
    An array in an archive, of which slices are read, one behind the other.

    :param archive: open for reading
    :param member: its name there
    """

    def __init__(self, archive: zipfile.ZipFile, member: str):
        self._archive, self._member = archive, member
        self._open()
        self.shape: tuple[int, ...] = self._header[0]
        self.dtype: np.dtype = self._header[2]
        self._row = int(np.prod(self.shape[1:], dtype=np.int64)) * self._header[2].itemsize

    def _open(self) -> None:
        self._stream, self._at = self._archive.open(self._member), 0
        np.lib.format.read_magic(self._stream)
        self._header = np.lib.format.read_array_header_1_0(self._stream)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        if rows.start < self._at:
            self._open()
        if rows.start > self._at:
            self._stream.seek((rows.start - self._at) * self._row, 1)
        n = min(rows.stop, len(self)) - rows.start
        data = self._stream.read(n * self._row)
        if len(data) < n * self._row:
            raise EOFError(f"{self._member} ends early")
        self._at = rows.start + n
        return np.frombuffer(data, self._header[2]).reshape(n, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[0 : len(self)] if dtype is None else self[0 : len(self)].astype(dtype)


def _as_float32(value: Any) -> Any:
    """Call 64-bit numbers 32-bit ones: a file of either fits a buffer of either."""
    return json.loads(json.dumps(value).replace('"float64"', '"float32"'))


@singledispatch
def _plain(value: Any) -> Any:
    """Turn a value into one that JSON has, tuples into lists. What JSON cannot say is left out, with a warning."""
    warnings.warn(f"an info of type {type(value).__name__} is not saved with the replay buffer", stacklevel=2)
    return Ellipsis


_left_out = _plain.dispatch(object)


@_plain.register(bool)
@_plain.register(int)
@_plain.register(float)
@_plain.register(str)
@_plain.register(type(None))
def _(value: Any) -> Any:
    return value


@_plain.register(list)
@_plain.register(tuple)
def _(value: Any) -> Any:
    return [plain for each in value if (plain := _plain(each)) is not Ellipsis]


@_plain.register(np.ndarray)
@_plain.register(np.generic)
def _(value: Any) -> Any:
    return {ARRAY: value.tolist(), "dtype": value.dtype.str} if value.dtype.kind in "biufU" else _left_out(value)


@_plain.register(dict)
def _(value: Any) -> Any:
    if ARRAY in value or set(map(type, value)) - {str}:
        return _left_out(value)
    return {key: plain for key, each in value.items() if (plain := _plain(each)) is not Ellipsis}


@singledispatch
def _rich(value: Any) -> Any:
    """Turn it back, with its arrays."""
    return value


@_rich.register(list)
def _(value: Any) -> Any:
    return [_rich(each) for each in value]


@_rich.register(dict)
def _(value: Any) -> Any:
    if ARRAY in value:
        array = np.array(value[ARRAY], value["dtype"])
        return array if array.ndim else array[()]
    return {key: _rich(each) for key, each in value.items()}
