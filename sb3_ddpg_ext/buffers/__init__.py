"""Replay buffers, and the choice of one."""

from sb3_ddpg_ext.buffers.choice import choose_buffer, n_step_kwargs
from sb3_ddpg_ext.buffers.uniform import UniformReplayBuffer

__all__ = ["UniformReplayBuffer", "choose_buffer", "n_step_kwargs"]
