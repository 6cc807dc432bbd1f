"""The contents of replay buffers of SB3."""

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

from sb3_ddpg_ext.observations import each, has_keys, parts_of

Arrays = np.ndarray | dict[str, np.ndarray]  # with two axes in front: position and environment


def transitions_of(buffer: Any) -> Iterator[tuple[Any, Any, np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]]:
    """
    Yield the transitions of one of SB3's buffers, the oldest first, in the form that ``add`` takes.

    :param buffer: ``ReplayBuffer``, ``DictReplayBuffer``, ``HerReplayBuffer``, or derived from them
    """
    size = buffer.buffer_size
    positions = np.roll(np.arange(size), -buffer.pos) if buffer.full else np.arange(buffer.pos)
    if buffer.optimize_memory_usage:  # whose next observations are the observations behind, so that its oldest one is gone
        positions = positions[1:] if buffer.full else positions
        following, shift = buffer.observations, 1
    else:
        following, shift = buffer.next_observations, 0
    has_infos = getattr(buffer, "copy_info_dict", False)  # of HerReplayBuffer
    for pos in positions:
        known = buffer.infos[pos] if has_infos else [{}] * buffer.n_envs
        yield (
            _at(buffer.observations, pos),
            _at(following, (pos + shift) % size),
            buffer.actions[pos],
            buffer.rewards[pos],
            buffer.dones[pos],
            [dict(info) | {"TimeLimit.truncated": bool(end)} for info, end in zip(known, buffer.timeouts[pos], strict=True)],
        )


def _at(arrays: Arrays, pos: int) -> Any:
    return each(operator.itemgetter(pos), arrays)


def check_same_spaces(other: ReplayBuffer, own: ReplayBuffer, path: str) -> None:
    """
    :param other: the buffer in a file
    :param own: a buffer of the model that loads it
    :param path: of the file
    :raises ValueError: if its observations or actions have other shapes or types
    """
    for name in ("observation_space", "action_space"):
        found, wanted = getattr(other, name), getattr(own, name)
        if _kind(found) != _kind(wanted):
            raise ValueError(f"the replay buffer in {path} has {name}={found}; it must be the model's, {wanted}")


def _kind(space: spaces.Space) -> Any:
    if has_keys(space):
        return {key: _kind(subspace) for key, subspace in parts_of(space).items()}
    return space if isinstance(space, spaces.Discrete | spaces.MultiDiscrete) else (space.shape, space.dtype)
