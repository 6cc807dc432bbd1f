"""``train``: what ``make train`` does, without make: a training by rl_zoo3, its verdict, learning curve and film."""

import argparse
import sys
from pathlib import Path
from typing import Any

from sb3_ddpg_ext.cli.reports import report


def add_parser(commands: Any) -> None:
    """Add ``train`` and its arguments, named as in ``rl_zoo3 train``."""
    parser = commands.add_parser("train", help="train by rl_zoo3, then report: what make train does, on any system")
    add = parser.add_argument
    add("--env", default="MountainCarContinuous-v0", help="environment id")
    add("--algo", default="ddpg_ext", help="algorithm, as rl_zoo3 names it")
    add("-n", "--n-timesteps", type=int, default=-1, help="environment steps (-1: those of the hyperparameters)")
    add("--seed", type=int, default=0)
    add("-f", "--folder", default="logs", help="for the logs, the learning curve and the film")
    add("--gym-packages", nargs="*", default=[], help="to import before, as they register environments")
    add("--n-episodes", type=int, default=100, help="evaluation episodes")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Train, then evaluate, draw and film the agent."""
    try:
        from sb3_ddpg_ext.zoo import register

        register()
    except ImportError as error:
        raise SystemExit(f"train needs rl_zoo3 ({error}): pip install 'sb3_ddpg_ext[zoo]'") from error
    from rl_zoo3.train import train

    packages = ["--gym-packages", *args.gym_packages] if args.gym_packages else []
    own = dict(algo=args.algo, env=args.env, seed=args.seed, n_timesteps=args.n_timesteps, num_threads=1, eval_freq=-1)
    flags = [text for name, value in own.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    sys.argv = ["rl_zoo3 train", *flags, "-f", args.folder, "--progress", *packages]
    train()
    name = args.env.replace("/", "-")
    pictures = dict(png=Path(args.folder, f"{name}.png"), gif=Path(args.folder, f"{name}.gif"))
    rest = dict(exp_id=0, load_best=False, csv=None, label="", svg=False)
    of_report = dict(
        env=args.env, algo=args.algo, folder=args.folder, gym_packages=[], n_episodes=args.n_episodes, seed=10_000
    )
    report.run(argparse.Namespace(**of_report, **rest, **pictures))
