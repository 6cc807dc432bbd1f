"""The whole way from raw observations to actions in the environment's units, as operations."""

from typing import Any

import numpy as np

from sb3_ddpg_ext.export.lowering import PREPROCESSING, lower
from sb3_ddpg_ext.export.names import ACTION
from sb3_ddpg_ext.export.program import NotExpressible, Program
from sb3_ddpg_ext.export.source import Part, Source


def assemble(source: Source) -> Program:
    """
    :param source: what is exported
    :raises NotExpressible: if a part of its actor or of its observations is none of our operations
    """
    policy, program = source.model.policy, Program()
    if not getattr(policy, "acts_by_its_actor", lambda: True)():
        raise NotExpressible(f"{type(policy).__name__} has another way to its actions than its actor")
    normalize_images = policy.normalize_images
    values = {part.key: observed(program, part, normalize_images) for part in source.parts}
    scaled = lower(program, source.actor, values.get(None, values))
    program.give(ACTION, unscaled(program, scaled, source.action_space))
    return program


def observed(program: Program, part: Part, normalize_images: bool) -> str:
    """From a raw observation to what the features extractor takes."""
    x, preprocess = part.name, PREPROCESSING.get(type(part.space))
    if preprocess is None:
        raise NotExpressible(f"observations from {part.space}")
    if part.channels_last:
        x = program.add("transpose", x, axes=[0, 3, 1, 2])
    if part.statistics is not None:  # in float64, as VecNormalize
        x = program.add("sub", program.add("cast", x, dtype="float64"), program.hold(part.statistics.mean, np.float64))
        x = program.add("div", x, program.hold(part.statistics.std, np.float64))
        x = program.clip(x, -part.statistics.clip, part.statistics.clip, np.float64)
    return preprocess(program, part.space, x, normalize_images)


def unscaled(program: Program, scaled: str, space: Any) -> str:
    """From [-1, 1] to the bounds of the action space, which rounding must not leave."""
    low, high, dtype = space.low, space.high, space.dtype
    x = scaled if len(space.shape) == 1 else program.add("reshape", scaled, shape=list(space.shape))
    is_symmetric = bool((low == -high).all())
    x = x if is_symmetric else program.add("add", x, program.hold(1, np.float32))
    x = x if dtype == np.float32 else program.add("cast", x, dtype=dtype.name)
    x = program.add("mul", x, program.hold(0.5 * (high - low), dtype))
    x = x if is_symmetric else program.add("add", x, program.hold(low, dtype))
    return program.clip(x, low, high, dtype)
