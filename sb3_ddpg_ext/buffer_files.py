"""Replay buffers in files: of ours without a pickle, and as Stable-Baselines3 has them."""

from io import BufferedIOBase
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.save_util import save_to_pkl
from stable_baselines3.common.vec_env import VecEnv

from sb3_ddpg_ext.buffers import (
    BufferFile,
    TransitionReplayBuffer,
    check_same_spaces,
    is_buffer_file,
    transitions_of,
    write_buffer,
)
from sb3_ddpg_ext.checkpoints import CheckpointFile
from sb3_ddpg_ext.files import opened, written_whole
from sb3_ddpg_ext.model_file import check_trusted
from sb3_ddpg_ext.recipe import OF_DEMONSTRATIONS, Recipe
from sb3_ddpg_ext.replay import as_replay


def save_buffer(path: str | Path | BufferedIOBase, buffer: ReplayBuffer, verbose: int = 0) -> None:
    """
    Save a replay buffer: one of ours as arrays and JSON in a zip archive, without a pickle; another one as SB3 does.

    :param path: the file, with ".pkl" behind it if it has no suffix. An older one stays until the new one is whole.
    :param buffer: of a model
    :param verbose: as in Stable-Baselines3
    """
    with written_whole(path, "pkl") as file:
        if isinstance(buffer, TransitionReplayBuffer):
            write_buffer(file, buffer)
        else:
            save_to_pkl(file, buffer, verbose)


def unpickled(file: Any, name: str, env: VecEnv | None, device: th.device, truncate_last_traj: bool) -> ReplayBuffer:
    """
    Let SB3 read a replay buffer that it has pickled.

    :param file: open for reading
    :param name: of the file, for errors
    :param env: the environments, for hindsight
    :param device: where samples go
    :param truncate_last_traj: for SB3's ``HerReplayBuffer``: what is added next begins new episodes
    :raises ValueError: for something else, or a damaged file
    """
    reader = SimpleNamespace(replay_buffer=None, env=env, device=device, verbose=0)
    try:
        OffPolicyAlgorithm.load_replay_buffer(reader, file, truncate_last_traj)  # type: ignore[arg-type]
    except Exception as error:  # a damaged pickle can raise anything
        if isinstance(reader.replay_buffer, ReplayBuffer):  # one of SB3's, which needs an environment
            raise
        raise ValueError(f"path={name!r} must be a file that save_replay_buffer has written ({error})") from error
    return reader.replay_buffer


def load_buffer(
    recipe: Recipe, path: Any, present: Any, env: VecEnv | None, verbose: int, truncate_last_traj: bool, trusted: bool | None
) -> ReplayBuffer:
    """
    Load what :meth:`DDPG.save_replay_buffer` has saved.

    :param recipe: of the model's replay buffer
    :param path: the file
    :param present: the buffer of the model
    :param env: the environments, for hindsight
    :param verbose: as in Stable-Baselines3
    :param truncate_last_traj: what is added next begins new episodes
    :param trusted: whether a pickle may be read, see :meth:`DDPG.load`
    :return: see :func:`read` and :func:`take_over`
    :raises ValueError: if it does not fit; the present buffer is as it was
    """
    with opened(path, "pkl", verbose) as file:
        if is_buffer_file(file):
            loaded = read(recipe, BufferFile(file, str(path)), present)
            loaded.device = recipe.device  # also one that is not there, as with Stable-Baselines3
        else:
            check_trusted(f"path={str(path)!r} holds pickles", trusted)
            other = unpickled(file, str(path), env, recipe.device, truncate_last_traj)
            loaded = take_over(recipe, other, present, str(path))
    if truncate_last_traj:
        as_replay(loaded).interrupt()
    as_replay(loaded).set_env(env)
    return loaded


def resume_buffer(
    recipe: Recipe, checkpoint: CheckpointFile, present: Any, env: VecEnv | None
) -> tuple[ReplayBuffer, str | None]:
    """
    The replay buffer of a checkpoint, in the middle of its episodes.

    :param recipe: of the model's replay buffer
    :param checkpoint: the file
    :param present: the buffer of the model, which has opened its folder
    :param env: the environments, for hindsight
    :return: the buffer, and why it is not what it was, or None
    """
    position = checkpoint.state["folder"]
    if position is not None:
        if as_replay(present).is_ours and present.is_on_disk and present.go_back(position):
            return present, None
        return present, "the folder of the replay buffer has overwritten, or lost, transitions of the checkpoint"
    with opened(checkpoint.path, "zip") as file:
        if checkpoint.has_pickled_buffer:
            with checkpoint.open_pickled_buffer(file) as pickled:
                return unpickled(pickled, checkpoint.name, env, recipe.device, truncate_last_traj=False), None
        loaded = read(recipe, checkpoint.open_buffer(file), present)
    as_replay(loaded).set_env(env)
    return loaded, None


def read(recipe: Recipe, saved: BufferFile, present: Any) -> ReplayBuffer:
    """
    Read what :meth:`DDPG.save_replay_buffer` has saved. It is replayed as this recipe says.

    :param recipe: of the model's replay buffer
    :param saved: the file
    :param present: the buffer of the model, which lends its demonstrations and its folder
    :return: a new buffer, which takes over the folder of the present one
    :raises ValueError: if the file does not fit; the present buffer is as it was
    """
    if not as_replay(present).is_ours:
        raise ValueError(f"the replay buffer in {saved.name} is one of ours; it must fit {type(present).__name__}")
    size = saved.header["buffer_size"]
    loaded: Any
    saved.check_fits(present)
    saved.check_contents()
    _check_size_of_folder(recipe, present, saved.name, size)
    try:
        loaded = recipe.make(size * recipe.n_envs, **_place_beside(present, recipe))
    except MemoryError as error:
        raise ValueError(f"the replay buffer in {saved.name} has no room here: buffer_size={size}") from error
    loaded.reserve_states(present.state_size)
    saved.restore(loaded)
    if saved.demonstrations is not None:
        own: Any = recipe.make(saved.demonstrations["buffer_size"], 1, **OF_DEMONSTRATIONS)
        saved.restore(own, "demonstrations/")
        loaded.set_demonstrations(own, saved.header["share"])
    return _in_place_of(present, loaded)


def _place_beside(present: Any, recipe: Recipe) -> dict[str, Any]:
    """The argument of a buffer that is to take the place of the present one when it has its contents."""
    return {"path": present.storage.folder.incoming()} if present.is_on_disk else recipe.in_memory


def _in_place_of(present: Any, loaded: Any) -> ReplayBuffer:
    """A buffer that was made beside the present one, with its demonstrations if it has none, and in its folder."""
    if loaded.demonstrations is None and present.demonstrations is not None:
        loaded.set_demonstrations(present.demonstrations, present.demonstration_share)
    if not present.is_on_disk:
        return loaded
    if loaded.is_on_disk:
        loaded.storage.folder.replace(present.storage.folder)
        return loaded
    present.reset()
    present.restore(loaded.state(), {key: np.concatenate(parts) for key, parts in loaded.contents().items()})
    return present


def _check_size_of_folder(recipe: Recipe, present: Any, name: str, size: int) -> None:
    if present.is_on_disk and size != present.buffer_size:
        raise ValueError(
            f"the replay buffer in {name} has buffer_size={size * recipe.n_envs}; it must be that of the folder, "
            f"{present.buffer_size * recipe.n_envs}"
        )


def take_over(recipe: Recipe, other: Any, present: Any, name: str) -> ReplayBuffer:
    """
    A buffer from a pickle, one of ours where the model has one of ours.

    :param recipe: of the model's replay buffer
    :param other: from the file
    :param present: the buffer of the model
    :param name: of the file, for errors
    :return: ``other``, or a new one with its transitions, which takes over the folder of the present one
    :raises ValueError: if it does not fit; the present buffer is as it was
    """
    if other.n_envs != recipe.n_envs:
        raise ValueError(
            f"the replay buffer in {name} has n_envs={other.n_envs}; it must be the model's n_envs={recipe.n_envs}"
        )
    if as_replay(present).of_sequences:
        raise ValueError(f"the replay buffer in {name} is a {type(other).__name__}; it must fit RecurrentDDPG")
    if not as_replay(present).is_ours or as_replay(other).is_ours:
        return other
    check_same_spaces(other, present, name)
    _check_size_of_folder(recipe, present, name, other.buffer_size)
    own: Any = recipe.make(other.buffer_size * other.n_envs, other.n_envs, **_place_beside(present, recipe))
    for transition in transitions_of(other):
        own.add(*transition)
    return _in_place_of(present, own)
