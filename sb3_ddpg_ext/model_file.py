"""Files of models: beside what Stable-Baselines3 writes, a member that is read without a pickle."""

import io
import json
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch as th
from stable_baselines3.common.save_util import load_from_zip_file

from sb3_ddpg_ext.files import opened
from sb3_ddpg_ext.model_checks import (
    bounded,
    bounded_parameters,
    check_finite_parameters,
    check_names,
    without_address,
)
from sb3_ddpg_ext.packing import (
    DAMAGE,
    CannotPack,
    Packer,
    check_archive,
    check_is_of_ddpg,
    check_readable,
    read_packed,
    write_packed,
)
from sb3_ddpg_ext.validation import check_choice, check_instance

MEMBER, FORMAT, VERSION = "model.json", "sb3_ddpg_ext model", 1
DATA, SERIALIZED = "data", ":serialized:"  # of Stable-Baselines3's files
VARIABLES = "pytorch_variables.pth"  # likewise; no DDPG has any
LARGEST_SHARE = 2  # of the parameters of a model in those of its file, which has the optimisers' averages, too
NOT_OF_A_FILE = ("env", "policy_aliases")  # attributes that no file of ours has, and that a model would obey


def write_model(file: io.BufferedIOBase, save: Callable[[io.BufferedIOBase], None], attributes: dict[str, Any]) -> None:
    """
    :param file: open for writing
    :param save: writes what Stable-Baselines3 writes
    :param attributes: of the model; those that Stable-Baselines3 has saved are packed, too
    """
    stream = io.BytesIO()
    save(stream)
    with zipfile.ZipFile(stream, "a") as archive:
        packer, packed, pickled = Packer(), {}, {}
        for name in json.loads(archive.read(DATA)):
            try:
                check_readable(attributes[name])
                packed[name] = packer.attempt(attributes[name])
            except CannotPack as reason:
                pickled[name] = str(reason)
        about = dict(format=FORMAT, version=VERSION, attributes=packed, pickled=pickled)
        write_packed(archive, MEMBER, about, packer)
    file.write(stream.getbuffer())


@contextmanager
def damage_named(name: str) -> Iterator[None]:
    """
    Turn what a damaged file raises into one error.

    :param name: of the file
    :raises ValueError: naming it
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except DAMAGE as error:
        raise ValueError(f"path={name!r} must be a file that save has written, undamaged ({error})") from error


@contextmanager
def blamed_on(path: Any, at_most: int | None = None) -> Iterator[None]:
    """
    Let the errors of a model that is made of a file name it. The reason may also be in what else was given for it.

    :param path: the file
    :param at_most: bytes that its parameters may take; None for any
    :raises ValueError: naming it
    """
    try:
        with nullcontext() if at_most is None else bounded_parameters(at_most):
            yield
    except FileNotFoundError:
        raise
    except DAMAGE as error:  # after a ValueError, Stable-Baselines3 looks for the optimiser of a DQN
        cause = error.__context__ if isinstance(error, KeyError) and error.__context__ is not None else error
        raise ValueError(f"path={str(path)!r} cannot be loaded: {cause}") from error


def read_parameters(path: Any, device: th.device | str) -> dict[str, Any]:
    """
    :param path: a file of a model, or an open one
    :param device: where the tensors go
    :return: state dicts by name
    :raises ValueError: if the file is damaged
    """
    with _archive(path) as archive:
        return load_from_zip_file(archive.fp, device=device, load_data=False)[1]  # type: ignore[arg-type]


@contextmanager
def _archive(path: Any) -> Iterator[zipfile.ZipFile]:
    with damage_named(str(path)), opened(path, "zip") as file, zipfile.ZipFile(file) as archive:
        check_archive(archive)
        yield archive


def without_pickle(
    path: Any, custom_objects: dict[str, Any] | None, trusted: bool | None, cls: type
) -> tuple[io.BufferedIOBase, dict[str, Any], int | None]:
    """
    What ``BaseAlgorithm.load`` is to read instead of a file, so that it unpickles nothing that can be had otherwise.

    :param path: the file, or an open one
    :param custom_objects: a user's, which stand for the attributes of their names
    :param trusted: whether pickles may be read: False never, True silently, None with a warning
    :param cls: of the model
    :return: a file in memory, the objects to load it with, and how many bytes its parameters may take, None for any
    :raises ValueError: for a damaged file, one of another algorithm, a pickle that is not to be read, and parameters that are
        not finite
    """
    check_instance("custom_objects", custom_objects, (dict, type(None)), "a dict or None")
    given = custom_objects or {}
    with _archive(path) as archive:
        data = json.loads(archive.read(DATA))
        attributes, unpacker = {}, None
        if MEMBER in archive.namelist():
            about, unpacker = read_packed(archive, MEMBER, trusted)
            _check_version(about)
            attributes = about["attributes"]
            data = {name: data.get(name) for name in (*attributes, *about["pickled"])}
        data = {name: value for name, value in data.items() if name not in NOT_OF_A_FILE}
        check_names([name for name, value in data.items() if name in attributes or not is_pickled(value)], cls)
        objects = {name: unpacker.unpack(value) for name, value in attributes.items()} if unpacker else {}
        objects |= {name: value for name, value in given.items() if name in data}
        objects = {name: value for name, value in objects.items() if name in data}
        others = [name for name in archive.namelist() if not name.startswith((DATA, MEMBER)) and name != VARIABLES]
        members = {name: archive.read(name) for name in others}
    check_is_of_ddpg(str(path), None if "policy_class" in objects else data.get("policy_class"))
    if pickled := [name for name, value in data.items() if name not in objects and is_pickled(value)]:
        what, way_out = f"has {', '.join(pickled)} as pickles", "Give them by custom_objects, or "
        check_trusted(f"path={str(path)!r} {what}", trusted, way_out)
    if trusted is False:
        with damage_named(str(path)):
            objects |= bounded(objects, sum(map(len, members.values())))
    objects = without_address(objects, trusted)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(DATA, json.dumps({name: None if name in objects else value for name, value in data.items()}))
        for name, content in members.items():
            archive.writestr(name, content)
    with damage_named(str(path)):
        check_finite_parameters(load_from_zip_file(stream, device="cpu", load_data=False)[1], "it")
    stream.seek(0)
    return stream, objects, LARGEST_SHARE * sum(map(len, members.values())) + 1_000_000 if trusted is False else None


def check_trusted(what: str, trusted: bool | None, way_out: str = "") -> None:
    """
    Refuse pickles, or warn of them, before they are read.

    :param what: which file has which of them
    :param trusted: whether to read them: False never, True silently, None with a warning
    :param way_out: what else can be done
    :raises ValueError: if they are not to be read
    """
    check_choice("trusted", trusted, [None, True, False])
    if trusted is False:
        raise ValueError(
            f"{what}, which could run any code; trusted=False reads none. {way_out or 'Or '}say trusted=True if you know who "
            "wrote the file"
        )
    if trusted is None:
        warnings.warn(
            f"{what}, which can run any code when they are read; trusted=True says that you know who wrote the file, "
            "trusted=False refuses it",
            stacklevel=4,
        )


def is_pickled(value: Any) -> bool:
    """:param value: from the JSON of Stable-Baselines3"""
    return isinstance(value, dict) and SERIALIZED in value


def _check_version(about: dict[str, Any]) -> None:
    if about["format"] != FORMAT or about["version"] not in range(1, VERSION + 1):
        raise ValueError(
            f"its format is {about['format']!r}, version {about['version']}; it must be {FORMAT!r}, version {VERSION}"
        )
