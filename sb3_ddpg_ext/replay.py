"""The replay buffers of Stable-Baselines3 as ours."""

from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_ddpg_ext.batch import Batch
from sb3_ddpg_ext.buffers import is_ours


class SB3Replay:
    """
    Lets the model use a replay buffer of Stable-Baselines3, or a user's own, as it uses ours.

    :param buffer: the buffer
    """

    is_ours, of_sequences = False, False
    copies = False  # whether add() leaves nothing of what it is given for others to change

    def __init__(self, buffer: ReplayBuffer):
        self.buffer = buffer

    def interrupt(self, envs: np.ndarray | None = None) -> None:
        """Do nothing: its transitions do not know which one they follow."""

    def set_env(self, env: VecEnv | None) -> None:
        """Do nothing: Stable-Baselines3 gives it the environment if it needs one."""

    def advance(self, progress_remaining: float, num_timesteps: int) -> None:
        """Do nothing: it has no schedules."""

    def batch(self, batch_size: int, env: VecNormalize | None, gamma: float) -> Batch:
        """
        :param batch_size: number of transitions
        :param env: normalises observations and rewards with its present statistics
        :param gamma: discount factor of the model
        :raises ValueError: for samples of a wrong shape, or with ``indices`` where nobody takes the errors
        """
        batch = Batch.from_samples(self.buffer.sample(batch_size, env=env), gamma)
        if batch.indices is not None and not hasattr(self.buffer, "update_priorities"):
            raise ValueError(
                f"the samples of {type(self.buffer).__name__} have indices, whose errors it asks for: it must have a method "
                "update_priorities(indices, errors), or give none"
            )
        return batch

    def update_priorities(self, rows: np.ndarray, errors: th.Tensor) -> None:
        """Tell a user's own buffer, which has asked for errors by ``indices``."""
        self.buffer.update_priorities(rows, errors)  # type: ignore[attr-defined]


def as_replay(buffer: ReplayBuffer | None) -> Any:
    """
    :param buffer: of a model
    :return: itself where it is ours, else :class:`SB3Replay`
    """
    return buffer if is_ours(buffer) else SB3Replay(buffer)  # type: ignore[arg-type]
