"""``python -m sb3_ddpg_ext COMMAND``."""

import argparse

from sb3_ddpg_ext.cli import doctor, export, inspect, presets, train
from sb3_ddpg_ext.cli.ablate import command as ablate
from sb3_ddpg_ext.cli.bench import command as bench
from sb3_ddpg_ext.cli.plot import command as plot
from sb3_ddpg_ext.cli.reports import report, tables


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sb3_ddpg_ext")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    ablate.add_parser(commands)
    bench.add_parser(commands)
    doctor.add_parser(commands)
    export.add_parser(commands)
    inspect.add_parser(commands)
    plot.add_parser(commands)
    presets.add_parser(commands)
    report.add_parser(commands)
    tables.add_parser(commands)
    train.add_parser(commands)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
