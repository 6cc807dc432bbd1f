"""Room for a full replay buffer, in memory or on a disk."""

import warnings

from stable_baselines3.common.buffers import psutil

from sb3_ddpg_ext.buffers.storage import Storage


def warn_if_too_large(n_bytes: int, buffer_size: int, storage: Storage) -> None:
    """
    Warn where a full buffer has no room.

    :param n_bytes: of the full buffer
    :param buffer_size: transitions it holds
    :param storage: where they are
    """
    if storage.folder is not None:
        storage.folder.warn_if_too_large(n_bytes)
    elif psutil is not None and storage.device.type == "cpu":  # an optional dependency of SB3's
        available = psutil.virtual_memory().available
        if n_bytes > available:
            warnings.warn(
                f"a full replay buffer of buffer_size={buffer_size} takes {n_bytes / 1e9:.2f} GB; "
                f"{available / 1e9:.2f} GB of memory are available",
                stacklevel=5,
            )
