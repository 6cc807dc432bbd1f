"""What is known of a training, made when a check asks for it."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from sb3_ddpg_ext.doctor.episodes import Episodes, at_random, play
from sb3_ddpg_ext.doctor.of_environment import DISCOUNT
from sb3_ddpg_ext.doctor.run_folder import RunFolder, Training
from sb3_ddpg_ext.noise import Noise, as_noise
from sb3_ddpg_ext.observations import each, parts_of

N_ACTED = 2000  # steps of the model, which show what Q is worth
N_STATES = 1000  # at most, for the networks


class Evidence:
    """
    :param model: a DDPG; None where there is none, or it cannot be read
    :param parameters: of its networks and optimisers
    :param env: a single environment, in which it is acted
    :param is_as_trained: whether ``env`` shows observations as the model was trained on
    :param run: the folder of the training
    :param seed: of what is random
    """

    def __init__(
        self,
        model: Any = None,
        parameters: dict[str, Any] | None = None,
        env: VecEnv | None = None,
        is_as_trained: bool = True,
        run: RunFolder | None = None,
        seed: int = 0,
    ):
        self.model, self.parameters, self.env, self.run = model, parameters, env, run
        self.is_as_trained, self.seed = is_as_trained, seed
        self.knows_noise = True  # unless it was left out of the model

    def part(self, name: str) -> Any:
        """
        :param name: of an attribute
        :return: its value; None where there is none
        """
        return getattr(self, name)

    @property
    def action_space(self) -> spaces.Space | None:
        return getattr(self.model if self.env is None else self.env, "action_space", None)

    @cached_property
    def tried(self) -> Episodes | None:
        """Random actions in the environment."""
        return None if self.env is None else play(self.env, at_random(self.env, self.seed), seed=self.seed)

    @property
    def states(self) -> Any:
        """Observations, as the model was trained on them: of random actions, or of the replay buffer."""
        if self.tried is not None and self.is_as_trained:
            every = -(-len(self.tried) // N_STATES)
            return each(lambda part: part[::every], self.tried.observations)
        return self._replayed if self.env is None else None

    @cached_property
    def _replayed(self) -> Any:
        buffer = getattr(self.model, "replay_buffer", None)
        if buffer is None or buffer.size() == 0 or self.model.has_memory:
            return None
        random_state = np.random.get_state()
        batch = buffer.sample(min(N_STATES, buffer.size()), env=self.model.get_vec_normalize_env())
        np.random.set_state(random_state)
        return each(lambda part: part.cpu().numpy(), batch.observations)

    @cached_property
    def vectors(self) -> dict[str, np.ndarray] | None:
        """The vectors of floats in :attr:`states`, each of shape (n, features); None where a layer normalises them."""
        states = self.states
        if states is None or self.has_norms:
            return None
        space = (self.model if self.env is None else self.env).observation_space
        is_vector = {key: isinstance(part, spaces.Box) and not is_image_space(part) for key, part in parts_of(space).items()}
        values = states if hasattr(states, "values") else {"": states}
        found = {key: np.asarray(part).reshape(len(part), -1) for key, part in values.items() if is_vector[key]}
        return {key: part for key, part in found.items() if np.isfinite(part).all()} or None

    @property
    def has_norms(self) -> bool:
        """Whether the model brings its inputs, or the layers after them, to a scale of 1."""
        options = None if self.model is None else self.model.policy.options
        norms = () if options is None else (options.actor_norm, options.input_norm)
        return options is not None and (
            bool(options.normalize_observations) or any(norm not in ("none", None) for norm in norms)
        )

    @property
    def scales_rewards(self) -> bool:
        """Whether the critic learns on a scale of its own."""
        if self.model is None:
            return False
        options, normaliser = self.model.policy.options, self._normaliser
        return bool(options.scale_returns or options.popart) or (normaliser is not None and normaliser.norm_reward)

    @property
    def _normaliser(self) -> Any:
        own = self.model.get_vec_normalize_env()
        return own if own is not None or self.env is None else unwrap_vec_normalize(self.env)

    @property
    def discount(self) -> float:
        return DISCOUNT if self.model is None else self.model.gamma

    @cached_property
    def acted(self) -> Episodes | None:
        """The actions in the environment of the actor that learns, without noise."""
        if self.model is None or self.env is None or not self.is_as_trained:
            return None
        predict: Callable = self.model.predict
        return play(self.env, lambda obs, state, starts: predict(obs, state, starts, False), N_ACTED, seed=self.seed)

    @cached_property
    def actions(self) -> np.ndarray | None:
        """On the [-1, 1] scale, of shape (n, action_dim): in :attr:`states`, or, with a memory, in its own episodes."""
        if self.model is None or self.states is None:
            return None
        if not self.model.has_memory:
            actions = self.model.predict(self.states, deterministic=False)[0]
        elif self.acted is None:
            return None
        else:
            actions = self.acted.actions
        return self.model.policy.scale_action(actions).reshape(len(actions), -1)

    @cached_property
    def q(self) -> np.ndarray | None:
        """What the critic says of :attr:`acted`, on the scale of the rewards as they came, of shape (n,)."""
        if self.acted is None or self.model.has_memory:
            return None
        q = self.model.policy.q_values(self.acted.observations, self.acted.actions).astype(float)
        normaliser = self._normaliser
        if normaliser is not None and normaliser.norm_reward:
            q *= np.sqrt(normaliser.ret_rms.var + normaliser.epsilon)
        return q

    @cached_property
    def training(self) -> Training | None:
        """Episodes of the training: of the folder, or the last ones that the model remembers."""
        if self.run is not None and self.run.training is not None:
            return self.run.training
        infos = list(getattr(self.model, "ep_info_buffer", None) or ())
        return Training(*(np.array([info[key] for info in infos], float) for key in ("r", "l"))) if infos else None

    @property
    def returns(self) -> np.ndarray:
        """Of the episodes of the training, of shape (n,); n is 0 where none is known."""
        return np.empty(0) if self.training is None else self.training.returns

    @property
    def longest_episode(self) -> int | None:
        """In steps: the time limit, or else the longest that was seen."""
        if self.tried is not None and self.tried.limit is not None:
            return self.tried.limit
        lengths = [] if self.training is None else self.training.lengths.tolist()
        lengths += [] if self.tried is None else self.tried.lengths
        return int(max(lengths)) if lengths else None

    @property
    def evaluations(self) -> Any:
        return None if self.run is None else self.run.evaluations

    @property
    def progress(self) -> Any:
        return None if self.run is None else self.run.progress

    @property
    def noises(self) -> list[Noise] | None:
        """The members of the model's exploration noise, none where it has none."""
        if self.model is None or not self.knows_noise:
            return None
        noise = as_noise(self.model.action_noise)
        return [] if noise is None else noise.members

    @property
    def n_updates(self) -> int | None:
        return None if self.model is None else vars(self.model)["_n_updates"]

    @property
    def n_episodes(self) -> int | None:
        return None if self.model is None else vars(self.model)["_episode_num"]
