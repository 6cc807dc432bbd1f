"""The replay buffer of a model: made from its arguments, saved, loaded, and told where to compute rewards."""

import warnings
from collections.abc import Callable
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from sb3_ddpg_ext.buffers import (
    HindsightReplayBuffer,
    TransitionReplayBuffer,
    choose_buffer,
    n_step_kwargs,
    read_episodes,
    store,
)
from sb3_ddpg_ext.collection import Collection
from sb3_ddpg_ext.specs import make_sampling


class Replay(Collection):
    """``Collection`` with a replay buffer that may need more than SB3 hands to its own."""

    _is_loading: bool

    def _make_replay_buffer(self) -> ReplayBuffer:
        kwargs = dict(self.replay_buffer_kwargs)
        n_steps = max(self.n_steps, kwargs.get("n_steps", 1))
        buffer_class = self._buffer_class(n_steps)
        kwargs |= n_step_kwargs(buffer_class, kwargs, self.n_steps, self.gamma)
        if issubclass(buffer_class, HerReplayBuffer | HindsightReplayBuffer):
            is_needed_now = buffer_class is not HindsightReplayBuffer or not self._is_loading
            if (self.env is None and is_needed_now) or not isinstance(self.observation_space, spaces.Dict):
                raise ValueError(f"{buffer_class.__name__} needs an environment with Dict observations, here env={self.env}")
            kwargs["env"] = self.env  # here, not in replay_buffer_kwargs, which are pickled with the model
        if issubclass(buffer_class, TransitionReplayBuffer) and self._vec_normalize_env is not None:
            kwargs.setdefault("keep_float64", True)  # it normalises before it rounds
        if "sampling" in kwargs:
            if not issubclass(buffer_class, TransitionReplayBuffer):
                raise ValueError(
                    f"replay_buffer_kwargs['sampling'] is for our own replay buffers, not {buffer_class.__name__}"
                )
            kwargs["sampling"] = make_sampling(kwargs["sampling"])
        demonstrations, share = kwargs.pop("demonstrations", None), kwargs.pop("demonstration_share", 0.25)

        def make(size: int, n_envs: int) -> ReplayBuffer:
            arguments = kwargs | dict(n_envs=n_envs, optimize_memory_usage=self.optimize_memory_usage)
            return buffer_class(size, self.observation_space, self.action_space, device=self.device, **arguments)

        buffer = make(self.buffer_size, self.n_envs)
        if demonstrations is not None:
            self._add_demonstrations(buffer, demonstrations, share, make)
        return buffer

    def _buffer_class(self, n_steps: int) -> type[ReplayBuffer]:
        return choose_buffer(self.replay_buffer_class, n_steps)

    def _add_demonstrations(self, buffer: ReplayBuffer, source: Any, share: float, make: Callable) -> None:
        if not isinstance(buffer, TransitionReplayBuffer):
            raise ValueError(
                f"replay_buffer_kwargs['demonstrations'] is for our own replay buffers, not {type(buffer).__name__}"
            )
        try:
            episodes = read_episodes(source)
        except FileNotFoundError:
            if not self._is_loading:
                raise
            warnings.warn(f"demonstrations={source!r} is not there: the model can act, and learns without them", stacklevel=6)
            return
        own = make(sum(len(episode.rewards) for episode in episodes), 1)
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

    def load_replay_buffer(self, path: str | Path | BufferedIOBase, truncate_last_traj: bool = True) -> None:
        """
        Load what ``save_replay_buffer`` saved.

        :raises ValueError: if it was filled by another number of environments; the present buffer stays
        """
        before = self.replay_buffer
        super().load_replay_buffer(path, truncate_last_traj)
        assert self.replay_buffer is not None
        if self.replay_buffer.n_envs != self.n_envs:
            loaded, self.replay_buffer = self.replay_buffer, before
            raise ValueError(
                f"the replay buffer in {path} has n_envs={loaded.n_envs}; it must be the model's n_envs={self.n_envs}"
            )
        self._give_env()

    def _give_env(self) -> None:
        """To the replay buffer, where it computes rewards."""
        for buffer in (self.replay_buffer, getattr(self.replay_buffer, "demonstrations", None)):
            if isinstance(buffer, HindsightReplayBuffer):
                buffer.env = self.env
