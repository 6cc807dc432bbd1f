"""``inspect``: what is in a file, and whether opening it would run code. None is run here."""

import argparse
import base64
import json
import reprlib
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sb3_ddpg_ext.checkpoints.file import MEMBER as STATE
from sb3_ddpg_ext.checkpoints.file import CheckpointFile
from sb3_ddpg_ext.model_file import DATA, MEMBER, SERIALIZED, is_pickled
from sb3_ddpg_ext.packing import DAMAGE, check_archive, imports_of, read_packed

SHOWN = ("policy_class", "observation_space", "action_space", "n_envs", "num_timesteps", "_n_updates", "seed", "learning_rate",
         "action_noise", "gamma", "n_steps", "batch_size", "buffer_size", "policy_kwargs", "replay_buffer_kwargs")  # fmt: skip
PICKLE = b"\x80"
MOST = 12  # imports that are named
HEADER = "header.json"


class Short(reprlib.Repr):
    """Shows the beginning only, in a time that does not depend on how often a part stands in itself."""

    def repr_Tuple(self, space: Any, level: int) -> str:
        return f"Tuple of {len(space.spaces)} spaces"

    def repr_Dict(self, space: Any, level: int) -> str:
        if level <= 0:
            return "Dict(...)"
        return f"Dict({', '.join(f'{key}: {self.repr1(each, level - 1)}' for key, each in space.spaces.items())})"


SHORT = Short()
SHORT.maxdict = SHORT.maxlist = SHORT.maxtuple = 20
SHORT.maxstring = SHORT.maxother = 160


def add_parser(commands: Any) -> None:
    """Add ``inspect`` and its arguments."""
    parser = commands.add_parser(
        "inspect", help="what is in a file of a model, a replay buffer or a checkpoint; runs none of it"
    )
    parser.add_argument("files", nargs="+", metavar="FILE", type=Path, help="or the folder of a replay buffer")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print what is known of each file."""
    for number, path in enumerate(args.files):
        if number:
            print()
        try:
            print("\n".join(lines_of(path)))
        except DAMAGE as error:
            sys.exit(f"{path}: {error}")


def lines_of(path: Path) -> Iterator[str]:
    """
    :param path: a file, or the folder of a replay buffer
    :raises ValueError: for something else
    """
    if path.is_dir():
        if not (path / HEADER).exists():
            raise ValueError("is a folder without a replay buffer")
        yield f"{path}: replay buffer in a folder"
        yield from _of_buffer(json.loads((path / HEADER).read_text()))
        yield from _verdict({})
        return
    begin = path.open("rb").read(2)
    if begin[:1] == PICKLE:
        yield f"{path}: a pickle, as Stable-Baselines3 writes replay buffers and VecNormalize"
        yield from _verdict({"the whole file": imports_of(path.read_bytes())})
        return
    if begin != b"PK":
        raise ValueError("is neither a model, nor a replay buffer, nor a checkpoint, nor a pickle")
    with zipfile.ZipFile(path) as archive:
        check_archive(archive)
        names = archive.namelist()
        if DATA in names:  # a model, whatever else is there
            yield from _of_model(path, archive)
        elif HEADER in names:
            yield f"{path}: replay buffer"
            yield from _of_buffer(json.loads(archive.read(HEADER)))
            yield from _verdict(_pickled_members(archive))
        else:
            raise ValueError("is a zip archive of something else")


def _of_model(path: Path, archive: zipfile.ZipFile) -> Iterator[str]:
    names = archive.namelist()
    data, pickles = json.loads(archive.read(DATA)), {}
    kind = "checkpoint" if STATE in names else "model"
    if MEMBER in names:
        about, unpacker = read_packed(archive, MEMBER)
        yield f"{path}: {kind} of sb3_ddpg_ext, format {about['version']}"
        known = {name: unpacker.unpack(value) for name, value in about["attributes"].items()}
        opened = about["pickled"]
    else:
        yield f"{path}: {kind} of Stable-Baselines3, or of sb3_ddpg_ext 0.1"
        known = {name: value for name, value in data.items() if not is_pickled(value)}
        opened = {name: value[":type:"] for name, value in data.items() if is_pickled(value)}
    for name in opened:
        pickles[name] = imports_of(base64.b64decode(data[name][SERIALIZED]))
    pickles |= _pickled_members(archive)
    versions = archive.read("_stable_baselines3_version").decode() if "_stable_baselines3_version" in names else "unknown"
    yield from _line("stable_baselines3", versions)
    for name in SHOWN:
        if name in known:
            yield from _line(name.lstrip("_"), getattr(known[name], "__name__", known[name]))
        elif name in opened:
            yield from _line(name.lstrip("_"), f"a pickle of {opened[name]}")
    yield from _line("members", ", ".join(f"{info.filename} ({info.file_size:,})" for info in _main(archive)))
    if kind == "checkpoint":
        checkpoint = CheckpointFile(path)
        state = checkpoint.state
        steps = f"after {state['num_timesteps']} of {state['total_timesteps']} steps"
        yield from _line("checkpoint", f"{state['class_name']} {steps}")
        yield from _line("goes on", "; ".join(state["reasons"]) or "exactly")
        pickles |= {name: set() for name in checkpoint.pickles}
    yield from _verdict(pickles)
    beside = {} if MEMBER not in names else {name for name, value in data.items() if is_pickled(value)} - set(opened)
    if beside:
        yield f"  Stable-Baselines3's own load would read pickles: {', '.join(sorted(beside))}"


def _pickled_members(archive: zipfile.ZipFile) -> dict[str, set[str]]:
    """Members that are pickles, with what they import. Those of torch are archives, which it reads without running code."""
    found = {}
    for name in archive.namelist():
        with archive.open(name) as member:
            begin = member.read(1)
            if begin == PICKLE or name.endswith(".pkl"):
                found[name] = imports_of(begin + member.read())
    return found


def _main(archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    return (info for info in archive.infolist() if info.filename.endswith((".pth", ".json", ".pkl")))


def _of_buffer(header: dict[str, Any]) -> Iterator[str]:
    size, n_envs = header["buffer_size"], header["n_envs"]
    if "pos" in header:
        yield from _line("transitions", (size if header["full"] else header["pos"]) * n_envs)
    for name in ("kind", "format", "version"):
        if name in header:
            yield from _line(name, header[name])
    yield from _line("buffer_size", size * n_envs)
    for name in ("n_envs", "observations", "action_dim", "arrays", "priority_settings", "share"):
        if header.get(name) is not None:
            yield from _line(name, header[name])


def _line(name: str, value: Any) -> Iterator[str]:
    text = " ".join((value if isinstance(value, str) else SHORT.repr(value)).split())
    yield f"  {name:22}{text if len(text) < 160 else text[:157] + '...'}"


def _verdict(pickles: dict[str, set[str]]) -> Iterator[str]:
    if not pickles:
        yield "  Opening it runs no code."
        return
    yield "  Opening it can run code; it has pickles (trusted=False refuses them):"
    for name, imports in pickles.items():
        shown = sorted(imports)
        more = f" and {len(shown) - MOST} more" if len(shown) > MOST else ""
        yield f"    {name}{': imports ' if shown else ''}{', '.join(shown[:MOST])}{more}"
