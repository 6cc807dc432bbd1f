"""Environments on other machines, as Stable-Baselines3 knows vectorised ones."""

from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper

from sb3_ddpg_ext.distributed.attributes import Attributes
from sb3_ddpg_ext.distributed.cluster import connect
from sb3_ddpg_ext.distributed.crew import Came, Crew
from sb3_ddpg_ext.distributed.making import EnvRecipe
from sb3_ddpg_ext.distributed.rounds import Round, Rounds
from sb3_ddpg_ext.distributed.settings import RayCollector
from sb3_ddpg_ext.distributed.worker import Job, Making
from sb3_ddpg_ext.observations import each

LOCAL = ("compute_reward",)  # methods that say the same for any environment, and are called at each batch
OF_CHECKPOINTS = ("get_state", "set_state")  # which ask for the middle of an episode


class RemoteEnvs(VecEnv):
    """
    The environments of workers on Ray, which choose the actions themselves: a step gives the next row that has come.

    One environment of the same kind is here, for its spaces and for ``compute_reward``. Workers start with the first
    ``reset()`` of a training, or with ``env_method``, and stay until ``close()``, an error, or Ctrl-C. Their environments have
    the attributes that ``set_attr`` has given them at any time.

    :param settings: of the collection
    :param recipe: of an environment
    """

    def __init__(self, settings: RayCollector, recipe: EnvRecipe):
        self.settings, self.recipe = settings, recipe
        self.template = DummyVecEnv([recipe])
        self.attributes = Attributes()
        self.crew: Crew | None = None
        self.rounds = Rounds(settings.n_workers, settings.envs_per_worker, may_take=not settings.is_synchronous)
        self.round: Round | None = None
        self.rewards: np.ndarray | None = None  # see Order; also for the collector of the next training
        self._job: Job | None = None
        self._n_starts = 0
        super().__init__(settings.n_envs, self.template.observation_space, self.template.action_space)

    def give(self, job: Job) -> None:
        """
        :param job: for the workers from the next ``reset()`` on; where it is another one than before, others do it
        """
        if self._job is not None and (job.plan.noise, job.plan.policy_kwargs) != (
            self._job.plan.noise,
            self._job.plan.policy_kwargs,
        ):
            self.stop()
        self._job = job

    @property
    def stores_states(self) -> bool:
        """Whether workers follow all states of a policy with a memory."""
        return self._job is not None and self._job.plan.stores_states

    def reset(self) -> Any:
        """
        Begin new episodes, with workers that are started where there are none.

        :return: observations, (n_envs, \\*obs_shape), or a dict of such
        :raises ImportError: if Ray is missing
        :raises ValueError: outside a training with a ``RayCollector``
        """
        if self._job is None:
            raise ValueError(
                "these environments act by a model on Ray: only learn() of a model with this collector steps them"
            )
        if self.crew is not None and self.crew.lost is not None:
            self.stop()
        crew, job = self._started(), self._job
        if self._n_starts == 0 and None in self._seeds:  # copies of one environment would be alike
            self._seeds = np.random.SeedSequence().generate_state(self.num_envs).tolist()
        self.rounds.forget()
        self.round, self.rewards = None, None
        try:
            crew.begin(cloudpickle.dumps(job), job.plan.seed, list(self._seeds), list(self._options))
            first = crew.first_observations()
        except BaseException:  # such as Ctrl-C
            self.stop()
            raise
        self._n_starts = crew.n_starts
        self._reset_seeds()
        self._reset_options()
        return each(lambda *parts: np.concatenate(parts), first[0], *first[1:])

    def _started(self) -> Crew:
        """The workers, which are started where there are none."""
        if self.crew is None:
            making = Making(self.recipe, self.settings.envs_per_worker, self.settings.threads)
            ray = connect(self.settings)
            self.crew = Crew(ray, self.settings, cloudpickle.dumps(making), self.attributes, self._n_starts)
        return self.crew

    @property
    def has_begun(self) -> bool:
        """Whether there are episodes that can go on; also the last rows of workers that are lost."""
        return self.crew is not None and self.crew.epoch > 0 and (self.crew.lost is None or self.has_row)

    def put(self, came: list[Came]) -> None:
        """:param came: chunks of workers"""
        for chunk in came:
            self.rounds.put(*chunk)

    @property
    def has_row(self) -> bool:
        """Whether a step of all environments is there; of workers that are lost all that had arrived makes steps."""
        if self.round is None or not self.round.n_left:
            is_last = self.crew is not None and self.crew.lost is not None
            if is_last:
                self.put(self.crew.take(0.0))  # type: ignore[union-attr]  # what came while somebody waited for an answer
            self.round = self.rounds.next() or (self.rounds.rest() if is_last else None)
        return self.round is not None

    def step_async(self, actions: np.ndarray) -> None:
        """
        :param actions: that the workers have taken
        """

    def step_wait(self) -> Any:
        """
        :return: the next row: observations, rewards, dones, infos
        :raises ValueError: if there is none
        """
        if not self.has_row:
            raise ValueError("no row has come: only learn() of a model with this collector steps its environments")
        row, t = self.round, self.round.step  # type: ignore[union-attr]
        row.step += 1  # type: ignore[union-attr]
        return row.observations_at(t + 1), row.rewards[t].copy(), row.dones[t].copy(), row.infos_at(t)  # type: ignore[union-attr]

    def stop(self) -> None:
        """Stop the workers. What has come of them and is in no row is forgotten."""
        crew, self.crew, self.round = self.crew, None, None  # first, since a second Ctrl-C may come
        self.rounds.forget()
        if crew is not None:
            self._n_starts = crew.n_starts if crew.epoch else self._n_starts  # seeds are used up once an episode has begun
            crew.close()

    def close(self) -> None:
        """See ``VecEnv``."""
        self.stop()
        self.template.close()

    def has_attr(self, attr_name: str) -> bool:
        """See ``VecEnv``."""
        return attr_name in OF_CHECKPOINTS or super().has_attr(attr_name)

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """See ``VecEnv``. Before workers have been started: what was set, or the attribute of the environment that is here."""
        own = list(self._get_indices(indices))
        if self.crew is None:
            return self.attributes.seen(attr_name, own, *self.template.get_attr(attr_name))
        return self.crew.call("get_attr", attr_name, indices=own)

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """
        See ``VecEnv``. Workers that start later, or anew, are told it, too; where all environments are meant, the one that is
        here is as well.
        """
        own = list(self._get_indices(indices))
        self.attributes.set(attr_name, value, own)
        if len(set(own)) == self.num_envs:
            self.template.set_attr(attr_name, value)
        if self.crew is not None and self.crew.lost is None:
            self.crew.call("set_attr", attr_name, value, indices=own)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """See ``VecEnv``. It starts the workers, if it must. A worker that is started anew has not been called."""
        own = list(self._get_indices(indices))
        if method_name in OF_CHECKPOINTS:
            return [
                f"the environments are on Ray's workers, whose {method_name} is not asked; new episodes begin there"
            ] * len(own)
        if method_name in LOCAL:
            return self.template.env_method(method_name, *method_args, **method_kwargs) * len(own)
        return self._started().call("env_method", method_name, *method_args, indices=own, **method_kwargs)

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: Any = None) -> list[bool]:
        """See ``VecEnv``."""
        return self.template.env_is_wrapped(wrapper_class) * len(list(self._get_indices(indices)))

    def get_images(self) -> list[Any]:
        """See ``VecEnv``."""
        return self.env_method("render")

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: without workers."""
        rounds = Rounds(self.settings.n_workers, self.settings.envs_per_worker, not self.settings.is_synchronous)
        return self.__dict__ | dict(crew=None, round=None, rounds=rounds, _job=None)


def remote_in(env: Any) -> RemoteEnvs | None:
    """
    :param env: vectorised environments
    :return: those on Ray in them; None where there are none
    """
    while isinstance(env, VecEnvWrapper):
        env = env.venv
    return env if isinstance(env, RemoteEnvs) else None
