"""The replay buffer of a model: made from its arguments, saved, loaded, and told where to compute rewards."""

import warnings
from collections.abc import Callable
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from sb3_ddpg_ext.buffers import (
    HindsightReplayBuffer,
    SequenceReplayBuffer,
    TransitionReplayBuffer,
    choose_buffer,
    n_step_kwargs,
    read_episodes,
    store,
)
from sb3_ddpg_ext.collection import Collection
from sb3_ddpg_ext.specs import make_sampling
from sb3_ddpg_ext.validation import check_integer


class Replay(Collection):
    """``Collection`` with a replay buffer that may need more than SB3 hands to its own."""

    _is_loading: bool

    def _make_replay_buffer(self) -> ReplayBuffer:
        kwargs = dict(self.replay_buffer_kwargs)
        n_steps = max(self.n_steps, check_integer("replay_buffer_kwargs['n_steps']", kwargs.get("n_steps", 1), at_least=1))
        buffer_class = self._buffer_class(n_steps)
        kwargs |= n_step_kwargs(buffer_class, kwargs, self.n_steps, self.gamma)
        if issubclass(buffer_class, HerReplayBuffer | HindsightReplayBuffer):
            is_needed_now = buffer_class is not HindsightReplayBuffer or not self._is_loading
            if (self.env is None and is_needed_now) or not isinstance(self.observation_space, spaces.Dict):
                raise ValueError(f"{buffer_class.__name__} needs an environment with Dict observations, here env={self.env}")
            kwargs["env"] = self.env  # here, not in replay_buffer_kwargs, which are pickled with the model
        if issubclass(buffer_class, TransitionReplayBuffer) and self._vec_normalize_env is not None:
            kwargs.setdefault("keep_float64", True)  # it normalises before it rounds
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

        buffer = make(self.buffer_size, self.n_envs)
        if demonstrations is not None:
            self._add_demonstrations(buffer, demonstrations, 0.25 if share is None else share, make)
        return buffer

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
        own = make(sum(len(episode.rewards) for episode in episodes), 1, combined=False)
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

        It is sampled with the ``n_steps`` and ``gamma`` of this model.

        :param path: the file
        :param truncate_last_traj: what is added next begins new episodes
        :raises ValueError: if it was filled by another number of environments, or for another class of models; the present
            buffer stays
        """
        before = self.replay_buffer
        super().load_replay_buffer(path, truncate_last_traj)
        loaded = self.replay_buffer
        try:
            self._check_loaded(path, loaded, before)
        except ValueError:
            self.replay_buffer = before
            raise
        if isinstance(loaded, TransitionReplayBuffer):
            loaded.n_steps, loaded.gamma = max(self.n_steps, self.replay_buffer_kwargs.get("n_steps", 1)), self.gamma
            if loaded.demonstrations is not None:
                loaded.demonstrations.device = self.device
            if truncate_last_traj:
                loaded.interrupt()
        self._give_env()

    def _check_loaded(self, path: Any, loaded: Any, before: Any) -> None:
        if loaded.n_envs != self.n_envs:
            raise ValueError(
                f"the replay buffer in {path} has n_envs={loaded.n_envs}; it must be the model's n_envs={self.n_envs}"
            )
        if isinstance(loaded, SequenceReplayBuffer) != isinstance(before, SequenceReplayBuffer):
            raise ValueError(f"the replay buffer in {path} is a {type(loaded).__name__}; it must fit {type(self).__name__}")
        if isinstance(loaded, SequenceReplayBuffer) and loaded.state_size != before.state_size:
            raise ValueError(
                f"the replay buffer in {path} has states of {loaded.state_size} numbers; they must have {before.state_size}"
            )

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
