"""What is exported: a model, the statistics its observations are normalised by, and the spaces between which it acts."""

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize, unwrap_vec_normalize
from stable_baselines3.td3.policies import TD3Policy

from sb3_ddpg_ext.export.names import OBSERVATION, RESERVED
from sb3_ddpg_ext.observations import parts_of
from sb3_ddpg_ext.validation import check_instance

RGB_AXES = 3


@dataclass(frozen=True)
class Statistics:
    """
    What ``VecNormalize`` does to one part of the observations.

    :param mean: of the same shape, in float64
    :param std: the same
    :param clip: bound of the result
    """

    mean: np.ndarray
    std: np.ndarray
    clip: float


@dataclass(frozen=True)
class Part:
    """
    An observation, or an entry of a ``Dict``.

    :param key: of the entry; None for an observation without keys
    :param name: of the input
    :param raw: the space of what the environment gives
    :param space: the model's
    :param statistics: by which it is normalised before the model; None for not
    """

    key: str | None
    name: str
    raw: spaces.Space
    space: spaces.Space
    statistics: Statistics | None

    @property
    def channels_last(self) -> bool:
        """Whether it is an image whose channels the model has first and the environment last."""
        return self.raw.shape != self.space.shape

    @property
    def layout(self) -> str | None:
        """Of an image, else None."""
        is_image = isinstance(self.space, spaces.Box) and len(self.space.shape) == RGB_AXES
        return None if not is_image else "HWC" if self.channels_last else "CHW"


@dataclass
class Source:
    """
    :param model: its ``predict`` is what the exported actor is compared with
    :param parts: of the observations
    :param normaliser: frozen, or None
    :param env: the environment without it, or None
    """

    model: Any
    parts: list[Part]
    normaliser: VecNormalize | None = None
    env: VecEnv | None = None
    actor: Any = field(init=False)

    def __post_init__(self) -> None:
        policy = self.model.policy
        self.actor = policy.acting(deterministic=True) if hasattr(policy, "acting") else policy.actor

    @property
    def action_space(self) -> spaces.Box:
        return self.model.action_space

    @property
    def takes_reward(self) -> bool:
        """Whether the previous reward is an input."""
        encoder = getattr(self.actor, "encoder", None)
        return encoder is not None and bool(encoder.previous_reward)

    @property
    def has_memory(self) -> bool:
        return hasattr(self.actor, "encoder")

    def predict(self, observation: Any, state: Any = None, episode_start: Any = None, reward: Any = None) -> Any:
        """
        :param observation: raw, several along a first dimension
        :param state: as ``predict`` takes it
        :param episode_start: the same
        :param reward: the previous one, where the model takes it in
        :return: actions and states, the model's own
        """
        if self.normaliser is not None:
            observation = self.normaliser.normalize_obs(observation)
        more = dict(previous_reward=reward) if self.takes_reward else {}
        return self.model.predict(observation, state=state, episode_start=episode_start, deterministic=True, **more)


def make_source(model: Any, vec_normalize: Any, env: Any) -> Source:
    """
    :param model: a DDPG or TD3, of this library or of Stable-Baselines3
    :param vec_normalize: a ``VecNormalize``, the path of a saved one, or None
    :param env: an environment, one with a ``VecNormalize`` around it, or None
    :raises ValueError: if they do not fit each other
    :raises TypeError: for something else
    """
    policy = getattr(model, "policy", None)
    if not isinstance(policy, TD3Policy):
        raise TypeError(f"model={model!r} must be a DDPG or a TD3, of sb3_ddpg_ext or of Stable-Baselines3")
    vec_env = None if env is None else _vectorised(env)
    inner = None if vec_env is None else unwrap_vec_normalize(vec_env)
    normaliser = inner if vec_normalize is None else loaded(vec_normalize)
    if inner is not None:
        if inner is not vec_env:
            raise ValueError(f"env={env!r}: VecNormalize must be its outermost wrapper, for raw observations to be seen")
        vec_env = inner.venv
    if normaliser is not None and not normaliser.norm_obs:
        normaliser = None
    space = model.observation_space
    raw = {} if vec_env is None else parts_of(vec_env.observation_space)
    statistics = {} if normaliser is None else statistics_of(normaliser)
    if unknown := sorted(statistics.keys() - parts_of(space).keys()):
        raise ValueError(f"vec_normalize={vec_normalize!r} has statistics of {unknown}, where the observations are {space}")
    if raw and raw.keys() != parts_of(space).keys():
        raise ValueError(f"env={env!r} has the observations {vec_env.observation_space}, the model {space}")  # type: ignore[union-attr]
    if vec_env is not None and vec_env.action_space.shape != model.action_space.shape:
        raise ValueError(f"env={env!r} has the actions {vec_env.action_space}, the model {model.action_space}")
    parts = [_part(key, one, raw.get(key), statistics.get(key)) for key, one in parts_of(space).items()]
    return Source(model, parts, normaliser, vec_env)


def _vectorised(env: Any) -> VecEnv:
    check_instance("env", env, (gym.Env, VecEnv), "an environment of gymnasium, a VecEnv, or None")
    return env if isinstance(env, VecEnv) else DummyVecEnv([lambda: env])


def loaded(vec_normalize: Any) -> VecNormalize:
    """:param vec_normalize: a ``VecNormalize``, or the path of a saved one, which is a pickle"""
    if isinstance(vec_normalize, str | Path):
        try:
            with open(vec_normalize, "rb") as file:
                normaliser = pickle.load(file)
        except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError) as error:
            raise ValueError(f"vec_normalize={str(vec_normalize)!r} must be a file of VecNormalize.save ({error})") from error
    else:
        normaliser = vec_normalize
    check_instance("vec_normalize", normaliser, VecNormalize, "a VecNormalize, or the path of a saved one")
    return normaliser


def statistics_of(normaliser: VecNormalize) -> dict[str, Statistics]:
    """By the keys of :func:`~sb3_ddpg_ext.observations.parts_of`."""
    moments: Any = normaliser.obs_rms
    by_key = {key: moments[key] for key in normaliser.norm_obs_keys} if normaliser.norm_obs_keys else {"": moments}
    return {
        key: Statistics(one.mean, np.sqrt(one.var + normaliser.epsilon), normaliser.clip_obs) for key, one in by_key.items()
    }


def _part(key: str, space: spaces.Space, raw: spaces.Space | None, statistics: Statistics | None) -> Part:
    name = f"{OBSERVATION}_{key}" if key in RESERVED else key or OBSERVATION
    where = f"observation {key!r}" if key else "observations"
    if statistics is not None and np.shape(statistics.mean) != space.shape:
        raise ValueError(
            f"vec_normalize: the statistics of the {where} have the shape {np.shape(statistics.mean)}, the model's "
            f"{space.shape}; what comes between them, such as VecFrameStack, cannot be exported"
        )
    if raw is None:  # before VecNormalize there are other bounds, which nobody has kept
        raw = space if statistics is None else spaces.Box(-np.inf, np.inf, space.shape, np.float32)
    moved = np.moveaxis(np.empty(raw.shape or ()), -1, 0).shape if is_image_space(space) else None
    if space.shape not in (raw.shape, moved):
        raise ValueError(f"env: the {where} have the shape {raw.shape}, the model's {space.shape}")
    return Part(key or None, name, raw, space, statistics)
