"""What the agent does in training to see something new: random actions at first, noise later."""

from collections import deque
from copy import deepcopy

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise, VectorizedActionNoise
from stable_baselines3.common.type_aliases import MaybeCallback

from sb3_ddpg_ext.collection import Collection
from sb3_ddpg_ext.noise import Noise, ParameterNoise
from sb3_ddpg_ext.specs import make_action_noise
from sb3_ddpg_ext.validation import check_instance, check_integer


class Exploration(Collection):
    """
    ``Collection`` with noise that knows its environments, its seed and the progress of the training, and with a warm-up of
    which the noise is no part.
    """

    random_steps: int | None
    noise_in_warmup: bool
    _is_loading: bool
    _is_past_warmup: bool = False
    _recent_actions: deque[np.ndarray]

    @property
    def parameter_noise(self) -> ParameterNoise | None:
        """The part of ``action_noise`` that perturbs the actor's parameters, if there is one."""
        return self.action_noise.parameter_noise if isinstance(self.action_noise, Noise) else None

    def _setup_noise(self) -> None:
        """From what was given, or was in a file, to noise for these environments."""
        check_instance("noise_in_warmup", self.noise_in_warmup, bool, "a bool")
        if self.random_steps is not None:
            self.random_steps = check_integer("random_steps", self.random_steps, at_least=0)
        if isinstance(self.action_noise, VectorizedActionNoise) and self.action_noise.n_envs != self.n_envs:
            self.action_noise = self.action_noise.base_noise  # loaded with another number of environments
        given, action_dim = self.action_noise, int(np.prod(self.action_space.shape or ()))
        noise = make_action_noise(given, action_dim)
        if isinstance(noise, Noise):
            is_loaded = self._is_loading and noise is given and noise.n_envs > 0
            if not is_loaded:  # a copy: who gave it may give it to another model
                noise = deepcopy(noise).prepare(action_dim, self.n_envs, self.seed, self._episode_length())
            elif noise.n_envs != self.n_envs:
                noise.move_to(self.n_envs, self.seed, self._episode_length())
        self.action_noise = noise
        self._recent_actions = deque(maxlen=1000)

    def _episode_length(self) -> int | None:
        """Of the longest episode, where the environment says it."""
        specs = [] if self.env is None else self.env.get_attr("spec")
        lengths = {getattr(spec, "max_episode_steps", None) for spec in specs}
        return None if None in lengths else max(lengths, default=None)  # type: ignore[type-var]

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
        begins = reset_num_timesteps or self._last_obs is None
        noise, is_ours = self.action_noise, isinstance(self.action_noise, Noise)
        if is_ours:
            self.action_noise = None  # which SB3 would wrap, and reset in the middle of an episode too
        try:
            setup = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        finally:
            if is_ours:
                self.action_noise = noise
        if is_ours and begins:
            noise.reset()  # type: ignore[union-attr]
        if self._total_timesteps > 0:  # before the first step, SB3 still shows the end of the last training
            self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
        if reset_num_timesteps or self.random_steps is None:  # else the warm-up goes on where it was
            self._is_past_warmup = self._n_updates > 0 and not self.repeat_warmup
        return setup

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
            noisy = (
                scaled + action_noise() if noise is None else noise.disturb(scaled.reshape(n_envs, -1)).reshape(scaled.shape)
            )
            scaled = np.minimum(np.maximum(noisy, -1), 1)
        self._recent_actions.append(scaled)
        return self.policy.unscale_action(scaled), scaled

    def _act(self, parameter_noise: ParameterNoise | None) -> np.ndarray:
        """The actions of the policy, or of its perturbed copies, on the [-1, 1] scale."""
        with self._torch_settings(self.batch_size).threads:
            if parameter_noise is not None:
                return parameter_noise.act(self.policy, self._last_obs).reshape(-1, *self.action_space.shape)  # type: ignore[misc]
            actions, _ = self.predict(self._last_obs, deterministic=False)  # type: ignore[arg-type]
        return self.policy.scale_action(actions)

    def _record_exploration(self) -> None:
        """Log the scales of the noise now, and the share of the last actions, at most 1000 a dimension, at the bounds."""
        if isinstance(self.action_noise, Noise):
            for name, value in self.action_noise.statistics().items():
                self.logger.record(f"exploration/{name}", value)
        if self._recent_actions:
            is_at_bound = np.abs(np.concatenate(self._recent_actions)) >= 1
            self._recent_actions.clear()
            shares = is_at_bound.reshape(len(is_at_bound), -1).mean(axis=0)
            self.logger.record("exploration/at_bounds", float(shares.mean()))
            for dim, share in enumerate(shares if len(shares) > 1 else ()):
                self.logger.record(f"exploration/at_bounds_{dim}", float(share), exclude="stdout")

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_recent_actions"]
