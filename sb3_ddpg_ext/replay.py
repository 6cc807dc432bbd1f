"""The replay buffer of a model: made from its arguments, saved, loaded, and told where to compute rewards."""

import inspect
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.save_util import open_path
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import VecFrameStack, unwrap_vec_wrapper
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from sb3_ddpg_ext.buffers import (
    BufferFile,
    HindsightReplayBuffer,
    SequenceReplayBuffer,
    TransitionReplayBuffer,
    check_buffer_kwargs,
    check_same_spaces,
    choose_buffer,
    is_buffer_file,
    n_step_kwargs,
    read_episodes,
    store,
    transitions_of,
    write_buffer,
)
from sb3_ddpg_ext.collection import Collection
from sb3_ddpg_ext.files import written_whole
from sb3_ddpg_ext.specs import make_sampling
from sb3_ddpg_ext.validation import check_instance, check_integer

APART: dict[str, Any] = dict(combined=False, path=None)  # of a buffer for demonstrations


def _takes(buffer_class: type[ReplayBuffer], name: str) -> bool:
    """Whether one of our classes, or a class derived from them, takes an argument."""
    parameters = inspect.signature(buffer_class.__init__).parameters
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    return issubclass(buffer_class, TransitionReplayBuffer) and (takes_any or name in parameters)


@contextmanager
def _opened(path: str | Path | BufferedIOBase, verbose: int) -> Iterator[Any]:
    """As SB3 opens it to read; closed if it was not open before."""
    file = open_path(path, "r", verbose, suffix="pkl")
    try:
        yield file
    finally:
        if isinstance(path, str | Path):
            file.close()


class Replay(Collection):
    """``Collection`` with a replay buffer that may need more than SB3 hands to its own."""

    _is_loading: bool

    def _make_replay_buffer(self) -> ReplayBuffer:
        make, demonstrations, share = self._replay_recipe()
        buffer = self._loaded_buffer(make) if self._is_loading else make(self.buffer_size, self.n_envs)
        if isinstance(buffer, TransitionReplayBuffer) and buffer.is_on_disk and buffer.n_written and not self._is_loading:
            path = self.replay_buffer_kwargs["path"]
            warnings.warn(
                f"replay_buffer_kwargs['path']={path!r} has {buffer.n_written} transitions, which this model begins with",
                stacklevel=5,
            )
        asked = self.replay_buffer_kwargs.get("frame_stack", 1)
        if isinstance(buffer, TransitionReplayBuffer) and asked > 1 and not buffer.stacks_frames and not self._is_loading:
            warnings.warn(
                f"replay_buffer_kwargs['frame_stack']={asked} saves nothing: it divides no channels and is no first axis of "
                f"{self.observation_space}",
                stacklevel=5,
            )
        if demonstrations is not None:
            self._add_demonstrations(buffer, demonstrations, 0.25 if share is None else share, make)
        return buffer

    def _loaded_buffer(self, make: Callable[..., ReplayBuffer]) -> ReplayBuffer:
        """In memory where the model is only to act, or where its folder is of no use here."""
        in_memory = self._in_memory()
        if not in_memory or self.env is None or self.buffer_size <= self.n_envs:  # rl_zoo3 loads agents with a size of 1
            return make(self.buffer_size, self.n_envs, **in_memory)
        try:
            return make(self.buffer_size, self.n_envs)
        except (OSError, ValueError) as error:
            warnings.warn(f"{error}: the loaded model has an empty one in memory", stacklevel=6)
            return make(self.buffer_size, self.n_envs, **in_memory)

    def _in_memory(self) -> dict[str, Any]:
        """The change that leaves a buffer's folder alone."""
        return {} if self.replay_buffer_kwargs.get("path") is None else {"path": None}

    def _replay_recipe(self) -> tuple[Callable[..., ReplayBuffer], Any, float | None]:
        """How to make a buffer, from its size, number of environments and changes; demonstrations, and their share."""
        if self.replay_buffer_kwargs.get("path") is not None:  # the same folder wherever the model is loaded
            path = self.replay_buffer_kwargs["path"]
            check_instance("replay_buffer_kwargs['path']", path, (str, os.PathLike), "the path of a folder, or None")
            path = str(Path(path).resolve())
            self.replay_buffer_kwargs = self.replay_buffer_kwargs | {"path": path}
        kwargs = dict(self.replay_buffer_kwargs)
        n_steps = max(self.n_steps, check_integer("replay_buffer_kwargs['n_steps']", kwargs.get("n_steps", 1), at_least=1))
        buffer_class = self._buffer_class(n_steps)
        check_buffer_kwargs(buffer_class, kwargs, self.observation_space)
        kwargs |= n_step_kwargs(buffer_class, kwargs, self.n_steps, self.gamma)
        if issubclass(buffer_class, HerReplayBuffer | HindsightReplayBuffer):
            is_new = not self._is_loading and self.replay_buffer is None
            is_needed_now = is_new or buffer_class is not HindsightReplayBuffer
            if (self.env is None and is_needed_now) or not isinstance(self.observation_space, spaces.Dict):
                raise ValueError(f"{buffer_class.__name__} needs an environment with Dict observations, here env={self.env}")
            kwargs["env"] = self.env  # here, not in replay_buffer_kwargs, which are pickled with the model
        if _takes(buffer_class, "keep_float64") and self._vec_normalize_env is not None:
            kwargs.setdefault("keep_float64", True)  # it normalises before it rounds
        if _takes(buffer_class, "frame_stack") and self.env is not None:
            stacking = unwrap_vec_wrapper(self.env, VecFrameStack)
            if isinstance(stacking, VecFrameStack) and any(map(is_image_space, self._observation_spaces())):
                kwargs.setdefault("frame_stack", stacking.stacked_obs.n_stack)
        if kwargs.get("sampling") is not None:
            if not issubclass(buffer_class, TransitionReplayBuffer):
                raise ValueError(
                    f"replay_buffer_kwargs['sampling'] is for our own replay buffers, not {buffer_class.__name__}"
                )
            kwargs["sampling"] = make_sampling(kwargs["sampling"])
        demonstrations, share = kwargs.pop("demonstrations", None), kwargs.pop("demonstration_share", None)
        if demonstrations is None and share is not None:
            raise ValueError(f"replay_buffer_kwargs['demonstration_share']={share!r} needs demonstrations")

        def make(size: int, n_envs: int, **changes: Any) -> ReplayBuffer:
            arguments = kwargs | dict(n_envs=n_envs, optimize_memory_usage=self.optimize_memory_usage) | changes
            return buffer_class(size, self.observation_space, self.action_space, device=self.device, **arguments)

        return make, demonstrations, share

    def _observation_spaces(self) -> list[spaces.Space]:
        space = self.observation_space
        return list(space.spaces.values()) if isinstance(space, spaces.Dict) else [space]

    def _buffer_class(self, n_steps: int) -> type[ReplayBuffer]:
        chosen = choose_buffer(self.replay_buffer_class, n_steps)
        if issubclass(chosen, SequenceReplayBuffer):
            raise TypeError(f"replay_buffer_class={chosen.__name__} is for RecurrentDDPG")
        return chosen

    def _add_demonstrations(self, buffer: ReplayBuffer, source: Any, share: float, make: Callable) -> None:
        if not isinstance(buffer, TransitionReplayBuffer):
            raise ValueError(
                f"replay_buffer_kwargs['demonstrations'] is for our own replay buffers, not {type(buffer).__name__}"
            )
        try:
            episodes = read_episodes(source)
        except (FileNotFoundError, ImportError):
            if not self._is_loading:
                raise
            warnings.warn(
                f"demonstrations={source!r} cannot be read here: the model can act, and learns without them", stacklevel=6
            )
            return
        own = make(sum(len(episode.rewards) for episode in episodes), 1, **APART)
        store(own, episodes)
        buffer.keep(own, share)

    def prefill(self, source: Any) -> None:
        """
        Put recorded episodes into the replay buffer, where later transitions will overwrite them.

        :param source: see :func:`~sb3_ddpg_ext.buffers.read_episodes`
        :raises ValueError: if the episodes are not of this environment, or too many for the buffer
        """
        assert self.replay_buffer is not None
        store(self.replay_buffer, read_episodes(source))

    def save_replay_buffer(self, path: str | Path | BufferedIOBase) -> None:
        """
        Save the replay buffer: one of ours as arrays and JSON in a zip archive, without a pickle; one of SB3's as SB3 does.

        A file of before stays until the new one is whole.

        :param path: the file, with ".pkl" behind it if it has no suffix, as SB3's tools expect it
        """
        with written_whole(path, "pkl") as file:
            if isinstance(self.replay_buffer, TransitionReplayBuffer):
                write_buffer(file, self.replay_buffer)
            else:
                super().save_replay_buffer(file)

    def load_replay_buffer(self, path: str | Path | BufferedIOBase, truncate_last_traj: bool = True) -> None:
        """
        Load what ``save_replay_buffer`` saved.

        Transitions, priorities, demonstrations and ``buffer_size`` are those of the file. They are replayed as this model
        replays: class of the buffer, ``n_steps``, ``gamma``, sampling. A file of SB3's is a pickle, which can run
        anything: load it only from where you trust. Its transitions are taken over into a buffer of ours, where the model has
        one.

        :param path: the file
        :param truncate_last_traj: what is added next begins new episodes
        :raises ValueError: if it does not fit the model; the present buffer stays
        """
        with _opened(path, self.verbose) as file:
            if is_buffer_file(file):
                self._load_saved(BufferFile(file, str(path)))
            else:
                self._load_pickled(file, path, truncate_last_traj)
        if truncate_last_traj and isinstance(self.replay_buffer, TransitionReplayBuffer):
            self.replay_buffer.interrupt()
        self._give_env()

    def _present_buffer(self) -> ReplayBuffer:
        """The replay buffer, or an empty one where a user has let it go."""
        return self._make_replay_buffer() if self.replay_buffer is None else self.replay_buffer

    def _load_saved(self, saved: BufferFile) -> None:
        before, size = self._present_buffer(), saved.header["buffer_size"]
        if not isinstance(before, TransitionReplayBuffer):
            raise ValueError(f"the replay buffer in {saved.name} is one of ours; it must fit {type(before).__name__}")
        saved.check_fits(before)
        make, _, _ = self._replay_recipe()
        self._check_size_of_folder(before, saved.name, size)
        if before.is_on_disk:
            saved.verify()
            before.reset()
            loaded = before
        else:
            loaded = make(size * self.n_envs, self.n_envs, **self._in_memory())  # type: ignore[assignment]
            if isinstance(loaded, SequenceReplayBuffer):
                loaded.hold_states(before.state_size)  # type: ignore[attr-defined]
        saved.restore(loaded)
        if saved.demonstrations is not None:
            own = make(saved.demonstrations["buffer_size"], 1, **APART)
            saved.restore(own, "demonstrations/")  # type: ignore[arg-type]
            loaded.keep(own, saved.header["share"])  # type: ignore[arg-type]
        elif before.demonstrations is not None and loaded is not before:
            loaded.keep(before.demonstrations, before.demonstration_share)
        self.replay_buffer = loaded

    def _check_size_of_folder(self, before: TransitionReplayBuffer, name: str, size: int) -> None:
        if before.is_on_disk and size != before.buffer_size:
            raise ValueError(
                f"the replay buffer in {name} has buffer_size={size * self.n_envs}; it must be that of the folder, "
                f"{before.buffer_size * self.n_envs}"
            )

    def _load_pickled(self, file: Any, path: Any, truncate_last_traj: bool) -> None:
        present, before = self.replay_buffer, self._present_buffer()
        self.replay_buffer = None
        try:
            super().load_replay_buffer(file, truncate_last_traj)
            loaded: Any = self.replay_buffer
            if loaded.n_envs != self.n_envs:
                raise ValueError(
                    f"the replay buffer in {path} has n_envs={loaded.n_envs}; it must be the model's n_envs={self.n_envs}"
                )
            if isinstance(before, SequenceReplayBuffer):
                raise ValueError(
                    f"the replay buffer in {path} is a {type(loaded).__name__}; it must fit {type(self).__name__}"
                )
            if isinstance(before, TransitionReplayBuffer) and not isinstance(loaded, TransitionReplayBuffer):
                loaded = self._taken_over(loaded, before, str(path))
            present = loaded
        except (AssertionError, EOFError, UnpicklingError) as error:
            if isinstance(self.replay_buffer, ReplayBuffer):  # one of SB3's, which needs an environment
                raise
            raise ValueError(f"path={str(path)!r} must be a file that save_replay_buffer has written ({error})") from error
        finally:
            self.replay_buffer = present

    def _taken_over(self, other: ReplayBuffer, before: TransitionReplayBuffer, path: str) -> TransitionReplayBuffer:
        check_same_spaces(other, before, path)
        make, _, _ = self._replay_recipe()
        self._check_size_of_folder(before, path, other.buffer_size)
        own: Any = make(other.buffer_size * other.n_envs, other.n_envs, **self._in_memory())
        for transition in transitions_of(other):
            own.add(*transition)
        if before.is_on_disk:  # as it was until here
            before.reset()
            before.restore(own.state(), {name: np.concatenate(parts) for name, parts in own.contents().items()})
            before.renew_sampling()
            return before
        if before.demonstrations is not None:
            own.keep(before.demonstrations, before.demonstration_share)
        return own

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        buffer, kept = self.replay_buffer, self.optimize_memory_usage
        if isinstance(buffer, TransitionReplayBuffer):
            if reset_num_timesteps or self._last_obs is None:
                buffer.interrupt()
            self.optimize_memory_usage = False  # for which SB3 would mark the last transition as an end
        try:
            return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        finally:
            self.optimize_memory_usage = kept

    def _give_env(self) -> None:
        """To the replay buffer, where it computes rewards."""
        for buffer in (self.replay_buffer, getattr(self.replay_buffer, "demonstrations", None)):
            if isinstance(buffer, HindsightReplayBuffer):
                buffer.env = self.env
