"""``plot``: exploration noise beside its theory, what agents reached, how they learnt, studies, estimates of Q, speed."""

import argparse
from pathlib import Path
from typing import Any

from sb3_ddpg_ext.cli.env_arguments import add_env_kwargs


def add_parser(commands: Any) -> None:
    """Add ``plot noise``, ``results``, ``curves``, ``study``, ``q`` and ``bench`` with their arguments."""
    kinds = commands.add_parser(
        "plot", help="draw noise, results, learning curves, studies, Q beside returns, or speed"
    ).add_subparsers(required=True, metavar="WHAT")
    add_noise(kinds.add_parser("noise", help="kinds of exploration noise, measured and by their theory"))
    add_results(kinds.add_parser("results", help="a CSV file written by report --csv, one row for each --label"))
    add_curves(
        kinds.add_parser("curves", help="learning curves with each seed or an interval, from the evaluations of rl_zoo3 train")
    )
    add_study(kinds.add_parser("study", help="learning curves and final returns of a study, and a table"))
    add_q(kinds.add_parser("q", help="a critic's estimates against the returns that came"))
    add_bench(kinds.add_parser("bench", help="a file written by bench --json"))


def add_noise(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("specs", nargs="+", metavar="SPEC", help="action_noise as DDPG takes it; dicts and lists as Python literals")
    add("--steps", type=number_from(20), default=1000, help="length of an episode")
    add("--episodes", type=number_from(2), default=100, help="episodes of each kind; schedules run over all of them")
    add("--action-dim", type=number_from(1), default=1, help="of noise in the actions; only the first dimension is drawn")
    add("--env", default="Pendulum-v1", help="where an actor with noise in its parameters acts")
    add("--seed", type=int, default=0)
    add("--png", type=Path, default=Path("noise.png"))
    add_svg(parser)
    parser.set_defaults(run=run_noise)


def add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("csv", type=Path, metavar="CSV", help="the file; all its rows are of one environment")
    parser.add_argument("--png", type=Path, default=Path("results.png"))
    add_svg(parser)
    parser.add_argument("--title", help="default: the environment")
    parser.set_defaults(run=run_results)


def add_curves(parser: argparse.ArgumentParser) -> None:
    help_text = "a log folder of rl_zoo3 train, a folder with LABEL/SEED/.../evaluations.npz, or a file that --csv wrote"
    parser.add_argument("sources", type=Path, nargs="+", metavar="LOGDIR|CSV", help=help_text)
    parser.add_argument("--env", help="id of the environment, where a folder has several")
    parser.add_argument("--png", type=Path, default=Path("curves.png"))
    add_svg(parser)
    parser.add_argument("--success", action="store_true", help="the share of successful episodes instead of the return")
    parser.add_argument("--csv", type=Path, help="write the mean of each evaluation to this file")
    parser.add_argument("--title", help="default: the name of the first source")
    parser.set_defaults(run=run_curves)


def add_study(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="with the runs.csv and curves.csv of an experiment")
    add("--env", nargs="*", help="only these environments")
    add("--factor", nargs="*", help="only these factors")
    help_text = "returns that count as 0 and 1 over environments; default: the study's least and largest"
    add("--reference", nargs="*", default=[], metavar="ENV=LOW:HIGH", help=help_text)
    add("--png", type=Path, metavar="FOLDER", help="for the pictures; default: DIR")
    add("--md", type=Path, metavar="FILE", help="write the tables to this file")
    add_svg(parser)
    parser.set_defaults(run=run_study)


def add_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("json", type=Path, metavar="JSON")
    parser.add_argument("--png", type=Path, default=Path("bench.png"))
    add_svg(parser)
    parser.set_defaults(run=run_bench)


def add_svg(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--svg", action="store_true", help="write drawings (.svg) beside the pictures")


def add_q(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL.zip", help="written by DDPG.save")
    add("--env", required=True, help="environment id")
    add_env_kwargs(parser)
    add("--wrapper", metavar="PACKAGE.MODULE.CLASS", help="wrapper around it, as in training")
    add("--gym-packages", nargs="*", default=[], help="to import before, as they register environments")
    add("--episodes", type=number_from(1), default=10)
    add("--seed", type=int, default=0)
    add("--png", type=Path, default=Path("q.png"))
    add_svg(parser)
    add("--title", help="default: the environment")
    parser.set_defaults(run=run_q)


def number_from(least: int) -> Any:
    """A type of arguments: an integer of at least this."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{text} must be at least {least}")
        return value

    return number


def run_noise(args: argparse.Namespace) -> None:
    from sb3_ddpg_ext.cli.plot.noise import run

    run(args)


def run_results(args: argparse.Namespace) -> None:
    from sb3_ddpg_ext.cli.plot.results import run

    run(args)


def run_curves(args: argparse.Namespace) -> None:
    from sb3_ddpg_ext.cli.plot.curves import run

    run(args)


def run_q(args: argparse.Namespace) -> None:
    from sb3_ddpg_ext.cli.plot.q import run

    run(args)


def run_study(args: argparse.Namespace) -> None:
    from sb3_ddpg_ext.cli.plot.study import run

    run(args)


def run_bench(args: argparse.Namespace) -> None:
    from sb3_ddpg_ext.cli.plot.bench import run

    run(args)
