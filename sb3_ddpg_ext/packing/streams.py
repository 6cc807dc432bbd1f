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


def name_of_stream(value: Any) -> str | None:
    """:return: the name of a global stream, or None for anything else"""
    return next((name for name, stream in STREAMS.items() if value is stream), None)
