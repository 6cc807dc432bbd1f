"""What the agent does in training to see something new: random actions at first, noise later."""

from collections import deque
from copy import deepcopy
from io import BufferedIOBase
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise, VectorizedActionNoise
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback

from sb3_ddpg_ext.noise import Noise, ParameterNoise
from sb3_ddpg_ext.replay import Replay
from sb3_ddpg_ext.specs import make_action_noise
from sb3_ddpg_ext.validation import check_instance, check_integer

SelfExploration = TypeVar("SelfExploration", bound="Exploration")


class Exploration(Replay):
    """
    ``Replay`` with noise that knows its environments, its seed and the progress of the training, and with a warm-up of
    which the noise is no part.
    """

    random_steps: int | None
    noise_in_warmup: bool
    _is_loading: bool
    _is_past_warmup: bool = False
    _recent_actions: deque[np.ndarray]
    _noise_aside: Noise | None = None

    @property
    def parameter_noise(self) -> ParameterNoise | None:
        """The part of ``action_noise`` that perturbs the actor's parameters, if there is one."""
        return self.action_noise.parameter_noise if isinstance(self.action_noise, Noise) else None

    @classmethod
    def load(  # type: ignore[override]
        cls: type[SelfExploration],
        path: str | Path | BufferedIOBase,
        env: GymEnv | str | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> SelfExploration:
        """
        Load what :meth:`save` saved, see Stable-Baselines3's ``BaseAlgorithm.load``.

        :param path: the file
        :param env: where to go on training; None to predict only
        :param device: where the networks are to be
        :param custom_objects: what replaces saved objects that cannot be read
        :param print_system_info: show the versions that it was saved with, and the present ones
        :param force_reset: begin with new episodes
        :param kwargs: arguments of the constructor that replace what was saved. The noise goes on where it was, unless
            ``action_noise`` replaces it, or ``seed`` gives it new random streams.
        """
        model = super().load(path, env, device, custom_objects, print_system_info, force_reset, **kwargs)  # type: ignore[arg-type]
        noise = kwargs.get("action_noise")
        if isinstance(noise, Noise):
            model.action_noise = model._prepared(noise)
        elif kwargs.get("seed") is not None and isinstance(model.action_noise, Noise):
            model.action_noise.seed(kwargs["seed"])
        return model

    def _setup_noise(self) -> None:
        """From what was given, or was in a file, to noise for these environments."""
        check_instance("noise_in_warmup", self.noise_in_warmup, bool, "a bool")
        if self.random_steps is not None:
            self.random_steps = check_integer("random_steps", self.random_steps, at_least=0)
        if isinstance(self.action_noise, VectorizedActionNoise) and self.action_noise.n_envs != self.n_envs:
            self.action_noise = self.action_noise.base_noise  # loaded with another number of environments
        given, noise = self.action_noise, make_action_noise(self.action_noise, self._action_dim())
        if isinstance(noise, Noise):
            is_loaded = self._is_loading and noise is given and noise.n_envs > 0
            if not is_loaded:
                noise = self._prepared(noise)
            elif noise.n_envs != self.n_envs:
                seed = None if self.seed is None else self.seed + self.num_timesteps  # not those of its beginning again
                noise.move_to(self.n_envs, seed, self._episode_length(noise))
        self.action_noise = noise
        self._recent_actions = deque(maxlen=1000)

    def _action_dim(self) -> int:
        return int(np.prod(self.action_space.shape or ()))

    def _prepared(self, noise: Noise) -> Noise:
        """A copy: who has given it may give it to another model."""
        return deepcopy(noise).prepare(self._action_dim(), self.n_envs, self.seed, self._episode_length(noise))

    def _episode_length(self, noise: Noise) -> int | None:
        """Of the longest episode, where the noise asks for it and all environments say it."""
        attribute = "_max_episode_steps"  # of gymnasium's TimeLimit; an environment's spec may not go through a pipe
        if not noise.wants_episode_length or self.env is None or not self.env.has_attr(attribute):
            return None
        return max(self.env.get_attr(attribute))

    def set_random_seed(self, seed: int | None = None) -> None:
        """
        Seed torch, NumPy, the environments, the action space and the noise.

        :param seed: None to leave everything as it is
        """
        super().set_random_seed(seed)
        if seed is not None and isinstance(self.action_noise, Noise) and not self._is_loading:
            self.action_noise.seed(seed)

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        if self.env is None:
            raise ValueError("env=None: the model has no environment to learn in; give one to load() or set_env()")
        begins = reset_num_timesteps or self._last_obs is None
        self._adopt_noise()
        if isinstance(self.action_noise, Noise):  # which SB3 would wrap, and reset in the middle of an episode too
            self._noise_aside, self.action_noise = self.action_noise, None
        try:
            setup = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        finally:
            self._bring_noise_back()
        self._check_observation("observation", self._last_obs)
        self._check_normalisation()
        if begins:
            self.policy.begin_episodes()
        self._adopt_noise()
        if begins and isinstance(self.action_noise, Noise):
            self.action_noise.reset()
        if self._total_timesteps > 0:  # before the first step, SB3 still shows the end of the last training
            self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
        if reset_num_timesteps or self.random_steps is None:  # else the warm-up goes on where it was
            self._is_past_warmup = self._n_updates > 0 and not self.repeat_warmup
        return setup

    def _adopt_noise(self) -> None:
        """Prepare what was put in the place of ``action_noise`` since the model was made."""
        noise = self.action_noise
        if noise is not None and (not isinstance(noise, ActionNoise) or (isinstance(noise, Noise) and noise.n_envs == 0)):
            self._setup_noise()

    def _bring_noise_back(self) -> None:
        if self._noise_aside is not None:
            self.action_noise, self._noise_aside = self._noise_aside, None

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        self._bring_noise_back()  # callbacks may look at it, or replace it
        return super()._init_callback(callback, progress_bar)

    def _acts_at_random(self, learning_starts: int) -> bool:
        """Uniform random actions are for an untrained model; see ``repeat_warmup``."""
        random_steps = learning_starts if self.random_steps is None else self.random_steps
        return self.num_timesteps < random_steps and not self._is_past_warmup

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        Random at first, then by the policy, with noise.

        :return: the actions for the environments, and for the buffer: the same on the [-1, 1] scale
        """
        noise = action_noise if isinstance(action_noise, Noise) else None
        if noise is not None:
            noise.set_progress(self._current_progress_remaining, self.num_timesteps)
        is_random = self._acts_at_random(learning_starts)
        if is_random:
            scaled = self.policy.scale_action(np.array([self.action_space.sample() for _ in range(n_envs)]))
        else:
            scaled = self._act(None if noise is None else noise.parameter_noise)
        if action_noise is not None and (self.noise_in_warmup or not is_random):
            noisy = scaled + action_noise() if noise is None else noise.apply(scaled.reshape(n_envs, -1)).reshape(scaled.shape)
            scaled = np.minimum(np.maximum(noisy, -1), 1)
        if np.count_nonzero(np.isfinite(scaled)) < scaled.size:
            raise ValueError(self._why_not_finite(scaled))
        self._recent_actions.append(scaled)
        return self.policy.unscale_action(scaled), scaled

    def _why_not_finite(self, scaled: np.ndarray) -> str:
        for name in ("actor", "critic"):
            if not all(th.isfinite(parameter).all() for parameter in getattr(self.policy, name).parameters()):
                return (
                    f"the parameters of the {name} are not finite after {self._n_updates} updates, nor are the actions. "
                    f"Usual reasons are a learning rate that is too high (here learning_rate={self.learning_rate}) and large "
                    "rewards or observations; policy_kwargs=dict(normalize_observations=True, scale_returns=True) and "
                    "max_grad_norm=1.0 may help"
                )
        return f"policy and action_noise={self.action_noise!r} gave actions={scaled} on the [-1, 1] scale; they must be finite"

    def _act(self, parameter_noise: ParameterNoise | None) -> np.ndarray:
        """The actions of the policy, or of its perturbed copies, on the [-1, 1] scale."""
        with self._torch_settings(self.batch_size).threads:
            if parameter_noise is not None:
                return parameter_noise.act(self.policy, self._last_obs).reshape(-1, *self.action_space.shape)  # type: ignore[misc]
            actions, _ = self.predict(self._last_obs, deterministic=False)  # type: ignore[arg-type]
        return self.policy.scale_action(actions)

    def _record_exploration(self) -> None:
        """Log the scale of the noise now, and the share of actions at the bounds in the last steps, at most 1000."""
        for name, value in self._noise_statistics().items():
            self.logger.record(f"exploration/{name}", value)
        if self._recent_actions:
            is_at_bound = np.abs(np.concatenate(self._recent_actions)) >= 1
            self._recent_actions.clear()
            shares = is_at_bound.reshape(len(is_at_bound), -1).mean(axis=0)
            self.logger.record("exploration/at_bounds", float(shares.mean()))
            for dim, share in enumerate(shares if len(shares) > 1 else ()):
                self.logger.record(f"exploration/at_bounds_{dim}", float(share), exclude="stdout")

    def _noise_statistics(self) -> dict[str, float]:
        noise = self.action_noise
        if isinstance(noise, Noise):
            return noise.statistics()
        sigma = getattr(noise.base_noise if isinstance(noise, VectorizedActionNoise) else noise, "_sigma", None)
        return {} if sigma is None else {"sigma": float(np.mean(sigma))}  # SB3's own

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_recent_actions"]
