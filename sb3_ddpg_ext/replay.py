"""The replay buffer of a model: made from its arguments, saved, loaded, and told where to compute rewards."""

from io import BufferedIOBase
from pathlib import Path

from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from sb3_ddpg_ext.buffers import HindsightReplayBuffer, TransitionReplayBuffer, choose_buffer, n_step_kwargs
from sb3_ddpg_ext.collection import Collection
from sb3_ddpg_ext.specs import make_sampling


class Replay(Collection):
    """``Collection`` with a replay buffer that may need more than SB3 hands to its own."""

    _is_loading: bool

    def _make_replay_buffer(self) -> ReplayBuffer:
        kwargs = dict(self.replay_buffer_kwargs)
        n_steps = max(self.n_steps, kwargs.get("n_steps", 1))
        buffer_class = choose_buffer(self.replay_buffer_class, n_steps)
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
        return buffer_class(
            self.buffer_size,
            self.observation_space,
            self.action_space,
            device=self.device,
            n_envs=self.n_envs,
            optimize_memory_usage=self.optimize_memory_usage,
            **kwargs,
        )

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
        if isinstance(self.replay_buffer, HindsightReplayBuffer):
            self.replay_buffer.env = self.env
