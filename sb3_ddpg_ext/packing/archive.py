"""Packed objects in zip archives."""

import json
import math
import pickle
import struct
import tokenize
import zipfile
import zlib
from typing import IO, Any

import numpy as np

from sb3_ddpg_ext.packing.names import CannotPack
from sb3_ddpg_ext.packing.packer import Packer
from sb3_ddpg_ext.packing.parameters import MOST_PARTS, N_LEGACY, check_pickle
from sb3_ddpg_ext.packing.unpacker import Unpacker

ARRAYS = "arrays/"
# Of the contents of a member to its size: an archive of zeros has as much, one of JSON does not.
LARGEST_RATIO, LARGEST_RATIO_OF_JSON = 1000, 50
ARCHIVE_OF_TORCH = b"PK\x03\x04"  # with which a file begins that torch reads as an archive, wherever zipfile finds one
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those of which zipfile reads no more than a member says it has
# What zipfile, zlib, json, NumPy, torch and the file system raise for damaged archives.
DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, pickle.UnpicklingError, tokenize.TokenError, SyntaxError, LookupError,
          EOFError, OSError, NotImplementedError, RuntimeError, RecursionError, MemoryError, ArithmeticError, AttributeError,
          TypeError, ValueError)  # fmt: skip


def write_packed(archive: zipfile.ZipFile, member: str, value: Any, packer: Packer) -> None:
    """
    :param archive: open for writing
    :param member: the name of the JSON file in it
    :param value: packed already, with ``packer``, whose arrays are written beside it as ``.npy`` files
    :param packer: used for this file alone
    """
    archive.writestr(member, json.dumps(value, allow_nan=False))
    for number, array in enumerate(packer.arrays):
        with archive.open(f"{member}.{ARRAYS}{number}.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)


def read_packed(archive: zipfile.ZipFile, member: str, trusted: bool | None = None) -> tuple[Any, Unpacker]:
    """
    :param archive: open for reading
    :param member: the name of the JSON file in it
    :param trusted: True where any number of its parts may be repeated
    :return: the JSON, and what unpacks it
    """
    seen: set[int] = set()

    def array(n: Any) -> np.ndarray:
        if int(n) in seen:
            raise ValueError(f"array {n} must stand at one place")
        seen.add(int(n))
        return read_array(archive, f"{member}.{ARRAYS}{int(n)}.npy")

    return json.loads(archive.read(member)), Unpacker(array, n_repeated=None if trusted is True else MOST_PARTS)


def check_readable(value: Any) -> None:
    """
    :param value: an object
    :raises CannotPack: if it cannot be packed, or if :func:`read_packed` would refuse it in a file that is not trusted
    """
    packer = Packer()
    packed = packer.pack(value)
    try:
        if packer.repeats:
            Unpacker(lambda n: packer.arrays[n], n_repeated=MOST_PARTS).unpack(packed)
    except ValueError as error:
        raise CannotPack(str(error)) from error


def read_array(archive: zipfile.ZipFile, member: str) -> np.ndarray:
    """
    :param archive: open for reading
    :param member: the name of an ``.npy`` file in it
    :raises ValueError: if its header promises more, or less, than is there
    """
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(stream)
        data = stream.read()
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{member} must have {math.prod(shape)} numbers of {dtype}, not {len(data)} bytes")
    array = np.frombuffer(bytearray(data), dtype)
    return array.reshape(shape[::-1]).T if is_fortran else array.reshape(shape)


def check_archive(archive: zipfile.ZipFile) -> None:
    """
    :param archive: open for reading
    :raises ValueError: if it is damaged, or would grow out of proportion
    """
    check_sizes(archive)
    if (damaged := archive.testzip()) is not None:
        raise ValueError(f"{damaged} is damaged")


def check_sizes(archive: zipfile.ZipFile) -> None:
    """
    :param archive: open for reading
    :raises ValueError: if it would grow out of proportion
    """
    n_bytes = archive.fp.seek(0, 2)  # type: ignore[union-attr]
    if sum(info.compress_size for info in archive.infolist()) > n_bytes:
        raise ValueError(f"its members must lie one behind the other in its {n_bytes} bytes")
    for info in archive.infolist():
        if info.compress_type not in METHODS:
            raise ValueError(f"{info.filename} is compressed by method {info.compress_type}; it must be stored or deflated")
        ratio = LARGEST_RATIO if info.filename.endswith((".npy", ".pth", ".pkl")) else LARGEST_RATIO_OF_JSON
        if info.file_size > ratio * max(info.compress_size, 1000):
            raise ValueError(f"{info.filename} would grow from {info.compress_size} to {info.file_size} bytes")
        if info.filename.endswith(".pth"):
            with archive.open(info) as inner:
                _check_inner(info.filename, inner)


def _check_inner(name: str, file: IO[bytes]) -> None:
    """Check a file of torch's, which is an archive of its own. It compresses nothing, and reads all that others compress."""
    begin = file.read(len(ARCHIVE_OF_TORCH))
    file.seek(0)
    if begin != ARCHIVE_OF_TORCH:  # an older form, which is no archive
        for _ in range(N_LEGACY):
            check_pickle(name, file)
        return
    with zipfile.ZipFile(file) as inner:
        for info in inner.infolist():
            if info.filename.endswith(".pth"):
                raise ValueError(f"{info.filename} must not be in {name}")
            if info.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{info.filename} in {name} would grow from {info.compress_size} to {info.file_size} bytes")
        check_sizes(inner)
        for info in inner.infolist():
            if info.filename.lower().endswith(".pkl"):  # torch does not look at the case
                with inner.open(info) as pickled:
                    check_pickle(name, pickled)
