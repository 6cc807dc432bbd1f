"""How a policy acts: from observations to actions within their bounds, by its actor or by a running average of it."""

from typing import Any, Literal

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.td3.policies import TD3Policy

from sb3_ddpg_ext.networks import NotPlain
from sb3_ddpg_ext.policies.acting import PlainActor
from sb3_ddpg_ext.policies.actor import Actor
from sb3_ddpg_ext.policies.averaging import ActorAverage
from sb3_ddpg_ext.validation import refuse_not_finite


class ActingPolicy(TD3Policy):
    """
    Stable-Baselines3's ``TD3Policy`` with the acting of :class:`~sb3_ddpg_ext.policies.DDPGPolicy`.

    :param args: as there
    :param kwargs: as there
    """

    acts_exactly = True  # with the bits of SB3's actions; else in less time, to rounding
    options: Any
    normaliser: Any
    action_space: spaces.Box
    actor: Actor
    averaged_actor: Actor

    def __init__(self, *args: Any, **kwargs: Any):
        self._acting: dict[bool, PlainActor | Literal[False]] = {}  # by whether they are the average's
        self._average: ActorAverage | None = None
        super().__init__(*args, **kwargs)
        self._space_of_units = self.action_space  # which somebody may replace later
        low, high = self.action_space.low, self.action_space.high
        self._half_range, self._rounds_past_bounds = 0.5 * (high - low), False
        for one in (np.float32(1), np.float64(1)):
            if (self.unscale_action(one) > high).any() or (self.unscale_action(-one) < low).any():
                self._rounds_past_bounds = True

    def scale_action(self, action: np.ndarray) -> np.ndarray:
        """From the bounds of the action space to [-1, 1]."""
        return (action - self.action_space.low) / self._half_range - 1.0  # SB3's bits: halving is exact

    def unscale_action(self, scaled_action: Any) -> np.ndarray:
        """From [-1, 1] to the bounds of the action space, which rounding in float32 must not leave."""
        action = (scaled_action + 1.0) * self._half_range + self.action_space.low
        if self._rounds_past_bounds:
            action = np.minimum(np.maximum(action, self.action_space.low), self.action_space.high)
        return action

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        The action mu(s), without noise, within the bounds of the action space.

        :param observation: one observation, or several along a first dimension
        :param state: returned as it is
        :param episode_start: for recurrent policies
        :param deterministic: whether the average of the actor acts, where there is one; see ``actor_average`` of the options
        :raises ValueError: for an observation that is not finite
        """
        actor = self.plain_actor(deterministic)
        batch = None if actor is None else actor.batch_of(observation)
        if actor is not None and batch is not None:
            observations, is_single = batch
            actions = actor.in_units(observations) if self._has_plain_units() else None
            if actions is None:
                refuse_not_finite("observation", observation)
                actions = self._unscaled(actor(observations))
            return actions[0] if is_single else actions, state
        refuse_not_finite("observation", observation)
        return super().predict(observation, state, episode_start, deterministic)

    def acting(self, deterministic: bool) -> Actor:
        """The actor by which :meth:`predict` acts: its average, where there is one, or the one that learns and explores."""
        is_average = deterministic and self._average is not None
        return self._modules["averaged_actor" if is_average else "actor"]  # type: ignore[return-value]  # as self.actor, faster

    def _predict(self, observation: Any, deterministic: bool = False) -> th.Tensor:
        return self.acting(deterministic)(observation)

    def plain_actor(self, deterministic: bool = False) -> PlainActor | None:
        """The short way to the action, if this policy has one and nothing has been hung onto its networks since."""
        is_average = deterministic and self._average is not None
        actor, known = self.acting(deterministic), self._acting.get(is_average)
        if known is None or (known and not known.is_current(actor, self.acts_exactly)):
            acts_as_sb3 = self.acts_by_its_actor() and type(self).obs_to_tensor is TD3Policy.obs_to_tensor
            units = self.action_space.low, self.action_space.high, self._half_range
            try:
                known = PlainActor(actor, self.acts_exactly, units) if acts_as_sb3 else False
            except NotPlain:
                known = False
            self._acting[is_average] = known
        return known or None

    def _has_plain_units(self) -> bool:
        """Whether nobody has given this policy another way from [-1, 1] to the units of the actions, or other units."""
        cls, own = type(self), self.__dict__
        return (
            self.action_space is self._space_of_units
            and cls.unscale_action is ActingPolicy.unscale_action
            and cls._unscaled is ActingPolicy._unscaled
            and "unscale_action" not in own
            and "_unscaled" not in own
        )

    def acts_by_its_actor(self) -> bool:
        """Whether no subclass has another way to an action than the actor."""
        return type(self)._predict is ActingPolicy._predict and type(self).forward is TD3Policy.forward

    def average_actor(self) -> None:
        """The actor has made a step, which its average follows where there is one."""
        if self._average is not None:
            if not self._average.is_current():  # other layers: there is nothing to average with
                self.begin_average()
            self._average.update()

    def begin_average(self) -> None:
        """Begin the average, where the options ask for one, at the actor as it is now."""
        if not self.options.actor_average:
            return
        self._average = ActorAverage(self.actor, self.options.actor_average, self.normaliser)
        self.averaged_actor = self._average.network

    def _unscaled(self, actions: np.ndarray) -> np.ndarray:
        shape = self.action_space.shape
        return self.unscale_action(actions if len(shape) == 1 else actions.reshape(-1, *shape))

    def set_training_mode(self, mode: bool) -> None:
        super().set_training_mode(mode)
        if self._average is not None:
            self.averaged_actor.set_training_mode(False)
