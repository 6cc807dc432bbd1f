"""The global random streams of Python, NumPy and torch."""

import random
from typing import Any

import numpy as np
import torch as th

from sb3_ddpg_ext.packing import checked_state


def stream_states() -> dict[str, Any]:
    """The states of all of them, as :mod:`sb3_ddpg_ext.packing` takes them."""
    return dict(
        python=random.getstate(),
        numpy=np.random.get_state(legacy=False),
        torch=th.get_rng_state(),
        cuda=th.cuda.get_rng_state_all() if th.cuda.is_available() else [],
    )


def restore_streams(states: dict[str, Any]) -> None:
    """
    :param states: of :func:`stream_states`; those of GPUs that are not there are left out
    """
    random.setstate(states["python"])
    np.random.set_state(checked_state(states["numpy"]))
    th.set_rng_state(states["torch"])
    for device, state in enumerate(states["cuda"][: th.cuda.device_count()]):
        th.cuda.set_rng_state(state, device)
