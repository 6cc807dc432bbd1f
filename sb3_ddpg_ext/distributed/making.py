"""How environments are made where they are to run."""

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper, VecNormalize, VecTransposeImage
from stable_baselines3.common.vec_env.patch_gym import _patch_env

from sb3_ddpg_ext.env_checks import ShapeCheck
from sb3_ddpg_ext.validation import check_instance

MAY_BE_AROUND = (VecNormalize, VecTransposeImage)  # what the learner does to observations that have come
FORMS = "the id of an environment, a function that makes one, an environment, or a DummyVecEnv, also in a VecNormalize"


def made_spec(env_id: str) -> gym.envs.registration.EnvSpec:
    """:return: what an id stands for, as ``gym.make`` understands it; workers need not have it registered"""
    with closing(gym.make(env_id)) as env:
        assert env.spec is not None
        return env.spec


class EnvRecipe:
    """
    Makes an environment, here or on another machine.

    :param env: see ``FORMS``. Of a ``DummyVecEnv`` the first environment is copied, with its wrappers.
    :raises ValueError: for vectorised environments that cannot be taken apart
    :raises TypeError: for what makes no environment, or cannot be pickled; the error names the part
    """

    def __init__(self, env: Any):
        check_instance("env", env, object, FORMS)
        self.is_made = hasattr(env, "envs")  # wrapped already, as a user or rl_zoo3 has done it
        if isinstance(env, str):
            env = made_spec(env)
        elif self.is_made:
            env = without_files(env.envs[0])
        elif isinstance(env, VecEnv) or not (callable(env) or isinstance(env, gym.Env)):
            raise TypeError(f"env={env!r} must be {FORMS} with collector=dict(kind='ray')")
        self.pickled = pickled(env)

    def __call__(self) -> gym.Env:
        """
        :return: a new environment, with a ``Monitor``
        :raises TypeError: if a function has made something else
        """
        env = cloudpickle.loads(self.pickled)
        if isinstance(env, gym.envs.registration.EnvSpec):
            env = gym.make(env)
        elif not isinstance(env, gym.Env):
            env = env()
        check_instance("env", env, gym.Env, "a function that makes a gymnasium environment")
        if self.is_made:
            return env
        env = ShapeCheck(_patch_env(env))
        return env if is_wrapped(env, Monitor) else Monitor(env)


def layers_of(env: Any) -> Iterator[gym.Env]:
    """Yield an environment, and those in it."""
    yield env
    while isinstance(env, gym.Wrapper):
        env = env.env
        yield env


def without_files(env: gym.Env) -> gym.Env:
    """
    :param env: with wrappers
    :return: the same, in which no ``Monitor`` writes a file; the file that one has open stays with the first
    """
    if not isinstance(env, gym.Wrapper):
        return env
    own = copy.copy(env)
    own.env = without_files(env.env)
    if isinstance(own, Monitor):
        own.results_writer = None
    return own


def pickled(env: Any) -> bytes:
    """
    :param env: an environment, or what makes one
    :return: its pickle
    :raises TypeError: naming what cannot be pickled
    """
    try:
        return cloudpickle.dumps(env)
    except Exception as error:
        culprits = [name for layer in layers_of(env) for name in _unpicklable(layer)] or [_name(env)]
        raise TypeError(
            f"env={env!r} must be one that can be pickled, to be made on the workers, but {', '.join(culprits)} cannot "
            f"({error}); give the id of an environment or a function that makes it"
        ) from error


def _name(env: Any) -> str:
    return getattr(env, "__qualname__", type(env).__name__)


def _unpicklable(layer: Any) -> Iterator[str]:
    """The attributes of an environment, or what a function has closed over, that cannot be pickled."""
    names = getattr(getattr(layer, "__code__", None), "co_freevars", ())
    closed = {name: cell.cell_contents for name, cell in zip(names, getattr(layer, "__closure__", None) or (), strict=False)}
    for name, value in (closed or getattr(layer, "__dict__", {})).items():
        if name == "env":  # the layer below
            continue
        try:
            cloudpickle.dumps(value)
        except Exception:
            yield f"{_name(layer)}.{name}"


class ThreadedVecEnv(DummyVecEnv):
    """
    Steps all environments at the same time, each in a thread.

    :param env_fns: functions that make them
    """

    def __init__(self, env_fns: list[Any]):
        super().__init__(env_fns)
        self._threads = ThreadPoolExecutor(self.num_envs, thread_name_prefix="environment")

    def step_wait(self) -> Any:
        """See ``VecEnv``."""
        list(self._threads.map(self._step_one, range(self.num_envs)))
        return self._obs_from_buf(), self.buf_rews.copy(), self.buf_dones.copy(), copy.deepcopy(self.buf_infos)

    def _step_one(self, i: int) -> None:
        obs, self.buf_rews[i], terminated, truncated, info = self.envs[i].step(self.actions[i])
        self.buf_dones[i] = terminated or truncated
        info["TimeLimit.truncated"] = truncated and not terminated
        if self.buf_dones[i]:
            info["terminal_observation"] = obs
            obs, self.reset_infos[i] = self.envs[i].reset()
        self.buf_infos[i] = info
        self._save_obs(i, obs)

    def close(self) -> None:
        """See ``VecEnv``."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        super().close()


def split(env: Any) -> tuple[Any, list[VecEnvWrapper]]:
    """
    :param env: what a user has given
    :return: what is in it, and the vectorised wrappers around that, from the innermost
    :raises ValueError: for a wrapper that has to be where the environments are
    """
    wrappers: list[VecEnvWrapper] = []
    while isinstance(env, VecEnvWrapper):
        if type(env) not in MAY_BE_AROUND:
            raise ValueError(
                f"env={type(env).__name__} must not be around environments with collector=dict(kind='ray'), whose workers "
                f"have none of it; VecNormalize may. A wrapper of gymnasium does the same in each environment"
            )
        wrappers.insert(0, env)
        env = env.venv
    return env, wrappers


def wrapped_again(env: VecEnv, wrappers: list[VecEnvWrapper]) -> VecEnv:
    """
    :param env: in place of what the wrappers were around
    :param wrappers: from the innermost; they stay as they are
    :return: the environments in copies of them, with the same statistics
    """
    for wrapper in wrappers:
        if isinstance(wrapper, VecNormalize):
            own = copy.copy(wrapper)
            own.set_venv(env)
            env = own
        else:
            env = VecTransposeImage(env, skip=wrapper.skip)
    return env


def as_seen(env: VecEnv, observations: Any) -> tuple[Any, Any]:
    """
    :param env: with the wrappers that a model has around its environments
    :param observations: as the environments gave them, (n, \\*obs_shape), or a dict of such
    :return: the same as the model sees them, and as they were before ``VecNormalize``
    """
    wrappers: list[VecEnvWrapper] = []
    while isinstance(env, VecEnvWrapper):
        wrappers.insert(0, env)
        env = env.venv
    original = observations
    for wrapper in wrappers:
        if isinstance(wrapper, VecNormalize):
            observations = wrapper.normalize_obs(observations)
        elif isinstance(wrapper, VecTransposeImage):
            original = observations = wrapper.transpose_observations(observations)
    return observations, original


def set_rows(observations: Any, rows: np.ndarray, others: Any) -> None:
    """
    :param observations: (n, \\*obs_shape), or a dict of such, changed in place
    :param rows: (n,), which of them become those of ``others``
    :param others: of the same form
    """
    if isinstance(observations, dict):
        for key, part in observations.items():
            part[rows] = others[key][rows]
    else:
        observations[rows] = others[rows]
