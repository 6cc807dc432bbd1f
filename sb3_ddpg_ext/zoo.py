"""
Registration in rl_zoo3 as the algorithms ``ddpg_ext`` and ``ddpg_ext_lstm``: the classes, our hyperparameters and a search
space for ``-optimize``.

After ``pip install`` the ``rl_zoo3`` command does this by itself (``_sb3_ddpg_ext_autoload.py``). The plain way is
``python -m sb3_ddpg_ext.zoo train --algo ddpg_ext ...``, and in a program ``sb3_ddpg_ext.zoo.register()``.
"""

import runpy
import sys
from collections.abc import Callable
from functools import partial, wraps
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sb3_ddpg_ext.buffers import HindsightReplayBuffer
from sb3_ddpg_ext.ddpg import DDPG
from sb3_ddpg_ext.env_checks import check_action_space
from sb3_ddpg_ext.presets import load_preset, preset_names
from sb3_ddpg_ext.recurrent import RecurrentDDPG

if TYPE_CHECKING:
    import optuna

ALGO = "ddpg_ext"
CLASSES: dict[str, type[DDPG]] = {ALGO: DDPG, "ddpg_ext_lstm": RecurrentDDPG}


def sample_params(trial: "optuna.Trial", n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """
    DDPG's search space for ``rl_zoo3 train -optimize``.

    :param trial: what Optuna draws from
    :param n_actions: unused, the noise is a string that fits any action space
    :param n_envs: unused, the number of updates follows the number of transitions
    :param additional_args: ``using_her_replay_buffer`` and ``her_kwargs``, from rl_zoo3
    :return: arguments for :class:`DDPG`
    """
    from rl_zoo3.hyperparams_opt import sample_her_params

    params = _sample(trial, ["none", "normal", "ou", "pink", "adaptive-param"], largest_batch=10)
    if additional_args["using_her_replay_buffer"] or "n_sampled_goal" in additional_args["her_kwargs"]:  # SB3's, ours
        params = sample_her_params(trial, params, additional_args["her_kwargs"])
    return convert_params(params)


def sample_recurrent_params(
    trial: "optuna.Trial", n_actions: int, n_envs: int, additional_args: dict[str, Any]
) -> dict[str, Any]:
    """As :func:`sample_params`, for :class:`RecurrentDDPG`, whose batches are of sequences."""
    params = _sample(trial, ["none", "normal", "ou", "pink"], largest_batch=6)
    params["sequence_length_pow"] = trial.suggest_int("sequence_length_pow", 3, 7)
    return convert_params(params)


def _sample(trial: "optuna.Trial", noises: list[str], largest_batch: int) -> dict[str, Any]:
    return {
        "one_minus_gamma": trial.suggest_float("one_minus_gamma", 1e-4, 0.05, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 1e-5, 3e-3, log=True),
        "qf_learning_rate": trial.suggest_float("qf_learning_rate", 1e-5, 3e-3, log=True),
        "batch_size_pow": trial.suggest_int("batch_size_pow", min(5, largest_batch - 3), largest_batch),
        "tau": trial.suggest_float("tau", 1e-3, 0.08, log=True),
        "train_freq": trial.suggest_int("train_freq", 1, 16, log=True),
        "noise_kind": trial.suggest_categorical("noise_kind", noises),
        "noise_std": trial.suggest_float("noise_std", 0.02, 1.0, log=True),
        "net_arch": trial.suggest_categorical("net_arch", ["small", "medium", "big", "large"]),
    }


def convert_params(sampled: dict[str, Any]) -> dict[str, Any]:
    """Arguments for :class:`DDPG` from what :func:`sample_params` drew; rl_zoo3 also calls it on a trial in its storage."""
    from rl_zoo3.hyperparams_opt import convert_offpolicy_params

    params = convert_offpolicy_params(sampled)
    kind, std = params.pop("noise_kind"), params.pop("noise_std")
    params["action_noise"] = "none" if kind == "none" else f"{kind}_{std}"
    if "sequence_length_pow" in params:
        params["replay_buffer_kwargs"] = {"sequence_length": 2 ** params.pop("sequence_length_pow")}
    goals = {key: params.pop(key) for key in ("n_sampled_goal", "goal_selection_strategy") if key in params}
    if goals:  # a stored trial has them side by side with the rest
        params["replay_buffer_kwargs"] = goals
    params["gradient_steps"] = -1  # one update per transition, for any train_freq and number of environments
    return params


def find_config(algo: str, config: str | None) -> str:
    """
    The file that ``-conf`` means.

    :param algo: ``--algo``
    :param config: ``-conf``: a file or module as rl_zoo3 takes them, the name of a preset, or None for our own hyperparameters
    :raises ValueError: for a word that is none of these, or a preset of another algorithm
    """
    config = config or algo
    is_word = config.isidentifier() and not Path(config).is_file()
    if not is_word or (config not in preset_names() and find_spec(config) is not None):
        return config
    preset = load_preset(config)
    if preset.algo != algo:
        raise ValueError(f"algo={algo!r} must be {preset.algo!r} for the preset {config!r}")
    return str(preset.path)


def find_model(get_model_path: Callable[..., Any], exp_id: int, folder: str, algo: str, env_name: Any, *which: Any) -> Any:
    """
    What rl_zoo3's ``get_model_path`` gives; with ``exp_id=0`` for the latest experiment that has such a model. A search by
    ``-optimize`` and a training that was killed leave experiments without one.

    :param get_model_path: rl_zoo3's
    :param exp_id: number of the experiment; 0 for the latest
    :param folder: with the logs
    :param algo: algorithm
    :param env_name: name of the environment, as rl_zoo3 writes it into files
    :param which: its further arguments, the best model or that of a checkpoint
    :return: prefix, path of the model, path of the experiment
    :raises ValueError: if no experiment has such a model
    """
    from rl_zoo3.utils import get_latest_run_id

    latest = get_latest_run_id(str(Path(folder, algo)), env_name) if exp_id == 0 else 0
    for number in range(latest, 0, -1):
        try:
            found = get_model_path(number, folder, algo, env_name, *which)
        except (AssertionError, ValueError):
            continue
        without = "" if number == latest else f"; {latest - number} after it have none"
        print(f"Loading experiment {number}, the latest with a model{without}")
        return found
    return get_model_path(exp_id, folder, algo, env_name, *which)


def register() -> None:
    """
    Make rl_zoo3 know our algorithms. Doing it twice changes nothing.

    :raises ImportError: if rl_zoo3 is missing
    """
    try:
        from rl_zoo3 import exp_manager, utils
        from rl_zoo3.exp_manager import ExperimentManager
        from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
        from rl_zoo3.utils import ALGOS
    except ImportError as error:
        raise ImportError(f"rl_zoo3 could not be imported ({error}): pip install 'sb3_ddpg_ext[zoo]'") from error

    if ALGO in ALGOS:
        return
    ALGOS.update(CLASSES)
    exp_manager.HindsightReplayBuffer = HindsightReplayBuffer  # type: ignore[attr-defined]  # which evaluates YAML strings
    for algo, cls in CLASSES.items():
        HYPERPARAMS_SAMPLER[algo] = sample_recurrent_params if cls.has_memory else sample_params
        HYPERPARAMS_CONVERTER[algo] = convert_params  # type: ignore[assignment]

    # -optimize leaves a folder without a model, which enjoy and record_video would take for the latest.
    original_model_path = utils.get_model_path

    @wraps(original_model_path)
    def get_model_path(exp_id: int, folder: str, algo: str, *rest: Any, **kwargs: Any) -> Any:
        original = partial(original_model_path, **kwargs)
        arguments = exp_id, folder, algo, *rest
        return find_model(original, *arguments) if algo in CLASSES else original(*arguments)  # type: ignore[arg-type, misc]

    utils.get_model_path = get_model_path
    # rl_zoo3 looks for ALGO.yml in its own folder alone, and knows no presets.
    original_init = ExperimentManager.__init__
    original_preprocess = ExperimentManager._preprocess_action_noise

    @wraps(original_init)
    def init(self: Any, args: Any, algo: str, *rest: Any, **kwargs: Any) -> None:
        if algo in CLASSES:
            kwargs["config"] = find_config(algo, kwargs.get("config"))
        original_init(self, args, algo, *rest, **kwargs)

    # rl_zoo3 would put its noise_type (of the YAML file) over an action_noise (of the command line, or of a stored trial).
    @wraps(original_preprocess)
    def preprocess(self: Any, hyperparams: dict[str, Any], saved: Any, env: Any) -> dict[str, Any]:
        if self.algo in CLASSES:
            check_action_space(env)  # before rl_zoo3 asserts it of its noise
        if self.algo in CLASSES and "action_noise" in hyperparams:
            hyperparams = {key: value for key, value in hyperparams.items() if key not in ("noise_type", "noise_std")}
        return original_preprocess(self, hyperparams, saved, env)

    # It knows only "lin_VALUE"; our own schedules are read by DDPG.
    original_schedules = ExperimentManager._preprocess_schedules

    @wraps(original_schedules)
    def preprocess_schedules(self: Any, hyperparams: dict[str, Any]) -> Any:
        return hyperparams if self.algo in CLASSES else original_schedules(hyperparams)

    # It makes the environments of evaluations without the env_kwargs of the YAML file; and record_video and push_to_hub read
    # those of the command line only, as args.yml has them.
    original_hyperparams = ExperimentManager._preprocess_hyperparams

    @wraps(original_hyperparams)
    def preprocess_hyperparams(self: Any, hyperparams: dict[str, Any]) -> Any:
        if self.algo in CLASSES and not self.eval_env_kwargs:
            self.eval_env_kwargs = hyperparams.get("env_kwargs", {})
        if self.algo in CLASSES and not getattr(self.args, "env_kwargs", None):
            self.args.env_kwargs = hyperparams.get("env_kwargs")
        return original_hyperparams(self, hyperparams)

    ExperimentManager._preprocess_hyperparams = preprocess_hyperparams  # type: ignore[method-assign]
    ExperimentManager._preprocess_schedules = preprocess_schedules  # type: ignore[method-assign, assignment]
    ExperimentManager.__init__ = init  # type: ignore[method-assign]
    ExperimentManager._preprocess_action_noise = preprocess  # type: ignore[method-assign, assignment]


def complete_huggingface() -> None:
    """Give huggingface_sb3 the function that rl_zoo3 2.9.2's ``push_to_hub`` imports, and that 3.2 has under another name."""
    module: Any = import_module("huggingface_sb3.push_to_hub")
    if not hasattr(module, "generate_metadata"):
        module.generate_metadata = lambda *args: module._generate_metadata(*args).to_dict()


def main() -> None:
    """``rl_zoo3 ...``, and rl_zoo3's modules that are no sub-commands, such as ``record_video``, by their name."""
    register()
    from rl_zoo3.cli import main as rl_zoo3_main

    modules = ("record_video", "record_training", "push_to_hub", "load_from_hub", "benchmark")
    if len(sys.argv) > 1 and sys.argv[1] in modules:
        module = sys.argv.pop(1)
        complete_huggingface()
        runpy.run_module(f"rl_zoo3.{module}", run_name="__main__", alter_sys=True)
    elif len(sys.argv) > 1:
        rl_zoo3_main()
    else:
        commands = ("train", "enjoy", "plot_train", "plot_from_file", "all_plots", *modules)
        sys.exit(f"usage: python -m sb3_ddpg_ext.zoo {{{','.join(commands)}}} ...")


if __name__ == "__main__":
    main()
