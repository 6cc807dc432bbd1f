"""The evidence, from a file, a folder, a model, an environment. Nothing that can run code is opened unless it is trusted."""

import importlib
import json
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize

from sb3_ddpg_ext.ddpg import DDPG
from sb3_ddpg_ext.doctor.evidence import Evidence
from sb3_ddpg_ext.doctor.of_model import not_finite
from sb3_ddpg_ext.doctor.run_folder import RunFolder, read_run
from sb3_ddpg_ext.model_file import DATA, MEMBER, is_pickled, read_parameters
from sb3_ddpg_ext.packing import check_archive, read_packed
from sb3_ddpg_ext.recurrent import RecurrentDDPG

CLASSES: tuple[type[DDPG], ...] = (DDPG, RecurrentDDPG)
ALGORITHMS = ("ddpg_ext", "ddpg_ext_lstm", "ddpg", "td3")  # of rl_zoo3, whose files these can read
NOISE = "action_noise"  # the one attribute that is not needed to act; rl_zoo3's noise_type makes SB3's, which is pickled
PICKLES = "which can run any code and was not opened; --trusted (trusted=True) says that you know who wrote it"


def gather(
    what: Any, env: Any, env_kwargs: Mapping[str, Any] | None, vec_normalize: Any, trusted: bool, seed: int
) -> tuple[Evidence, list[str]]:
    """
    :param what: see :func:`~sb3_ddpg_ext.doctor.examine`, as all others
    :return: the evidence, and what could not be looked at, in words
    """
    evidence, unseen = Evidence(seed=seed), []
    if hasattr(what, "policy"):
        evidence.model, evidence.parameters = what, what.get_parameters()
    elif what is not None:
        unseen += _read(evidence, Path(what), trusted)
    if env is not None:
        evidence.env = wrapped(env, env_kwargs)
    elif evidence.run is not None and evidence.run.env_id:
        unseen += _make_env(evidence, evidence.run, trusted)
    else:
        unseen.append("what happens in the environment; --env (env=...) gives it")
    unseen += _normalise(evidence, vec_normalize, trusted)
    if evidence.model is not None and evidence.env is not None:
        _check_spaces(evidence.model, evidence.env)
    return evidence, unseen


def _read(evidence: Evidence, path: Path, trusted: bool) -> list[str]:
    """Take in a file or a folder."""
    if not path.exists() and path.with_suffix(".zip").exists():
        path = path.with_suffix(".zip")
    if not path.exists():
        raise ValueError(f"what={str(path)!r} must be the file of a model, or the folder of a training")
    if path.is_dir():
        evidence.run = read_run(path)
    elif next(path.parent.glob("*/args.yml"), None) is not None:
        evidence.run = read_run(path.parent, path)
    file = path if evidence.run is None else evidence.run.model
    if file is None:
        return [f"the model: there is none in {path}"]
    algo = "ddpg_ext" if evidence.run is None else evidence.run.settings.get("algo", "ddpg_ext")
    if algo not in ALGORITHMS:
        return [f"{file}: a model of {algo}, and this doctor is for DDPG and TD3"]
    evidence.parameters = read_parameters(file, "cpu")
    if not_finite.made_on(evidence)[1] is not None:
        return [f"{file}: its parameters are not finite"]
    names = [] if trusted else pickles_in(file)
    problem = f"{', '.join(names[:3])} in {file}: a pickle, {PICKLES}"
    if set(names) <= {NOISE}:
        evidence.model, evidence.knows_noise = load(file, trusted, dict.fromkeys(names)), not names
        return [problem] if names else []
    if path.is_file():
        raise ValueError(problem)
    return [problem]


def pickles_in(path: Path) -> list[str]:
    """
    :param path: the file of a model
    :return: the names of its attributes that only a pickle can give
    """
    with zipfile.ZipFile(path) as archive:
        check_archive(archive)
        if MEMBER in archive.namelist():
            return list(read_packed(archive, MEMBER)[0]["pickled"])
        return [name for name, value in json.loads(archive.read(DATA)).items() if is_pickled(value)]


def load(path: Path, trusted: bool, custom_objects: dict[str, Any]) -> DDPG:
    """
    :param path: the file of a model, of either class
    :param trusted: whether to read pickles
    :param custom_objects: in place of those in the file
    :raises ValueError: if it cannot be loaded
    """
    errors = []
    for cls in CLASSES:
        try:
            return cls.load(path, device="cpu", trusted=trusted, custom_objects=custom_objects, verbose=0)
        except ValueError as error:
            errors.append(error)
    raise errors[0]


def wrapped(env: Any, env_kwargs: Mapping[str, Any] | None = None) -> VecEnv:
    """
    :param env: an environment or its id
    :param env_kwargs: for an id
    :raises ValueError: for an unknown id
    """
    if isinstance(env, str):
        _know(env)
        try:
            env = gym.make(env, **(env_kwargs or {}))
        except gym.error.DependencyNotInstalled:
            raise
        except (gym.error.Error, TypeError) as error:
            raise ValueError(f"env={env!r} must be an environment, or the id of one ({error})") from error
    elif env_kwargs:
        raise ValueError(f"env_kwargs={env_kwargs!r} is for the id of an environment, not for {env}")
    return DDPG._wrap_env(env)


def _know(env_id: str) -> None:
    """Let rl_zoo3, where it is installed, register the environments that it knows."""
    try:
        gym.spec(env_id)
    except gym.error.Error:
        with suppress(ImportError):
            import rl_zoo3.import_envs  # noqa: F401


def _make_env(evidence: Evidence, run: RunFolder, trusted: bool) -> list[str]:
    """The environment of a training by rl_zoo3, as it makes it."""
    env_id, packages = str(run.env_id), run.settings.get("gym_packages") or []
    code = [*run.wrappers, *(["gym_packages"] if packages else []), *(["env"] if ":" in env_id else [])]
    if code and not trusted:
        return [f"the environment: {', '.join(code)} in {run.path} names code, {PICKLES}"]
    try:
        for package in packages:
            importlib.import_module(package)
        _know(env_id)
        evidence.env = DDPG._wrap_env(_as_in_the_zoo(run, env_id))
    except (gym.error.Error, ImportError, TypeError) as error:
        return [f"the environment: {env_id} cannot be made here ({error})"]
    return []


def _as_in_the_zoo(run: RunFolder, env_id: str) -> VecEnv:
    wrapper_class = outer = None
    if run.wrappers:
        from rl_zoo3.utils import get_wrapper_class

        wrapper_class, outer = get_wrapper_class(run.config), get_wrapper_class(run.config, "vec_env_wrapper")
    env = make_vec_env(env_id, wrapper_class=wrapper_class, env_kwargs=run.env_kwargs)
    return env if outer is None else outer(env)  # type: ignore[return-value, arg-type]


def _normalise(evidence: Evidence, vec_normalize: Any, trusted: bool) -> list[str]:
    """Put ``VecNormalize`` and stacked frames around, as the training had them."""
    run, env = evidence.run, evidence.env
    file = vec_normalize if vec_normalize is not None else None if run is None else run.normaliser
    if env is None:
        return []
    unseen = []
    if file is not None and not trusted:
        evidence.is_as_trained = False
        unseen.append(f"what the model does: {file} is a pickle, {PICKLES}")
    elif file is not None:
        env = VecNormalize.load(str(file), env)
    elif run is not None and run.normalises:
        evidence.is_as_trained = False
    n_frames = 0 if run is None else run.config.get("frame_stack") or 0
    evidence.env = VecFrameStack(env, n_frames) if n_frames else env
    return unseen


def _check_spaces(model: Any, env: VecEnv) -> None:
    for name in ("observation_space", "action_space"):
        if getattr(model, name) != getattr(env, name):
            raise ValueError(f"env has the {name} {getattr(env, name)}; the model's is {getattr(model, name)}")
