"""What a file says of itself, and the model card beside it."""

import importlib.metadata
from typing import Any

import numpy as np
import stable_baselines3
import torch as th

from sb3_ddpg_ext.export.names import ACTION, ACTION_STATE, AFTER, CELL_STATES
from sb3_ddpg_ext.export.source import Part, Source
from sb3_ddpg_ext.runtime import FORMAT, VERSION


def describe(source: Source) -> dict[str, Any]:
    """
    What every format has in its metadata: names, shapes and types of inputs and outputs, bounds, versions.

    :param source: what is exported
    """
    space = source.action_space
    return dict(
        format=FORMAT,
        version=VERSION,
        observation=[_of_part(part) for part in source.parts],
        state=[dict(name=name, output=AFTER + name, shape=shape) for name, shape in states_of(source)],
        previous_reward=source.takes_reward,
        action=dict(
            name=ACTION, output=ACTION, shape=list(space.shape), dtype=space.dtype.name, low=space.low.tolist(),
            high=space.high.tolist(), units="of the environment",
        ),
        normalised=normalised_by(source),
        algorithm=type(source.model).__name__,
        environment=environment_of(source),
        versions=versions(),
    )  # fmt: skip


def _of_part(part: Part) -> dict[str, Any]:
    raw: Any = part.raw
    entry = dict(key=part.key, name=part.name, shape=list(raw.shape), dtype=raw.dtype.name, space=type(raw).__name__)
    if part.layout is not None:
        entry["layout"] = part.layout
    for name in ("low", "high"):
        if hasattr(raw, name):
            entry[name] = as_json(getattr(raw, name))
    for name in ("n", "nvec"):
        if hasattr(raw, name):
            entry[name] = np.asarray(getattr(raw, name)).tolist()
    return entry


def as_json(bound: np.ndarray) -> Any:
    """The bounds of a space: one number where all are alike, None where there is none, since JSON has no infinity."""
    numbers = np.where(np.isfinite(bound), bound, np.nan).astype(object)
    numbers[~np.isfinite(bound)] = None
    flat = numbers.ravel().tolist()
    return flat[0] if flat and all(one == flat[0] for one in flat) else numbers.tolist()


def states_of(source: Source) -> list[tuple[str, list[int | None]]]:
    """Names and shapes of a recurrent actor's states, with None for the number of histories."""
    if not source.has_memory:
        return []
    encoder = source.actor.encoder
    shape = [encoder.cell.num_layers, None, encoder.cell.hidden_size]
    own = [(name, shape) for name in CELL_STATES[: encoder.n_states]]
    return [*own, (ACTION_STATE, [1, None, int(np.prod(source.action_space.shape))])]


def normalised_by(source: Source) -> str:
    """In words."""
    inside = any(hasattr(module, "normaliser") for module in source.actor.modules())
    names = (["VecNormalize"] if source.normaliser is not None else []) + (["the model"] if inside else [])
    return " and ".join(names) or "nothing"


def environment_of(source: Source) -> str | None:
    """Its id, where an environment is given that has one."""
    specs = [] if source.env is None else source.env.get_attr("spec")
    return specs[0].id if specs and specs[0] is not None else None


def versions() -> dict[str, str]:
    own = importlib.metadata.version("sb3_ddpg_ext")
    return dict(sb3_ddpg_ext=own, stable_baselines3=stable_baselines3.__version__, torch=th.__version__, numpy=np.__version__)


def training_of(model: Any) -> dict[str, Any]:
    """What the model knows of its training: steps, updates, and the mean return of its last episodes."""
    returns = [info["r"] for info in getattr(model, "ep_info_buffer", None) or ()]
    known = dict(
        steps=int(model.num_timesteps), updates=int(getattr(model, "_n_updates", 0)), gamma=float(model.gamma), seed=model.seed
    )
    if returns:
        known |= dict(mean_return=float(np.mean(returns)), of_last_episodes=len(returns))
    return known
