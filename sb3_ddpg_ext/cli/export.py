"""``export``: the actor of a model alone, in a file that acts without it."""

import argparse
import inspect
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sb3_ddpg_ext.cli.env_arguments import add_env_kwargs
from sb3_ddpg_ext.cli.plot.q import import_module, statistics_path, wrapper_class
from sb3_ddpg_ext.ddpg import DDPG
from sb3_ddpg_ext.export import FORMATS, export
from sb3_ddpg_ext.export.parity import TOLERANCE
from sb3_ddpg_ext.recurrent import RecurrentDDPG


class Found(NamedTuple):
    """
    :param model: whose actor is exported
    :param env: as in training, or None
    :param vec_normalize: the path of the statistics, or None
    """

    model: Any
    env: Any
    vec_normalize: Path | None


def add_parser(commands: Any) -> None:
    """Add ``export`` and its arguments."""
    parser = commands.add_parser("export", help="write the actor alone, to act without the model or without torch")
    add = parser.add_argument
    add(
        "model",
        nargs="?",
        type=Path,
        metavar="MODEL.zip",
        help="of DDPG or TD3, ours or SB3's; else the folder of --algo and --env",
    )
    add("--format", choices=sorted(FORMATS), default="onnx", help="default: %(default)s")
    add("--out", type=Path, metavar="FILE", help="default: the model's name with the suffix of the format")
    add(
        "--vec-normalize",
        type=Path,
        metavar="PATH",
        help="statistics of VecNormalize, a pickle; default: those beside the model",
    )
    add("--env", help="environment id: an episode of it is compared, too, and its observations are what goes in")
    add_env_kwargs(parser)
    add("--env-wrappers", nargs="*", default=[], metavar="PACKAGE.MODULE.CLASS", help="around --env; they are not exported")
    add("--gym-packages", nargs="*", default=[], metavar="PACKAGE", help="to import, for the environments they register")
    add("--algo", default="ddpg_ext", help="as rl_zoo3 names it; default: %(default)s")
    add("-f", "--folder", default="logs", help="log folder of rl_zoo3 train, where no MODEL.zip is given")
    add("--exp-id", type=int, default=0, help="number of the experiment (0: the latest)")
    add("--load-best", action="store_true", help="the best model of the EvalCallback, not the last one")
    add("--tolerance", type=float, default=TOLERANCE, help="largest difference on the [-1, 1] scale; default: %(default)s")
    add("--bench", action="store_true", help="write nothing; print size and time of one action of each format, on one core")
    add("--json", type=Path, help="add the rows of --bench to this file")
    add("--label", default="", help="of these rows")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Load, export and compare; or measure."""
    for package in args.gym_packages:
        import_module(package, f"--gym-packages {package}")
    found = of_zoo(args) if args.model is None else of_file(args)
    if args.vec_normalize is not None and not args.vec_normalize.is_file():
        raise SystemExit(f"--vec-normalize {args.vec_normalize} is not there")
    statistics = args.vec_normalize or found.vec_normalize
    if statistics is not None:
        print(f"Normalised by {statistics}")
    if args.bench:
        from sb3_ddpg_ext.cli.bench.exported import measure

        measure(found.model, statistics, found.env, args.label, args.json)
        return
    name = args.env.replace("/", "-") if args.model is None else args.model.stem
    path = args.out or Path(f"{name}.{FORMATS[args.format].suffix}")
    try:
        card = export(found.model, path, args.format, statistics, found.env, tolerance=args.tolerance)
    except (ValueError, TypeError, RuntimeError, ImportError) as error:
        sys.exit(str(error))
    print(f"{path.parent / card['file']}: {card['bytes']:,} bytes; model card: {path.parent / card['file']}.json")


def of_file(args: argparse.Namespace) -> Found:
    """A zip file, and the statistics beside it."""
    model = load_model(args.model)
    if args.env is None:
        beside = args.model.with_name(f"{args.model.stem}_vecnormalize.pkl")
        return Found(model, None, beside if beside.is_file() else None)
    return Found(model, make_env(args.env, args.env_wrappers, dict(args.env_kwargs)), statistics_path(args.model, args.env))


def load_model(path: Path) -> DDPG:
    """
    Without the room for a replay buffer, which nothing is stored in.

    :raises SystemExit: if it is no file of a model
    """
    if not path.is_file():
        raise SystemExit(f"{path} is not there; it must be a zip file of a DDPG or TD3")
    errors = []
    for cls in (DDPG, RecurrentDDPG):
        try:
            return cls.load(path, device="cpu", buffer_size=1)
        except (ValueError, TypeError) as error:
            errors.append(str(error))
    raise SystemExit(f"{path} must be a zip file of a DDPG or TD3: {errors[0]}")


def make_env(env_id: str, wrappers: list[str], kwargs: Mapping[str, Any]) -> Any:
    """
    :param env_id: of a registered environment
    :param wrappers: classes by their dotted names, the first innermost
    :param kwargs: of the environment
    :raises SystemExit: if there is no such environment or wrapper
    """
    import gymnasium as gym

    try:
        env = gym.make(env_id, **kwargs)
    except (gym.error.Error, TypeError) as error:
        raise SystemExit(f"--env {env_id}: {error}") from error
    for name in wrappers:
        env = wrapper_class(name)(env)
    return env


def of_zoo(args: argparse.Namespace) -> Found:
    """
    What ``rl_zoo3 train`` has left in a folder, with the environment of training.

    :raises SystemExit: if there is none
    """
    if args.env is None:
        raise SystemExit("export needs MODEL.zip, or --env and -f for a folder of rl_zoo3")
    from sb3_ddpg_ext.cli.reports import report
    from sb3_ddpg_ext.zoo import find_model, register

    try:
        register()
        import rl_zoo3.import_envs  # noqa: F401  # registers the environments that rl_zoo3 knows
        from huggingface_sb3 import EnvironmentName
        from rl_zoo3.utils import get_model_path
    except ImportError as error:
        raise SystemExit(f"export -f needs rl_zoo3 ({error}): pip install 'sb3_ddpg_ext[zoo]'") from error
    env_name = EnvironmentName(args.env)
    try:
        found = find_model(inspect.unwrap(get_model_path), args.exp_id, args.folder, args.algo, env_name, args.load_best)
        _, model_path, log_path = found
    except (AssertionError, ValueError) as error:
        raise SystemExit(f"no agent to export: {error}") from error
    env = report.make_env(args.env, os.path.join(log_path, env_name), seed=0)
    return Found(report.load_model(args.algo, model_path, env), env, None)
