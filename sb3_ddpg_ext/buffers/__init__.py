"""Replay buffers, the ways to sample them, and files of them."""

from sb3_ddpg_ext.batch import Sequences
from sb3_ddpg_ext.buffers.buffer_class import check_buffer_kwargs, choose_buffer, is_ours, n_step_kwargs, takes_argument
from sb3_ddpg_ext.buffers.episodes import Episode, read_episodes, store, write_episodes
from sb3_ddpg_ext.buffers.her import HindsightReplayBuffer
from sb3_ddpg_ext.buffers.sampling import SAMPLINGS, LossAdjusted, Prioritized, Sampling, Uniform, make_sampling
from sb3_ddpg_ext.buffers.saving import BufferFile, is_buffer_file, write_buffer, write_members
from sb3_ddpg_ext.buffers.sb3_buffers import check_same_spaces, transitions_of
from sb3_ddpg_ext.buffers.sequence import SequenceReplayBuffer
from sb3_ddpg_ext.buffers.transitions import TransitionReplayBuffer

__all__ = [
    "SAMPLINGS",
    "BufferFile",
    "Episode",
    "HindsightReplayBuffer",
    "LossAdjusted",
    "Prioritized",
    "Sampling",
    "SequenceReplayBuffer",
    "Sequences",
    "TransitionReplayBuffer",
    "Uniform",
    "check_buffer_kwargs",
    "check_same_spaces",
    "choose_buffer",
    "is_buffer_file",
    "is_ours",
    "make_sampling",
    "n_step_kwargs",
    "read_episodes",
    "store",
    "takes_argument",
    "transitions_of",
    "write_buffer",
    "write_episodes",
    "write_members",
]
