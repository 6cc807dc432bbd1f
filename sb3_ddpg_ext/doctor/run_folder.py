"""The folder of a training: what rl_zoo3, or Stable-Baselines3's Monitor, EvalCallback and logger have written there."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

NORMALISER = "vecnormalize.pkl"
WRAPPERS = ("env_wrapper", "vec_env_wrapper")


class Evaluations(NamedTuple):
    """
    What ``EvalCallback`` has written.

    :param steps: at which it evaluated, of shape (n,)
    :param returns: of shape (n, episodes)
    """

    steps: np.ndarray
    returns: np.ndarray


class Training(NamedTuple):
    """
    Episodes of the training, in the order in which they ended.

    :param returns: of shape (n,)
    :param lengths: in steps
    """

    returns: np.ndarray
    lengths: np.ndarray


@dataclass
class RunFolder:
    """
    :param path: the folder
    :param model: its file, if there is one: the last one, else the best
    :param normaliser: the file of ``VecNormalize``, if there is one
    :param settings: rl_zoo3's ``args.yml``; empty where it was not rl_zoo3
    :param config: rl_zoo3's ``config.yml``, likewise
    :param has_monitor: whether there is a file of ``Monitor``
    :param training: from these files; None without an episode
    :param evaluations: from ``evaluations.npz``
    :param progress: columns of ``progress.csv`` by name
    """

    path: Path
    model: Path | None = None
    normaliser: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    has_monitor: bool = False
    training: Training | None = None
    evaluations: Evaluations | None = None
    progress: dict[str, np.ndarray] | None = None

    @property
    def normalises(self) -> bool:
        """Whether rl_zoo3 was to put ``VecNormalize`` around the environments."""
        return bool(self.config.get("normalize", False))

    @property
    def wrappers(self) -> list[str]:
        """Keys of the configuration that name code around the environment."""
        return [name for name in WRAPPERS if self.config.get(name)]

    @property
    def env_id(self) -> str | None:
        """The environment's, where rl_zoo3 has written it."""
        return self.settings.get("env")

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """Arguments of the environment, of the configuration and of the command line."""
        return (self.config.get("env_kwargs") or {}) | (self.settings.get("env_kwargs") or {})


def read_run(path: Path, model: Path | None = None) -> RunFolder:
    """
    Read a folder. No pickle is opened, and YAML's tags for Python objects make none.

    :param path: the folder
    :param model: the file of the model, where it is not to be looked for
    :raises ValueError: if there is nothing of a training in it, or a file of it is damaged
    """
    own = next((file.parent for file in sorted(path.glob("*/args.yml"))), path)
    named = path / f"{own.name}.zip"
    zips = [file for file in (named, path / "best_model.zip", *sorted(path.glob("*.zip"))) if file.is_file()]
    run = RunFolder(path, model or next(iter(zips), None))
    run.normaliser = next((file for file in (own / NORMALISER, path / NORMALISER) if file.is_file()), None)
    run.settings, run.config = read_yaml(own / "args.yml"), read_yaml(own / "config.yml")
    monitors = sorted(path.glob("*monitor.csv"))
    run.has_monitor, run.training = bool(monitors), read_monitors(monitors)
    run.evaluations, run.progress = read_evaluations(path / "evaluations.npz"), read_progress(path / "progress.csv")
    if run.model is None and not monitors and run.evaluations is None and run.progress is None and not run.settings:
        raise ValueError(f"{str(path)!r} must have a model (*.zip), monitor.csv, evaluations.npz or progress.csv in it")
    return run


def read_yaml(path: Path) -> dict[str, Any]:
    """
    :param path: a file of rl_zoo3, which has ordered dictionaries in it
    :return: its contents; empty where it is missing
    :raises ValueError: if it is damaged
    :raises ImportError: if PyYAML is missing
    """
    if not path.is_file():
        return {}
    import yaml

    class Plain(yaml.SafeLoader):
        """Lists, dictionaries and texts in place of Python objects."""

    def without_tag(loader: Any, suffix: str, node: Any) -> Any:
        made = {"scalar": loader.construct_scalar, "sequence": loader.construct_sequence, "mapping": loader.construct_mapping}
        value = made[node.id](node, **({} if node.id == "scalar" else {"deep": True}))
        return dict(map(tuple, value[0])) if suffix.endswith("collections.OrderedDict") and value else value

    Plain.add_multi_constructor("tag:yaml.org,2002:python/", without_tag)
    try:
        with path.open() as file:
            return yaml.load(file, Plain) or {}
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} must be YAML as rl_zoo3 writes it ({error})") from error


def read_monitors(paths: list[Path]) -> Training | None:
    """
    :param paths: files of ``Monitor``, one for each environment
    :return: their episodes, in the order in which they ended; None where there is none
    :raises ValueError: if one is damaged
    """
    rows: list[tuple[float, float, float]] = []
    for path in paths:
        try:
            rows += _rows_of(path)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{str(path)!r} must be a file of Monitor, undamaged ({error})") from error
    if not rows:
        return None
    _, returns, lengths = np.array(sorted(rows)).T
    return Training(returns, lengths)


def _rows_of(path: Path) -> Iterator[tuple[float, float, float]]:
    """When each episode ended, its return and its length. A last line that was cut is left out."""
    with path.open() as file:
        began = json.loads(next(file, "")[1:])["t_start"]
        names = next(file, "").strip().split(",")
        where = [names.index(name) for name in ("t", "r", "l")]
        for line in file:
            words = line.strip().split(",")
            if len(words) == len(names) and line.endswith("\n"):
                t, r, length = (float(words[i]) for i in where)
                yield began + t, r, length


def read_evaluations(path: Path) -> Evaluations | None:
    """:param path: what ``EvalCallback`` has written; None comes back where it is missing"""
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as file:
        return Evaluations(file["timesteps"], file["results"].reshape(len(file["timesteps"]), -1))


def read_progress(path: Path) -> dict[str, np.ndarray] | None:
    """
    :param path: what the ``csv`` format of Stable-Baselines3's logger has written
    :return: columns by name, NaN where nothing was logged; None where the file is missing or empty
    """
    if not path.is_file() or path.stat().st_size == 0:
        return None
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([_number(row[name]) for row in rows]) for name in (rows[0] if rows else [])} or None


def _number(word: str | None) -> float:
    try:
        return float(word or "nan")
    except ValueError:
        return float("nan")
