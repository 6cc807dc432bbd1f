"""The global random streams of Python, NumPy and torch, which stay what they are wherever they stand."""

import random
from typing import Any

import numpy as np
import torch as th

STREAMS: dict[str, Any] = {
    "python": random._inst,  # type: ignore[attr-defined]
    "numpy": np.random.mtrand._rand,  # type: ignore[attr-defined]
    "torch": th.default_generator,
}

# How far the generators are in what they have drawn at once: the name of that, and its largest value. NumPy looks at neither.
POSITIONS = {"MT19937": ("pos", 624), "Philox": ("buffer_pos", 4)}


def checked_state(state: Any) -> Any:
    """
    :param state: of a random generator of NumPy, from a file
    :return: the same
    :raises ValueError: if it would read memory that is not its own
    """
    kind = state["bit_generator"]
    name, most = POSITIONS.get(kind, ("", 0))
    position = (state | state["state"]).get(name, 0)
    if type(position) is not int or not 0 <= position <= most:
        raise ValueError(f"the state of {kind} must have {name} from 0 to {most}, not {position!r:.100}")
    return state


def name_of_stream(value: Any) -> str | None:
    """:return: the name of a global stream, or None for anything else"""
    return next((name for name, stream in STREAMS.items() if value is stream), None)
