"""Arguments of an environment on the command line."""

import argparse
import ast
from typing import Any


def add_env_kwargs(parser: argparse.ArgumentParser) -> None:
    """Add ``--env-kwargs``, a list of keys and values."""
    parser.add_argument("--env-kwargs", nargs="+", type=_pair, default=[], metavar="KEY:VALUE", help="arguments of --env")


def _pair(text: str) -> tuple[str, Any]:
    key, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r} must be KEY:VALUE")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value
