"""Replay buffers in files of arrays and JSON. Reading such a file runs no code."""

import json
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from typing import Any, BinaryIO

import numpy as np

from sb3_ddpg_ext.buffers.checking import check_arrays, check_header, check_infos
from sb3_ddpg_ext.buffers.infos import as_plain, as_rich
from sb3_ddpg_ext.buffers.transitions import TransitionReplayBuffer
from sb3_ddpg_ext.packing import DAMAGE, check_sizes

FORMAT, VERSION = "sb3_ddpg_ext replay buffer", 1
ZIP = b"PK\x03\x04"  # what such a file begins with
INFOS = "infos.json"  # what the member ends in that is no array
OF_SAMPLING = "sampling/"  # the beginning of the names of its arrays


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
    header["sampling"] = dict(settings=buffer.sampling_settings(), state=buffer.sampling.state())
    of_sampling = {OF_SAMPLING + name: [array] for name, array in buffer.sampling.contents(buffer.n_written).items()}
    if flat := [name for name, (array,) in of_sampling.items() if not np.ndim(array)]:
        raise ValueError(f"{type(buffer.sampling).__name__}.contents() must hold arrays of at least one dimension: {flat[0]}")
    archive.writestr(f"{folder}header.json", json.dumps(header, indent=1, default=_as_json) + "\n")
    for name, parts in (buffer.contents() | of_sampling).items():
        if parts[0].dtype == object:
            infos = [{} if (plain := as_plain(each)) is Ellipsis else plain for each in parts[0]]
            archive.writestr(f"{folder}{name}.json", json.dumps(infos))
        else:
            _write_array(archive, f"{folder}{name}.npy", parts)


def _as_json(value: Any) -> Any:
    """What a sampling has in its state: also a number of NumPy."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"the state of a sampling must hold what JSON has, not {type(value).__name__}")


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
        self.demonstrations = None
        try:
            self._archive = zipfile.ZipFile(file)  # type: ignore[arg-type]
            check_sizes(self._archive)
            self.header = self._json("header.json")
            about = self.header["format"], self.header["version"]
        except DAMAGE as error:
            raise ValueError(f"{name} must be a file that save_replay_buffer has written, to its end ({error})") from error
        if about[0] != FORMAT or about[1] not in range(1, VERSION + 1):
            raise ValueError(
                f"{name} has the format {about[0]!r}, version {about[1]}; it must be {FORMAT!r}, version {VERSION}"
            )
        with self._damage():
            check_header(self.header)
            if self.header["share"] is not None:
                self.demonstrations = self._json("demonstrations/header.json")
                check_header(self.demonstrations)

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
            settings, state, own = _of_sampling(header, arrays)
        sampling = buffer.sampling
        if settings is not None and settings == json.loads(json.dumps(buffer.sampling_settings(), default=_as_json)):
            try:
                sampling.restore(state, own)
            except DAMAGE as error:
                kind = type(sampling).__name__
                raise ValueError(
                    f"{self.name} does not hold what {kind} has saved, or {kind} cannot read it ({error!r})"
                ) from error

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
                    arrays = self._arrays(folder)
                    check_infos(header, arrays.pop("infos", None))
                    check_arrays(header, arrays)

    def _read(self, member: str) -> Any:
        if not member.endswith(INFOS):
            return SavedArray(self._archive, f"{self._inside}{member}")
        infos = np.empty(len(parsed := self._json(member)), object)
        infos[:] = [as_rich(each) for each in parsed]
        return infos


def _of_sampling(header: dict[str, Any], arrays: dict[str, Any]) -> tuple[Any, dict[str, Any], dict[str, np.ndarray]]:
    """Its settings, its state and its arrays, which it may keep."""
    if "sampling" not in header:  # of version 0.2 before it had a place of its own
        names = () if header.get("priority_settings") is None else ("priorities",)
        return header.get("priority_settings"), header, {name: np.array(arrays[name]) for name in names}
    own = {name.removeprefix(OF_SAMPLING): np.array(arrays[name]) for name in arrays if name.startswith(OF_SAMPLING)}
    return header["sampling"]["settings"], header["sampling"]["state"], own


class SavedArray:
    """
    An array in an archive, of which slices are read, one behind the other.

    :param archive: open for reading
    :param member: its name there
    :raises ValueError: if its header promises more than is there
    """

    def __init__(self, archive: zipfile.ZipFile, member: str):
        self._archive, self._member = archive, member
        self._open()
        self.shape: tuple[int, ...] = self._header[0]
        self.dtype: np.dtype = self._header[2]
        self._row = math.prod(self.shape[1:]) * self.dtype.itemsize
        self._check(archive.getinfo(member).file_size)

    def _check(self, n_bytes: int) -> None:
        if min(self.shape, default=-1) < 0 or self.dtype.hasobject or self._header[1] or len(self) * self._row > n_bytes:
            raise ValueError(f"{self._member} has the shape {self.shape} of {self.dtype}; it is {n_bytes} bytes")

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
        array = self[0 : len(self)]  # which cannot be written to
        return np.array(array, dtype) if copy or dtype is not None else array


def _as_float32(value: Any) -> Any:
    """Call 64-bit numbers 32-bit ones: a file of either fits a buffer of either."""
    return json.loads(json.dumps(value).replace('"float64"', '"float32"'))
