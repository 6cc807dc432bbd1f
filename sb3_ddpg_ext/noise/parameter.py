"""Noise in the parameters of the actor."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch as th

from sb3_ddpg_ext.noise.base import NOISES, Noise, Scheduled
from sb3_ddpg_ext.noise.perturbed_actors import PerturbedActors
from sb3_ddpg_ext.schedules import check_scheduled, evaluate
from sb3_ddpg_ext.validation import check_instance, check_integer, check_real

if TYPE_CHECKING:
    from sb3_ddpg_ext.policies import DDPGPolicy


MAX_SIGMA = 1e3  # a target that no sigma reaches must not end in infinite parameters


class ParameterNoise(Noise):
    """
    A perturbed copy of the actor acts for an episode, Plappert et al. (2018), "Parameter Space Noise for Exploration",
    section 3: theta + N(0, sigma^2 I). In one episode the same observation always leads to the same action.

    Each environment has a copy of its own, drawn at the beginning of its own episodes from the actor as it is then. All
    copies are evaluated together. Parameters of normalisation layers are copied and never perturbed; an actor with
    ``policy_kwargs=dict(actor_norm="layer")`` is equally sensitive to sigma in all its layers, which the paper recommends.
    The actor itself is not touched: neither updates nor evaluation see the copies.

    :param shared: draw one number for all parameters of a copy instead of one for each, the naive variant of ablations
    """

    _stream_key = 2
    _sigma: float

    def __init__(self, shared: bool = False):
        super().__init__()
        check_instance("shared", shared, bool, "a bool")
        self.shared = shared
        self._stack: PerturbedActors | None = None  # of those that act
        self._probe: PerturbedActors | None = None  # of what is measured
        self._copies: np.ndarray | th.Tensor | None = None  # an array while it is saved

    @property
    def parameter_noise(self) -> "ParameterNoise":  # type: ignore[override]
        return self

    def _prepare(self, episode_length: int | None) -> None:
        self._is_old = np.ones(self.n_envs, dtype=bool)  # environments whose copy is to be drawn before it acts

    def reset(self, indices: Iterable[int] | None = None) -> None:
        if indices is None:
            self._stack = self._probe = None  # the actor may have got other layers since
        self._is_old[slice(None) if indices is None else list(indices)] = True

    def act(self, policy: "DDPGPolicy", observations: Any) -> np.ndarray:
        """
        :param policy: the policy whose actor is perturbed
        :param observations: one for each environment
        :return: the actions of the copies, on the [-1, 1] scale, of shape (n_envs, action_dim)
        """
        if self._stack is None or not self._stack.is_current(policy):
            self._stack = PerturbedActors(policy, self.n_envs)
            if not self._stack.take(self._copies):
                self._is_old[:] = True
            self._copies = self._stack.copies
        if self._is_old.any():
            for env in np.flatnonzero(self._is_old).tolist():
                self._stack.perturb(env, self._draw(self._generators[env], self._stack.n_perturbed))
            self._is_old[:] = False
        return self._stack(observations)

    def apply(self, actions: np.ndarray) -> np.ndarray:
        return actions

    def _draw(self, generator: np.random.Generator, size: int) -> np.ndarray:
        return np.float32(self._sigma) * generator.standard_normal(1 if self.shared else size, dtype=np.float32)

    def after_update(self, n_updates: int, policy: "DDPGPolicy", observations: Any) -> None:
        """
        Adapt, where it is time to.

        :param n_updates: number of this update, from 1
        :param policy: the policy whose actor is perturbed
        :param observations: a batch from the replay buffer
        """

    def __getstate__(self) -> dict[str, Any]:
        copies = self._copies.cpu().numpy() if th.is_tensor(self._copies) else self._copies
        return self.__dict__ | dict(_stack=None, _probe=None, _copies=copies)


@NOISES.register("param")
class FixedParameterNoise(ParameterNoise):
    """
    :class:`ParameterNoise` with a sigma that is given.

    :param sigma: standard deviation in the parameters, >= 0, a number or a schedule
    :param shared: as in :class:`ParameterNoise`
    """

    def __init__(self, sigma: Scheduled = 0.1, shared: bool = False):
        super().__init__(shared)
        self.sigma = check_scheduled("sigma", sigma)

    def set_progress(self, progress_remaining: float, num_timesteps: int) -> None:
        sigma, name = self.sigma, "action_noise: sigma"
        self._sigma = evaluate(sigma, progress_remaining, num_timesteps, name=name) if callable(sigma) else sigma

    def statistics(self) -> dict[str, float]:
        return {"parameter_sigma": self._sigma}


@NOISES.register("adaptive-param")
class AdaptiveParameterNoise(ParameterNoise):
    """
    :class:`ParameterNoise` whose sigma follows a wanted distance between the actions, Plappert et al. (2018), section 3,
    "Adaptive noise scaling".

    Every ``interval`` updates, the actor and another perturbed copy, independent of those that act, see a batch from the
    replay buffer; d is the root mean square of the difference between their actions on the [-1, 1] scale, over batch and
    dimensions. Where d is below the target, sigma is multiplied by ``coefficient``, else divided by it. d differs from copy to
    copy and its median is what comes to the target: with one action dimension its root mean square, the strength of the
    noise, is then a fifth more, with six it is the same.

    Begun at the target, as published, sigma is some ten times too large for a usual network, and exploration is wild during
    the first 10,000 updates. That can be what finds a distant reward; if it is not wanted, ``initial_sigma=0.02``.

    :param target: wanted distance, in (0, 1]: the standard deviation that Gaussian noise of the same strength has; a number or
        a schedule
    :param initial_sigma: sigma before the first adaptation, > 0; None for ``target``
    :param coefficient: factor by which sigma grows or falls at once, > 1
    :param interval: updates between two adaptations
    :param shared: as in :class:`ParameterNoise`
    """

    def __init__(
        self,
        target: Scheduled = 0.2,
        initial_sigma: float | None = None,
        coefficient: float = 1.01,
        interval: int = 50,
        shared: bool = False,
    ):
        super().__init__(shared)
        self.target = check_scheduled("target", target, high=1, above=True)
        self.initial_sigma = (
            initial_sigma if initial_sigma is None else check_real("initial_sigma", initial_sigma, low=0, above=True)
        )
        self.coefficient = check_real("coefficient", coefficient, low=1, above=True)
        self.interval = check_integer("interval", interval, at_least=1)

    def _prepare(self, episode_length: int | None) -> None:
        super()._prepare(episode_length)
        self.set_progress(1.0, 0)
        self._sigma = self._target if self.initial_sigma is None else self.initial_sigma
        self._distance = math.nan  # not measured yet

    def move_to(self, n_envs: int, seed: int | None = None, episode_length: int | None = None) -> Noise:
        adapted = self._sigma, self._distance
        super().move_to(n_envs, seed, episode_length)
        self._sigma, self._distance = adapted
        return self

    def adapted(self) -> dict[str, Any]:
        return dict(sigma=self._sigma, distance=self._distance)

    def take_over(self, adapted: dict[str, Any]) -> None:
        self._sigma, self._distance = adapted["sigma"], adapted["distance"]

    def seed(self, seed: int | None) -> None:
        super().seed(seed)
        entropy = self._generators[0].bit_generator.seed_seq.entropy  # type: ignore[attr-defined]
        self._probe_generator = np.random.default_rng(
            np.random.SeedSequence(entropy, spawn_key=(self._stream_key, -1 % 2**32))
        )

    def set_progress(self, progress_remaining: float, num_timesteps: int) -> None:
        target, name = self.target, "action_noise: target"
        self._target = evaluate(target, progress_remaining, num_timesteps, 1, name) if callable(target) else target

    def after_update(self, n_updates: int, policy: "DDPGPolicy", observations: Any) -> None:
        if n_updates % self.interval == 0:
            self.adapt(policy, observations)

    def adapt(self, policy: "DDPGPolicy", observations: Any) -> float:
        """
        Measure the distance once, and move sigma.

        :return: the distance
        """
        self._distance = self.distance(policy, observations)
        self._sigma *= self.coefficient if self._distance < self._target else 1 / self.coefficient
        self._sigma = min(self._sigma, MAX_SIGMA)
        return self._distance

    def distance(self, policy: "DDPGPolicy", observations: Any) -> float:
        """The distance between the actions of the actor and of a new perturbed copy."""
        if self._probe is None or not self._probe.is_current(policy):
            self._probe = PerturbedActors(policy, 1)
        self._probe.perturb(0, self._draw(self._probe_generator, self._probe.n_perturbed))
        was_training = policy.actor.training
        policy.actor.set_training_mode(False)
        with th.inference_mode():
            difference = self._probe.on_batch(observations) - policy.actor(observations)
        policy.actor.set_training_mode(was_training)
        return difference.square().mean().sqrt().item()

    def statistics(self) -> dict[str, float]:
        statistics = {"parameter_sigma": self._sigma, "parameter_target": self._target}
        return statistics if math.isnan(self._distance) else statistics | {"parameter_distance": self._distance}
