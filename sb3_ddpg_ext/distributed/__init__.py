"""Collection on many machines: workers on Ray act and send transitions, one model learns."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import VecTransposeImage, unwrap_vec_wrapper
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from sb3_ddpg_ext.collector import Collector
from sb3_ddpg_ext.distributed.acting import ActingPlan
from sb3_ddpg_ext.distributed.collector import Learning, RemoteCollector
from sb3_ddpg_ext.distributed.crew import WorkersLost
from sb3_ddpg_ext.distributed.envs import RemoteEnvs, remote_in
from sb3_ddpg_ext.distributed.making import EnvRecipe, split, wrapped_again
from sb3_ddpg_ext.distributed.settings import COLLECTORS, RayCollector, make_collector
from sb3_ddpg_ext.distributed.worker import Job
from sb3_ddpg_ext.noise import Noise

__all__ = [
    "COLLECTORS",
    "RayCollector",
    "RemoteCollector",
    "RemoteEnvs",
    "WorkersLost",
    "environments",
    "make_collection",
    "make_collector",
    "stopped_on_error",
]
# Of Stable-Baselines3: they take what is added for one episode, whatever the observations are.
BUFFERS_OF_EPISODES = (HerReplayBuffer, NStepReplayBuffer)


def environments(env: Any, spec: Any) -> Any:
    """
    :param env: what a user has given for the environments, or None
    :param spec: of the collector
    :return: the same where there is no collector; else environments on Ray's workers, in the wrappers that were around
    :raises ValueError: for environments that no worker can have
    :raises TypeError: for what makes no environment, or cannot be pickled
    """
    settings = make_collector(spec)
    if settings is None or env is None or remote_in(env) is not None:
        return env
    inner, wrappers = split(env)
    return wrapped_again(RemoteEnvs(settings, EnvRecipe(inner)), wrappers)


@contextmanager
def stopped_on_error(model: dict[str, Any]) -> Iterator[None]:
    """
    A context whose errors stop what the collector of a model has begun.

    :param model: its attributes by name
    """
    try:
        yield
    except BaseException:
        if "_collector" in model:
            model["_collector"].stop()
        raise


def make_collection(model: dict[str, Any], replay: Any, noise: Noise | None, mend: Callable[[], bool]) -> Collector:
    """
    The collector of a training. Workers on Ray start with the next ``reset()`` of the environments.

    :param model: its attributes by name
    :param replay: the replay buffer
    :param noise: of the model, as one of ours
    :param mend: see :class:`~sb3_ddpg_ext.distributed.collector.Learning`
    :raises ValueError: for environments, a noise or a replay buffer that are not for a collection on Ray
    """
    env, policy, settings = model["env"], model["policy"], model["collector"]
    parts = env, model["observation_space"], model["_vec_normalize_env"]
    if settings is None:
        return Collector(*parts)
    remote = remote_in(env)
    if remote is None:
        raise ValueError(f"env={env!r} must be made with collector={settings!r}: give it to DDPG or to load()")
    check_buffer(model["replay_buffer"], settings)
    check_noise(noise, settings)
    if vars(checked_settings(settings, remote)) != vars(remote.settings):
        remote.stop()  # others do what is asked for now
    remote.settings = settings
    remote.rounds.may_take = not settings.is_synchronous
    own = model["action_noise"]  # of which SB3's kind may have been made one for each environment
    plan = ActingPlan(
        policy_class=type(policy), spaces=(model["observation_space"], model["action_space"]),
        policy_kwargs=model["policy_kwargs"], acts_exactly=policy.acts_exactly, noise=getattr(own, "base_noise", own),
        factors=settings.factors, n_envs=settings.n_envs, seed=model["seed"], is_synchronous=settings.is_synchronous,
        remembers=hasattr(policy, "state_size"), stores_states=getattr(replay, "stored_state", False),
        transposes=(transposed := unwrap_vec_wrapper(env, VecTransposeImage)) is not None and not transposed.skip,
    )  # fmt: skip
    remote.give(Job(plan, settings.infos == "all"))
    learning = Learning(policy, noise, replay, mend, model["_explorer"].take_note)
    return RemoteCollector(*parts, remote, learning)


def checked_settings(settings: RayCollector, remote: RemoteEnvs) -> RayCollector:
    """
    :return: the settings of the model
    :raises ValueError: if its environments have been made with other workers
    """
    own, theirs = ((each.n_workers, each.envs_per_worker) for each in (settings, remote.settings))
    if own != theirs:
        raise ValueError(
            f"collector={settings!r} must have (n_workers, envs_per_worker)={theirs}, as its environments were made with"
        )
    return settings


def check_buffer(buffer: ReplayBuffer, settings: RayCollector) -> None:
    """:raises ValueError: for one that would join what does not go on, or that wants infos which are not sent"""
    if settings.infos == "ends" and getattr(buffer, "copy_info_dict", False):
        raise ValueError("collector: infos='ends' must be 'all' with copy_info_dict=True, which wants those of each step")
    if isinstance(buffer, BUFFERS_OF_EPISODES):
        raise ValueError(
            f"replay_buffer_class={type(buffer).__name__} must be one of sb3_ddpg_ext.buffers with "
            "collector=dict(kind='ray'): it cannot be told where an episode does not go on"
        )


def check_noise(noise: Any, settings: RayCollector) -> None:
    """:raises ValueError: for factors on a noise that is not added to the actions"""
    if settings.scales is not None and (noise is None or not all(part.is_added for part in noise.members)):
        raise ValueError(
            f"collector: scales={settings.scales!r} needs an action_noise that is added to the actions, such as 'normal_0.3', "
            f"not {noise!r}"
        )
