"""
What rl_zoo3 makes of a block of its YAML files, without its folders: the model, its environments and its callbacks.

Presets and the ``ablate`` command stand on this, so that a preset, a study and ``rl_zoo3 train`` build the same thing.
"""

import argparse
import copy
from collections.abc import Callable, Mapping
from contextlib import nullcontext, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_ddpg_ext.ddpg import DDPG
from sb3_ddpg_ext.plan import Plan
from sb3_ddpg_ext.presets import load_preset

if TYPE_CHECKING:
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

SelfDDPG = TypeVar("SelfDDPG", bound=DDPG)
# Arguments that rl_zoo3's YAML files may hold as Python text.
EVALUATED = ("policy_kwargs", "replay_buffer_kwargs", "normalize", "monitor_kwargs")


class Experiment(NamedTuple):
    """
    A training that is ready to begin.

    :param model: untrained, with its environments
    :param n_timesteps: for ``model.learn``
    :param callbacks: for ``model.learn``
    :param make_eval_env: an environment to evaluate in, from its seed: wrapped as in training, with rewards as they are;
        where there is a ``VecNormalize``, its statistics are its own until they are copied from the model's
    """

    model: "OffPolicyAlgorithm"
    n_timesteps: int
    callbacks: list[BaseCallback]
    make_eval_env: Callable[[int], VecEnv]


def make_experiment(
    hyperparams: Mapping[str, Any],
    env_id: str,
    *,
    algo: str = "ddpg_ext",
    seed: int | None = 0,
    verbose: int = 0,
    device: str = "auto",
    n_timesteps: int = -1,
    model_class: "type[OffPolicyAlgorithm] | None" = None,
) -> Experiment:
    """
    Build model, environments and callbacks as ``rl_zoo3 train`` does.

    :param hyperparams: one block of a YAML file of rl_zoo3: arguments of the algorithm beside ``n_timesteps``, ``n_envs``,
        ``normalize``, ``env_wrapper``, ``vec_env_wrapper``, ``frame_stack``, ``env_kwargs``, ``monitor_kwargs``, ``callback``
    :param env_id: of a registered environment
    :param algo: a name that rl_zoo3 knows: ours, or one of SB3 and sb3-contrib
    :param seed: of model and environments
    :param verbose: of the model; 0 also silences what rl_zoo3 prints
    :param device: of the model
    :param n_timesteps: in place of that of ``hyperparams``, if it is above 0
    :param model_class: in place of the algorithm's own, from which it is derived
    :raises ValueError: for an unknown algorithm or environment, or hyperparameters without a length
    :raises ImportError: if rl_zoo3 is missing
    """
    from sb3_ddpg_ext.zoo import register

    register()
    import gymnasium as gym
    import rl_zoo3.import_envs  # noqa: F401  # registers the environments that rl_zoo3 knows
    from rl_zoo3.exp_manager import ExperimentManager
    from rl_zoo3.utils import ALGOS

    if algo not in ALGOS:
        raise ValueError(f"algo={algo!r} must be one of {sorted(ALGOS)}")
    try:
        gym.spec(env_id)
    except gym.error.Error as error:
        raise ValueError(f"env_id={env_id!r} must be a registered environment ({error})") from None
    if n_timesteps <= 0 and "n_timesteps" not in hyperparams:
        raise ValueError(f"n_timesteps={n_timesteps} must be at least 1, where the hyperparameters name none")

    with redirect_stdout(StringIO()) if verbose == 0 else nullcontext():
        manager = ExperimentManager(argparse.Namespace(), algo, env_id, "", n_timesteps=n_timesteps, verbose=verbose)
        manager.seed = seed  # type: ignore[assignment]  # None is handed on to the environments, which take it
        own = copy.deepcopy({"n_timesteps": n_timesteps, **hyperparams})
        own, manager.env_wrapper, callbacks, manager.vec_env_wrapper = manager._preprocess_hyperparams(own)
        manager.eval_env_kwargs = manager.env_kwargs  # which rl_zoo3 forgets
        env = manager.create_envs(manager.n_envs, no_log=True)
        own = manager._preprocess_action_noise(own, own, env)
        model = (model_class or ALGOS[algo])(env=env, **({"seed": seed, "verbose": verbose, "device": device} | own))

    def make_eval_env(eval_seed: int) -> VecEnv:
        manager.seed = eval_seed
        with redirect_stdout(StringIO()):
            return manager.create_envs(1, eval_env=True, no_log=True)

    return Experiment(model, manager.n_timesteps, callbacks, make_eval_env)  # type: ignore[arg-type]


def from_preset(cls: type[SelfDDPG], name: str, env_id: str, overrides: Mapping[str, Any]) -> SelfDDPG:
    """
    What :meth:`DDPG.from_preset` does.

    :param cls: :class:`DDPG`, for which a recurrent preset makes a :class:`RecurrentDDPG`, or a class derived from it
    :param name: of the preset
    :param env_id: of a registered environment
    :param overrides: merged into its hyperparameters, beside ``seed``, ``verbose`` and ``device``
    :raises ValueError: for an unknown name or environment, or a class that is not for this preset
    :raises TypeError: for an environment in place of its id
    """
    from sb3_ddpg_ext.zoo import CLASSES

    preset = load_preset(name)
    if not isinstance(env_id, str):
        raise TypeError(
            f"env={env_id!r} must be the id of an environment, from which a preset makes those that it needs: "
            "gymnasium.register(id, entry_point=...) gives yours one"
        )
    needed = CLASSES[preset.algo]
    if cls is DDPG:
        cls = needed  # type: ignore[assignment]
    elif cls.has_memory is not needed.has_memory:
        raise ValueError(f"preset={name!r} is for {needed.__name__}, not for {cls.__name__}")
    hyperparams = merge(evaluate_text(preset.hyperparams(env_id)), overrides)
    if overrides.get("verbose"):
        print(preset.introduction(env_id))
    own: dict[str, Any] = {"seed": None}
    own |= {key: hyperparams.pop(key) for key in ("seed", "verbose", "device") if key in hyperparams}
    experiment = make_experiment(hyperparams, env_id, algo=preset.algo, model_class=cls, **own)
    model: SelfDDPG = experiment.model  # type: ignore[assignment]
    model.plan = Plan(experiment.n_timesteps, experiment.callbacks)
    return model


def evaluate_text(hyperparams: Mapping[str, Any]) -> dict[str, Any]:
    """The same block with ``"dict(net_arch=[256, 256])"`` and the like evaluated, in the names that rl_zoo3 has for it."""
    from rl_zoo3 import exp_manager

    def evaluate(name: str, value: Any) -> Any:
        return eval(value, dict(vars(exp_manager))) if name in EVALUATED and isinstance(value, str) else value

    return {name: evaluate(name, value) for name, value in hyperparams.items()}


def merge(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """
    Put ``overrides`` over ``base``, without changing either. Dictionaries in both are merged key by key. One with a ``kind``
    is not merged, since its arguments belong to this kind alone.
    """
    merged = copy.deepcopy(dict(base))
    for name, value in overrides.items():
        if isinstance(value, Mapping) and isinstance(merged.get(name), Mapping) and "kind" not in value:
            merged[name] = merge(merged[name], value)
        else:
            merged[name] = copy.deepcopy(value)
    return merged
