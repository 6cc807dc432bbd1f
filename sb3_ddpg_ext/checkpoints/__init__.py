"""What a checkpoint holds beside the model: environments, random streams, callbacks, the replay buffer."""

from sb3_ddpg_ext.checkpoints.environments import EnvironmentState, environment_state, restore_environment
from sb3_ddpg_ext.checkpoints.file import (
    CheckpointFile,
    find_checkpoint,
    is_checkpoint,
    opened_checkpoint,
    sorted_checkpoints,
    write_checkpoint,
)
from sb3_ddpg_ext.checkpoints.followers import between_rollouts
from sb3_ddpg_ext.checkpoints.resumption import Resumption, pending_logs

__all__ = [
    "CheckpointFile",
    "EnvironmentState",
    "Resumption",
    "between_rollouts",
    "environment_state",
    "find_checkpoint",
    "is_checkpoint",
    "opened_checkpoint",
    "pending_logs",
    "restore_environment",
    "sorted_checkpoints",
    "write_checkpoint",
]
