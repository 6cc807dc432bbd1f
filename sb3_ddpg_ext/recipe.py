"""The replay buffer of a model: how it is made, and how a saved one takes its place."""

import os
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize, unwrap_vec_wrapper
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from sb3_ddpg_ext.buffers import (
    HindsightReplayBuffer,
    check_buffer_kwargs,
    choose_buffer,
    is_ours,
    make_sampling,
    n_step_kwargs,
    read_episodes,
    store,
    takes_argument,
)
from sb3_ddpg_ext.observations import has_keys, parts_of
from sb3_ddpg_ext.validation import MAX_N_STEPS, check_instance, check_integer, naming

OF_DEMONSTRATIONS: dict[str, Any] = dict(combined=False, path=None)  # what their buffer has otherwise
DEFAULT_SHARE = 0.25  # of demonstrations in a batch
_warn = partial(warnings.warn, stacklevel=5)  # where the model is made


@dataclass(frozen=True)
class Recipe:
    """
    What a replay buffer is made from.

    :param buffer_class: one of ours, of Stable-Baselines3, or of a user
    :param buffer_size: transitions, over all environments
    :param observation_space: observation space
    :param action_space: action space
    :param device: where samples go
    :param n_envs: number of environments
    :param optimize_memory_usage: for the class
    :param kwargs: further arguments of the class
    :param demonstrations: recorded episodes that stay in the buffer, see :func:`~sb3_ddpg_ext.buffers.read_episodes`; or None
    :param demonstration_share: of each batch; None for a quarter
    """

    buffer_class: type[ReplayBuffer]
    buffer_size: int
    observation_space: spaces.Space
    action_space: spaces.Space
    device: th.device
    n_envs: int
    optimize_memory_usage: bool
    kwargs: dict[str, Any]
    demonstrations: Any = None
    demonstration_share: float | None = None

    @classmethod
    def of(
        cls,
        buffer_class: type[ReplayBuffer],
        given: dict[str, Any],
        env: VecEnv | None,
        vec_normalize: VecNormalize | None,
        n_steps: int,
        gamma: float,
        needs_env: bool = True,
        **fixed: Any,
    ) -> "Recipe":
        """
        :param buffer_class: see :func:`~sb3_ddpg_ext.buffers.choose_buffer`
        :param given: the user's ``replay_buffer_kwargs``
        :param env: the environments, or None for a model without any
        :param vec_normalize: the ``VecNormalize`` around them, if there is one
        :param n_steps: of the model
        :param gamma: of the model
        :param needs_env: whether goals must be relabelled at once
        :param fixed: the other fields
        :raises ValueError: for what the class does not take, or what contradicts the model
        :raises TypeError: for an argument that is unknown or of the wrong type
        """
        kwargs = dict(given)
        check_buffer_kwargs(buffer_class, kwargs, fixed["observation_space"])
        kwargs |= {"n_steps": _own_n_steps(kwargs)} if "n_steps" in kwargs else {}  # also for a class that takes it as it is
        kwargs |= n_step_kwargs(buffer_class, kwargs, n_steps, gamma)
        own = is_ours(buffer_class)
        if issubclass(buffer_class, HerReplayBuffer | HindsightReplayBuffer):
            if (env is None and (needs_env or not own)) or not has_keys(fixed["observation_space"]):
                raise ValueError(f"{buffer_class.__name__} needs an environment with Dict observations, here env={env}")
            kwargs["env"] = env  # here, not in replay_buffer_kwargs, which are pickled with the model
        if own and vec_normalize is not None and takes_argument(buffer_class, "keep_float64"):
            kwargs.setdefault("keep_float64", True)  # it normalises before it rounds
        n_frames = _stacked_frames(env, fixed["observation_space"])
        if own and n_frames > 1 and takes_argument(buffer_class, "frame_stack"):
            kwargs.setdefault("frame_stack", n_frames)
        if kwargs.get("sampling") is not None:
            if not own:
                raise ValueError(
                    f"replay_buffer_kwargs['sampling'] is for our own replay buffers, not {buffer_class.__name__}"
                )
            kwargs["sampling"] = make_sampling(kwargs["sampling"])
        demonstrations, share = kwargs.pop("demonstrations", None), kwargs.pop("demonstration_share", None)
        if demonstrations is None and share is not None:
            raise ValueError(f"replay_buffer_kwargs['demonstration_share']={share!r} needs demonstrations")
        if demonstrations is not None and not own:
            raise ValueError(
                f"replay_buffer_kwargs['demonstrations'] is for our own replay buffers, not {buffer_class.__name__}"
            )
        return cls(buffer_class=buffer_class, kwargs=kwargs, demonstrations=demonstrations, demonstration_share=share, **fixed)

    def make(self, buffer_size: int | None = None, n_envs: int | None = None, **changes: Any) -> ReplayBuffer:
        """
        An empty buffer, without demonstrations.

        :param buffer_size: in place of the recipe's
        :param n_envs: likewise
        :param changes: of the arguments
        """
        arguments = self.kwargs | dict(
            n_envs=self.n_envs if n_envs is None else n_envs, optimize_memory_usage=self.optimize_memory_usage
        )
        size = self.buffer_size if buffer_size is None else buffer_size
        return self.buffer_class(size, self.observation_space, self.action_space, device=self.device, **(arguments | changes))

    @property
    def in_memory(self) -> dict[str, Any]:
        """The changed argument that makes a buffer in memory, and leaves its folder alone."""
        return {} if self.kwargs.get("path") is None else {"path": None}

    def make_first(self, asked_frames: int = 1) -> ReplayBuffer:
        """
        The buffer of a new model. A warning says what it begins with, and what it leaves undone.

        :param asked_frames: the user's ``frame_stack``
        """
        buffer: Any = self.make()
        if is_ours(buffer):
            if buffer.is_on_disk and buffer.n_written:
                path = self.kwargs["path"]
                _warn(
                    f"replay_buffer_kwargs['path']={path!r} has {buffer.n_written} transitions, which this model begins with"
                )
            if asked_frames > 1 and not buffer.stacks_frames:
                _warn(
                    f"replay_buffer_kwargs['frame_stack']={asked_frames} saves nothing: it divides no channels and is "
                    f"no first axis of {self.observation_space}"
                )
        try:
            self._add_demonstrations(buffer)
        except OSError as error:
            name = "replay_buffer_kwargs['demonstrations']"
            raise ValueError(f"{name}={self.demonstrations!r} must be episodes, or the path of a file ({error})") from error
        return buffer

    def make_for_loaded(self, may_train: bool) -> ReplayBuffer:
        """
        The buffer of a loaded model. It is in memory if the model is only to act, or if its folder cannot be used here.

        :param may_train: whether the model has an environment
        """
        buffer = self._in_its_folder() if may_train else self.make(**self.in_memory)
        try:
            self._add_demonstrations(buffer)
        except (FileNotFoundError, ImportError):
            _warn(f"demonstrations={self.demonstrations!r} cannot be read here: the model can act, and learns without them")
        return buffer

    def _in_its_folder(self) -> ReplayBuffer:
        try:
            return self.make()
        except (OSError, ValueError) as error:
            if not self.in_memory:
                raise
            _warn(f"{error}: the loaded model has an empty one in memory")
            return self.make(**self.in_memory)

    def _add_demonstrations(self, buffer: ReplayBuffer) -> None:
        if self.demonstrations is None:
            return
        episodes = read_episodes(self.demonstrations)
        own = self.make(sum(len(episode.rewards) for episode in episodes), 1, **OF_DEMONSTRATIONS)
        store(own, episodes)
        share = DEFAULT_SHARE if self.demonstration_share is None else self.demonstration_share
        buffer.set_demonstrations(own, share)  # type: ignore[attr-defined]


def buffer_class_of(given: Any, n_steps: int, kwargs: dict[str, Any]) -> type[ReplayBuffer]:
    """
    :param given: the user's ``replay_buffer_class``
    :param n_steps: of the model
    :param kwargs: the user's ``replay_buffer_kwargs``, which may have other ``n_steps``
    :raises TypeError: for one that is none, or is for sequences
    """
    longest = max(n_steps, _own_n_steps(kwargs))
    chosen = choose_buffer(given, longest)
    if getattr(chosen, "of_sequences", False):
        raise TypeError(f"replay_buffer_class={chosen.__name__} is for RecurrentDDPG")
    return chosen


def _own_n_steps(kwargs: dict[str, Any]) -> int:
    return check_integer("replay_buffer_kwargs['n_steps']", kwargs.get("n_steps", 1), 1, MAX_N_STEPS)


def resolved(kwargs: dict[str, Any]) -> dict[str, Any]:
    """
    :param kwargs: a user's ``replay_buffer_kwargs``
    :return: the same with the whole path of a folder, which is then the same wherever the model is loaded
    :raises TypeError: if it is no path
    """
    if (path := kwargs.get("path")) is None:
        return kwargs
    check_instance("replay_buffer_kwargs['path']", path, (str, os.PathLike), "the path of a folder, or None")
    with naming("replay_buffer_kwargs['path']", path, "the path of a folder, or None"):
        return kwargs | {"path": str(Path(path).resolve())}


def _stacked_frames(env: VecEnv | None, space: spaces.Space) -> int:
    """How many frames ``VecFrameStack`` puts into an observation; 1 without it, and where there are no images."""
    parts = parts_of(space).values()
    stacking = None if env is None or not any(map(is_image_space, parts)) else unwrap_vec_wrapper(env, VecFrameStack)
    return 1 if stacking is None else stacking.stacked_obs.n_stack  # type: ignore[attr-defined]
