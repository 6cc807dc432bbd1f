"""The actions of a worker's environments."""

from collections.abc import Iterable
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.noise import VectorizedActionNoise
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, VecTransposeImage

from sb3_ddpg_ext.collector import Moment
from sb3_ddpg_ext.explorer import Explorer, prepare_noise
from sb3_ddpg_ext.finite import are_finite
from sb3_ddpg_ext.histories import Histories
from sb3_ddpg_ext.noise import Noise, as_noise
from sb3_ddpg_ext.noise.base import PerturbedActor, applied
from sb3_ddpg_ext.observations import each
from sb3_ddpg_ext.policies import DDPGPolicy


class Parameters(NamedTuple):
    """
    What the learner sends to its workers.

    :param version: counts them
    :param numbers: of the networks that act, see :func:`numbers_of`
    :param adapted: what the noise has adapted to
    :param normaliser: a ``VecNormalize`` without environments, for observations; None for none
    """

    version: int
    numbers: dict[str, np.ndarray]
    adapted: dict[str, Any]
    normaliser: VecNormalize | None


class ActingPlan(NamedTuple):
    """
    How the environments of all workers act.

    :param policy_class: of the model
    :param spaces: of observations and actions, as the model sees them; the latter with its random stream
    :param policy_kwargs: of the model
    :param acts_exactly: see :class:`~sb3_ddpg_ext.policies.DDPGPolicy`
    :param noise: of the model, or None
    :param factors: on the noise, one for each environment; None for 1
    :param n_envs: of all workers
    :param seed: of the model, or None
    :param is_synchronous: whether the numbers are to be those of one process that acts for all environments
    :param remembers: whether the policy has a memory
    :param stores_states: whether its states are stored, for which the critic's are followed, too
    :param transposes: whether images come with their channels last, and the model sees them first
    """

    policy_class: type[DDPGPolicy]
    spaces: tuple[Any, Any]
    policy_kwargs: dict[str, Any]
    acts_exactly: bool
    noise: Any
    factors: list[float] | None
    n_envs: int
    seed: int | None
    is_synchronous: bool
    remembers: bool
    stores_states: bool
    transposes: bool


def acting_modules(policy: DDPGPolicy, stores_states: bool) -> dict[str, th.nn.Module]:
    """
    :param policy: the policy
    :param stores_states: whether the critic's memory is followed, too
    :return: what acts, by name
    """
    return dict(actor=policy.actor) | (dict(encoder=policy.critic.encoder) if stores_states else {})  # type: ignore[dict-item]


def numbers_of(policy: DDPGPolicy, stores_states: bool) -> dict[str, np.ndarray]:
    """
    :param policy: the policy
    :param stores_states: whether the critic's memory is followed, too
    :return: parameters and buffers of what acts, by name
    """
    modules = acting_modules(policy, stores_states)
    return {f"{net}.{name}": part.numpy(force=True) for net in modules for name, part in modules[net].state_dict().items()}


class ScaledNoise(Noise):
    """
    A noise that is added to the actions, times a factor for each environment.

    :param noise: prepared
    :param factors: (n_envs, 1)
    """

    def __init__(self, noise: Noise, factors: np.ndarray):
        super().__init__()
        self.noise, self.factors = noise, factors

    def reset(self, indices: Iterable[int] | None = None) -> None:
        self.noise.reset(indices)

    def set_progress(self, progress_remaining: float, num_timesteps: int) -> None:
        self.noise.set_progress(progress_remaining, num_timesteps)

    def apply(self, actions: np.ndarray) -> np.ndarray:
        return actions + self.factors * (applied(self.noise, actions) - actions)

    def take_over(self, adapted: dict[str, Any]) -> None:
        self.noise.take_over(adapted)


def stream_seed(seed: int | None, *numbers: int) -> int:
    """
    :param seed: of the model; None for a fresh one
    :param numbers: by which streams of the same seed differ
    :return: a seed
    """
    entropy = None if seed is None else [seed, *numbers]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


class Acting:
    """
    Acts for some of the environments by a copy of the policy: at random at first, with noise later, as the model would.

    :param plan: for all workers
    :param envs: of the worker
    :param first: the number of the first of them, among those of all workers
    :param start: how often the worker has been started; each time has random numbers of its own
    """

    def __init__(self, plan: ActingPlan, envs: VecEnv, first: int, start: int):
        self.plan, self.n, self.version = plan, envs.num_envs, -1
        self.columns = slice(first, first + self.n)
        self.own = self.columns if plan.is_synchronous else slice(None)  # in a batch, see _among_all
        self.action_space = plan.spaces[1]
        self.policy = plan.policy_class(*plan.spaces, lambda _: 0.0, **plan.policy_kwargs)
        self.policy.acts_exactly = plan.acts_exactly
        self.policy.set_training_mode(False)
        self.explorer = Explorer()
        self.normaliser: VecNormalize | None = None
        self.transpose = VecTransposeImage(envs).transpose_observations if plan.transposes else None
        if not plan.is_synchronous:  # in which all draw for all, as one process would
            self.action_space.seed(stream_seed(plan.seed, first, start, 0))
        self.noise = self._prepared(plan, envs, first, start)

    def _prepared(self, plan: ActingPlan, envs: VecEnv, first: int, start: int) -> Noise | None:
        noise = deepcopy(plan.noise)
        if isinstance(noise, Noise):
            noise.begin_at(first)
        seed = plan.seed if start == 0 else stream_seed(plan.seed, first, start, 1)
        noise = prepare_noise(noise, self.action_space.shape, envs, self.n, seed, 0, is_loading=False)
        if isinstance(noise, Noise):
            noise.seed(seed)  # as the model does once more; a process that begins at random has drawn already
        elif noise is not None:
            np.random.seed(stream_seed(plan.seed, first, start, 2))  # from which Stable-Baselines3's noises draw
            noise = VectorizedActionNoise(noise, self.n) if self.n > 1 else noise
        own = as_noise(noise)
        factors = plan.factors
        return own if own is None or factors is None else ScaledNoise(own, np.array(factors)[self.columns, None])

    def take(self, parameters: Parameters) -> None:
        """:param parameters: by which to act from now on"""
        if parameters.version == self.version:
            return
        with th.no_grad():
            modules = acting_modules(self.policy, self.plan.stores_states)
            own = {f"{net}.{name}": part for net in modules for name, part in modules[net].state_dict().items()}
            for name, value in parameters.numbers.items():
                own[name].copy_(th.as_tensor(np.array(value)))
        if self.noise is not None:
            self.noise.take_over(parameters.adapted)
        self.normaliser, self.version = parameters.normaliser, parameters.version

    def hear(self, rewards: np.ndarray | None) -> None:
        """:param rewards: see :class:`~sb3_ddpg_ext.distributed.chunk.Order`"""

    def begin(self) -> None:
        """All episodes begin."""
        if self.noise is not None:
            self.noise.reset()

    def go_on(self, actions: np.ndarray, rewards: np.ndarray, dones: np.ndarray) -> None:
        """
        :param actions: that were taken, on the [-1, 1] scale
        :param rewards: for them, (k,)
        :param dones: which episodes have ended, (k,)
        """
        for env in np.flatnonzero(dones).tolist() if self.noise is not None else ():
            self.noise.reset(indices=[env])  # type: ignore[union-attr]

    def states(self) -> np.ndarray | None:
        """What a policy with a memory remembered before it saw the last observations, (k, state_size); None without one."""
        return None

    def choose(self, observations: Any, moment: Moment) -> np.ndarray:
        """
        :param observations: of the worker's environments
        :param moment: of the training
        :return: actions on the [-1, 1] scale, (k, \\*action_shape)
        :raises ValueError: if they are not finite
        """
        seen = observations if self.transpose is None else self.transpose(observations)
        seen = seen if self.normaliser is None else self.normaliser.normalize_obs(seen)
        self._look(seen)
        progress = max(1.0 - moment.num_timesteps / max(moment.total_timesteps, 1), 0.0)
        scaled = self.explorer.explore(
            lambda perturbed: self._act(seen, perturbed), self._draw, self.noise, moment.n_random, moment.noise_in_warmup,
            progress, moment.num_timesteps,
        )  # fmt: skip
        if not are_finite(scaled):
            raise ValueError(f"the actions {scaled} of version {self.version} of the actor must be finite")
        return scaled

    def _look(self, seen: Any) -> None:
        """For a policy with a memory."""

    def _act(self, observations: Any, perturbed: PerturbedActor | None) -> np.ndarray:
        shape = self.action_space.shape
        if perturbed is not None:
            return perturbed.act(self.policy, observations).reshape(-1, *shape)
        actions = self.policy.predict(each(self._among_all, observations))[0][self.own]
        return self.policy.scale_action(actions)

    def _among_all(self, part: np.ndarray) -> np.ndarray:
        """In a batch for all environments where one process would have that, whose sums are made in another order."""
        if not self.plan.is_synchronous:
            return part
        whole = np.zeros_like(part, shape=(self.plan.n_envs, *part.shape[1:]))  # also of the same order in memory
        whole[self.columns] = part
        return whole

    def _draw(self) -> np.ndarray:
        n = self.plan.n_envs if self.plan.is_synchronous else self.n
        drawn = np.array([self.action_space.sample() for _ in range(n)])
        return self.policy.scale_action(drawn[self.columns] if self.plan.is_synchronous else drawn)


class RememberingActing(Acting):
    """
    Acts by a policy with a memory.

    :param args: as for :class:`Acting`
    """

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._histories, self._is_new = Histories(), True

    def begin(self) -> None:
        """See :class:`Acting`."""
        super().begin()
        n = self.plan.n_envs if self.plan.is_synchronous else self.n
        self._histories.begin(self.policy, n, self.plan.stores_states)  # type: ignore[arg-type]
        self._is_new = True

    def hear(self, rewards: np.ndarray | None) -> None:
        """See :class:`Acting`. What was before its first step is not this worker's."""
        if rewards is not None and not self._is_new:
            self._histories.previous_rewards.copy_(th.as_tensor(rewards).reshape(-1, 1))

    def _act(self, observations: Any, perturbed: PerturbedActor | None) -> np.ndarray:
        return self._histories.actions[self.own].reshape(-1, *self.action_space.shape)

    def _look(self, seen: Any) -> None:
        # Also where the action is random.
        self._histories.take_in(self.policy, each(self._among_all, seen))  # type: ignore[arg-type]

    def go_on(self, actions: np.ndarray, rewards: np.ndarray, dones: np.ndarray) -> None:
        """See :class:`Acting`."""
        super().go_on(actions, rewards, dones)
        rewards = rewards if self.normaliser is None else self.normaliser.normalize_reward(rewards)
        self._histories.go_on(*map(self._among_all, (actions, rewards, dones)))
        self._is_new = False

    def states(self) -> np.ndarray:
        """See :class:`Acting`."""
        return self._histories.as_rows()[self.own]


def make_acting(plan: ActingPlan, envs: VecEnv, first: int, start: int) -> Acting:
    """See :class:`Acting`, also for the parameters."""
    return (RememberingActing if plan.remembers else Acting)(plan, envs, first, start)
