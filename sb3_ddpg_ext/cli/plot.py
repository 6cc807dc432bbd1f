"""``plot``: draw exploration noise beside its theory, or the returns of many trained agents."""

import argparse
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Add ``plot noise`` and ``plot results`` with their arguments."""
    kinds = commands.add_parser("plot", help="draw exploration noise, or the results of many agents").add_subparsers(
        required=True, metavar="WHAT"
    )
    add_noise(kinds.add_parser("noise", help="kinds of exploration noise, measured and by their theory"))
    add_results(kinds.add_parser("results", help="a CSV file written by report --csv, one row for each --label"))


def add_noise(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("specs", nargs="+", metavar="SPEC", help="action_noise as DDPG takes it; dicts and lists as Python literals")
    add("--steps", type=number_from(20), default=1000, help="length of an episode")
    add("--episodes", type=number_from(2), default=100, help="episodes of each kind; schedules run over all of them")
    add("--action-dim", type=number_from(1), default=1, help="of noise in the actions; only the first dimension is drawn")
    add("--env", default="Pendulum-v1", help="where an actor with noise in its parameters acts")
    add("--seed", type=int, default=0)
    add("--png", type=Path, default=Path("noise.png"))
    parser.set_defaults(run=run_noise)


def add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("csv", type=Path, metavar="CSV", help="the file; all its rows are of one environment")
    parser.add_argument("--png", type=Path, default=Path("results.png"))
    parser.add_argument("--title", help="default: the environment")
    parser.set_defaults(run=run_results)


def number_from(least: int) -> Any:
    """A type of arguments: an integer of at least this."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{text} must be at least {least}")
        return value

    return number


def run_noise(args: argparse.Namespace) -> None:
    from sb3_ddpg_ext.cli.plot_noise import run

    run(args)


def run_results(args: argparse.Namespace) -> None:
    from sb3_ddpg_ext.cli.plot_results import run

    run(args)


def pyplot() -> Any:
    """matplotlib's ``pyplot``, drawing into files only."""
    try:
        import matplotlib
    except ImportError as error:
        raise SystemExit(f"plot needs matplotlib ({error}): pip install 'sb3_ddpg_ext[plots]'") from error

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot().close(figure)
