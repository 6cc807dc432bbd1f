"""What goes between the learner and its workers."""

from typing import Any, NamedTuple

import numpy as np

from sb3_ddpg_ext.collector import Moment

NOT_CUT = "TimeLimit.truncated"  # what Stable-Baselines3's DummyVecEnv says of each step


class Order(NamedTuple):
    """
    A chunk that is to be made.

    :param number: of the worker's chunks, from 0
    :param n_steps: of each environment
    :param moment: of the training when its first step is expected to be stored
    :param version: of the parameters
    :param rewards: of the last step of all environments, as the model has seen them, (n_envs,), 0 where an episode has ended;
        None where workers know them themselves
    """

    number: int
    n_steps: int
    moment: Moment
    version: int
    rewards: np.ndarray | None = None


class Chunk(NamedTuple):
    """
    Transitions of a worker's k environments, L steps of each, one after the other.

    :param observations: (L + 1, k, \\*obs_shape), or a dict of such: what each step began with, and at last what came after;
        where an episode has ended, the first of the next one
    :param actions: (L, k, \\*action_shape), on the [-1, 1] scale
    :param rewards: (L, k)
    :param dones: (L, k), whether the episode ended
    :param infos: those that say something, by step and environment
    :param number: of the worker's chunks
    :param version: of the parameters that acted
    :param states: (L, k, state_size), what a recurrent policy remembered before each step; None without a memory
    :param seconds: that it took
    """

    observations: Any
    actions: np.ndarray
    rewards: np.ndarray
    dones: np.ndarray
    infos: dict[tuple[int, int], dict[str, Any]]
    number: int
    version: int
    states: np.ndarray | None
    seconds: float


def worth_sending(info: dict[str, Any]) -> dict[str, Any]:
    """
    :param info: of a step
    :return: the same without what :func:`info_of` puts back
    """
    return info if info.get(NOT_CUT, True) else {key: value for key, value in info.items() if key != NOT_CUT}


def info_of(sent: dict[str, Any] | None) -> dict[str, Any]:
    """
    :param sent: what :func:`worth_sending` gave; None for nothing
    :return: the info as the environment gave it
    """
    return {NOT_CUT: False} if sent is None else sent if NOT_CUT in sent else sent | {NOT_CUT: False}
