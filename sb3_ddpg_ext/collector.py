"""Environment steps, and the checks of what they return."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    VecEnvWrapper,
    VecNormalize,
    VecTransposeImage,
    is_vecenv_wrapped,
)

from sb3_ddpg_ext.env_checks import results_named
from sb3_ddpg_ext.observations import each
from sb3_ddpg_ext.policies.options import Options
from sb3_ddpg_ext.validation import check_finite, check_shape

IMMUTABLE = frozenset((bool, int, float, str, type(None), np.bool_, np.float32, np.float64, np.int32, np.int64))


COPYING = ("stable_baselines3.", "sb3_contrib.", "sb3_ddpg_ext.")  # whose vectorised environments return new arrays


def _layers(env: VecEnv) -> Iterator[VecEnv]:
    """A vectorised environment, and those in it."""
    yield env
    while isinstance(env, VecEnvWrapper):
        env = env.venv
        yield env


def step(env: VecEnv, actions: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """``env.step(actions)``. For SB3's own ``DummyVecEnv`` it leaves out the deep copies of what cannot change."""
    if type(env) is not DummyVecEnv or not env.__dict__.keys().isdisjoint(("step", "step_async", "step_wait")):
        return env.step(actions)  # type: ignore[return-value]
    env.actions = actions
    for i, (single, action) in enumerate(zip(env.envs, actions, strict=True)):
        obs, env.buf_rews[i], terminated, truncated, info = single.step(action)
        env.buf_infos[i] = info
        env.buf_dones[i] = terminated or truncated
        info["TimeLimit.truncated"] = truncated and not terminated
        if env.buf_dones[i]:
            info["terminal_observation"] = obs
            obs, env.reset_infos[i] = single.reset()
        env._save_obs(i, obs)
    new_obs = env.buf_obs[None].copy() if env.keys == [None] else env._obs_from_buf()  # type: ignore[index]
    return new_obs, env.buf_rews.copy(), env.buf_dones.copy(), [_copy_info(info) for info in env.buf_infos]


def _copy_info(info: dict[str, Any]) -> dict[str, Any]:
    return {key: value if type(value) in IMMUTABLE else deepcopy(value) for key, value in info.items()}


class Moment(NamedTuple):
    """
    How far a training is.

    :param num_timesteps: environment steps until now
    :param total_timesteps: at its end
    :param n_random: so many environment steps act at random
    :param noise_in_warmup: whether these have noise, too
    :param n_updates: made until now
    """

    num_timesteps: int
    total_timesteps: int
    n_random: int
    noise_in_warmup: bool
    n_updates: int

    @classmethod
    def of(cls, model: dict[str, Any]) -> "Moment":
        """:param model: its attributes by name"""
        n_random = model["learning_starts"] if model["random_steps"] is None else model["random_steps"]
        return cls(
            model["num_timesteps"], model["_total_timesteps"], 0 if model["_is_past_warmup"] else n_random,
            model["noise_in_warmup"], model["_n_updates"],
        )  # fmt: skip


class Collector:
    """
    Checks what environments return, so that the replay buffer and the model stay as good as they were.

    :param env: the training environments
    :param observation_space: of the model
    :param vec_normalize: the ``VecNormalize`` around the environments, if there is one
    """

    def __init__(self, env: VecEnv, observation_space: spaces.Space, vec_normalize: VecNormalize | None):
        self.env, self.observation_space, self.vec_normalize = env, observation_space, vec_normalize
        self._may_reuse = not all(type(layer).__module__.startswith(COPYING) for layer in _layers(env))

    @property
    def has_begun(self) -> bool:
        """Whether episodes can go on where they were; False where the environments are new."""
        return True

    def is_ready(self, model: dict[str, Any]) -> bool:
        """
        :param model: its attributes by name, of which the last observations may be corrected
        :return: whether a step can be taken; False for updates first
        """
        return True

    def acted(self) -> tuple[np.ndarray, np.ndarray] | None:
        """:return: the actions that were taken elsewhere, for the environments and for the replay buffer, or None"""
        return None

    def histories(self, own: Any) -> Any:
        """
        :param own: what the model knows of the present episodes, where it has a memory
        :return: the same, or what those know who have acted
        """
        return own

    def updates(self, n_transitions: int, gradient_steps: int, may_update: bool) -> int:
        """
        :param n_transitions: of the last rollout
        :param gradient_steps: of the model, -1 for as many as transitions
        :param may_update: whether the model has enough transitions
        :return: how many updates are to be made now
        """
        steps = gradient_steps if gradient_steps >= 0 else n_transitions
        return steps if may_update else 0

    def record(self, logger: Logger) -> None:
        """:param logger: for what is known of the collection since the last time"""

    def stop(self) -> None:
        """Let go of what does not stop by itself, after an error."""

    def own(self, observations: Any) -> Any:
        """
        :param observations: that the environments returned
        :return: the same, as arrays that nobody writes to. A vectorised environment that is not Stable-Baselines3's may return
            the same array at each step, with other contents.
        """
        return each(np.array, observations) if self._may_reuse else observations

    def check_normalisation(self, options: Options) -> None:
        """
        Check that observations and rewards are normalised once. A second normalisation would not see what the first learns.

        :param options: of the policy
        :raises ValueError: if both would do it, or if ``VecNormalize`` gets images with their channels last
        """
        vec_normalize = self.vec_normalize
        if vec_normalize is None:
            return
        if is_vecenv_wrapped(self.env, VecTransposeImage) and not is_vecenv_wrapped(vec_normalize, VecTransposeImage):
            raise ValueError(
                "VecNormalize, whose observations are stored, must get images with their channels first: "
                "VecNormalize(VecTransposeImage(env)), or an environment that has them so"
            )
        for name, wrapped in (("normalize_observations", "norm_obs"), ("scale_returns", "norm_reward")):
            if getattr(vec_normalize, wrapped) and getattr(options, name):
                raise ValueError(
                    f"policy_kwargs[{name!r}] must be False where VecNormalize has {wrapped}=True; choose one of the two"
                )

    def check_observation(self, observation: Any) -> None:
        """
        :param observation: one of each environment
        :raises ValueError: if a shape is not that of the space, or a number is not finite
        """
        check_shape(observation, self.observation_space, leading=(self.env.num_envs,))
        check_finite("observation", observation, self.env.num_envs)

    def step(self, env: VecEnv, actions: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """
        A step, before which what ``VecNormalize`` knows is kept; it makes new arrays, so that nothing is copied.

        :param env: the environments
        :param actions: of shape (n_envs, \\*action_shape)
        """
        if self.vec_normalize is not None:
            self._before = [(moments, vars(moments).copy()) for moments in self._moments()]
            self._returns = self.vec_normalize.returns
        with results_named():
            new_obs, rewards, dones, infos = step(env, actions)
        return self.own(new_obs) if self._may_reuse else new_obs, rewards, dones, infos

    def _moments(self) -> list[RunningMeanStd]:
        assert self.vec_normalize is not None
        of_observations = self.vec_normalize.obs_rms if self.vec_normalize.norm_obs else []
        parts = of_observations.values() if hasattr(of_observations, "values") else [of_observations]
        return [each for each in (*parts, self.vec_normalize.ret_rms) if isinstance(each, RunningMeanStd)]

    def check_step(self, new_obs: Any, rewards: np.ndarray, dones: np.ndarray, infos: list[dict[str, Any]]) -> None:
        """
        Check what a step returned. If ``VecNormalize`` has taken in what is not finite, it is again what it was before.

        :param new_obs: observations
        :param rewards: of shape (n_envs,)
        :param dones: likewise
        :param infos: one of each environment
        :raises ValueError: as :meth:`check_observation`, and for a reward that is not finite
        """
        n_envs = self.env.num_envs
        try:
            if self.vec_normalize is not None:  # which clips what is infinite
                check_finite("observation", self.vec_normalize.get_original_obs(), n_envs)
                check_finite("reward", self.vec_normalize.get_original_reward(), n_envs)
            self.check_observation(new_obs)
            check_finite("reward", rewards, n_envs)
            for env in np.flatnonzero(dones).tolist() if np.count_nonzero(dones) else ():
                if infos[env].get("terminal_observation") is not None:
                    check_finite("terminal_observation", infos[env]["terminal_observation"])
        except ValueError:
            if self.vec_normalize is not None:
                for moments, before in self._before:
                    vars(moments).update(before)
                self.vec_normalize.returns = self._returns
            raise
