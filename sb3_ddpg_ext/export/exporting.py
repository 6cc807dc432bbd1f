"""Writing an actor, checking it, and loading it again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_ddpg_ext.export import onnx_file, safetensors_file, torchscript_file
from sb3_ddpg_ext.export.description import describe, training_of
from sb3_ddpg_ext.export.parity import TOLERANCE, Parity, ParityError
from sb3_ddpg_ext.export.program import NotExpressible
from sb3_ddpg_ext.export.source import Source, make_source
from sb3_ddpg_ext.files import written_whole
from sb3_ddpg_ext.runtime import Actor
from sb3_ddpg_ext.validation import check_choice, check_integer, check_real

CARD = ".json"  # behind the name of the file


class Format(NamedTuple):
    """
    :param suffix: of its files
    :param write: from a source and its description to the content of a file
    :param load: from a path to an actor
    """

    suffix: str
    write: Callable[[Source, dict[str, Any]], bytes]
    load: Callable[[str | Path], Actor]


FORMATS = {
    "onnx": Format("onnx", onnx_file.write, onnx_file.load),
    "safetensors": Format("safetensors", safetensors_file.write, safetensors_file.load),
    "torchscript": Format("pt", torchscript_file.write, torchscript_file.load),
}


def export(
    model: Any,
    path: str | Path,
    format: str = "onnx",
    vec_normalize: VecNormalize | str | Path | None = None,
    env: gym.Env | VecEnv | None = None,
    n_observations: int = 1000,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    verbose: int = 1,
) -> dict[str, Any]:
    """
    Write the actor alone, with all that is between a raw observation and an action in the environment's units.

    The file is compared with the model before it gets its name. Where they differ, no file is left, and one of before stays.

    :param model: a DDPG or TD3, of this library or of Stable-Baselines3
    :param path: of the file; a model card in JSON is written beside it, with ``.json`` behind the name
    :param format: ``"onnx"``, ``"safetensors"``, which :mod:`sb3_ddpg_ext.runtime` runs with NumPy alone, or
        ``"torchscript"``, which takes networks of any kind
    :param vec_normalize: what normalised the observations in training, or the path of a saved one, which is a pickle; None
        for that around ``env``, if there is one
    :param env: acts in an episode for the comparison, and says what raw observations are: their type, their bounds, and
        whether the channels of images are last
    :param n_observations: for the comparison, drawn from the spaces
    :param seed: of that draw
    :param tolerance: largest difference that is let pass, on the [-1, 1] scale, > 0: rounding alone can be more than 1e-5
        where weights are very large
    :param verbose: 1 prints the largest difference
    :return: the model card
    :raises ValueError: for an unknown format, or what does not fit the model
    :raises NotExpressible: for networks that only ``format="torchscript"`` can express; a ValueError
    :raises ParityError: if an action differs by more than that
    :raises TypeError: for another model
    :raises ImportError: if onnx or onnxruntime is missing
    """
    check_choice("format", format, sorted(FORMATS))
    n_observations = check_integer("n_observations", n_observations, at_least=1)
    tolerance = check_real("tolerance", tolerance, low=0, above=True)
    source, chosen = make_source(model, vec_normalize, env), FORMATS[format]
    about = describe(source)
    try:
        content = chosen.write(source, about)
    except NotExpressible as reason:
        raise NotExpressible(f"format={format!r} cannot express {reason}; format='torchscript' traces any network") from None
    with written_whole(path, chosen.suffix) as file:
        file.write(content)
        file.flush()
        differences = compared(source, chosen.load(file.name), n_observations, seed)
        if verbose > 0:
            print("; ".join(f"largest difference in {what}: {value:.1e}" for what, value in differences.items()))
        if not all(value <= tolerance for value in differences.values()):  # nor is NaN
            raise ParityError(
                f"path={str(path)!r}: the exported actor differs from the model by {differences}, in parts of half the range "
                f"of an action; at most {tolerance:g} is allowed, and the file is not kept"
            )
    written = Path(path) if Path(path).suffix else Path(f"{path}.{chosen.suffix}")
    card = dict(file=written.name, file_format=format, bytes=len(content), **about,
                parity=dict(unit="half the range of an action", tolerance=tolerance, largest_difference=differences),
                training=training_of(model))  # fmt: skip
    with written_whole(f"{written}{CARD}") as file:
        file.write((json.dumps(card, indent=1) + "\n").encode())
    return card


def compared(source: Source, actor: Actor, n: int, seed: int) -> dict[str, float]:
    """
    :param source: with the model
    :param actor: the exported one
    :param n: observations to draw
    :param seed: of the draw
    :return: the largest difference by what was compared
    """
    parity = Parity(source, actor)
    differences = {f"{n} observations": parity.of_observations(n, seed)}
    if source.env is not None:
        source.env.seed(seed)
        difference, n_steps = parity.of_episode()
        differences[f"an episode of {n_steps} steps"] = difference
    return differences


def load(path: str | Path) -> Actor:
    """
    An exported actor, whatever its format, with ``predict`` as Stable-Baselines3's models have it, for raw observations.

    :param path: of the file
    :raises ValueError: if it is none
    :raises ImportError: if onnxruntime is missing
    """
    with open(path, "rb") as file:
        begin = file.read(9)
    name = "torchscript" if begin[:2] == b"PK" else "safetensors" if begin[8:] == b"{" else "onnx"
    try:
        return FORMATS[name].load(path)
    except (ImportError, ValueError):
        raise
    except Exception as error:  # torch and onnxruntime have their own
        raise ValueError(f"path={str(path)!r} must be an exported actor, undamaged ({error})") from error
