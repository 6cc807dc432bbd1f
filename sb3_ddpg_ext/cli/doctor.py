"""``doctor``: what looks wrong with a training, and what to do."""

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from sb3_ddpg_ext.cli.env_arguments import add_env_kwargs
from sb3_ddpg_ext.doctor import CHECKS, Diagnosis, diagnose

FOUND, CANNOT = 1, 2  # exit status


def add_parser(commands: Any) -> None:
    """Add ``doctor`` and its arguments, named as rl_zoo3 does."""
    parser = commands.add_parser("doctor", help="what looks wrong with a model, a training or an environment, and what to do")
    parser.add_argument("what", nargs="?", metavar="MODEL.zip | FOLDER", help="a model, or the folder of its training")
    parser.add_argument("--env", help="environment id; a folder of rl_zoo3 knows its own")
    add_env_kwargs(parser)
    parser.add_argument("--vec-normalize", metavar="FILE", help="vecnormalize.pkl; a folder of rl_zoo3 knows its own")
    parser.add_argument("--trusted", action="store_true", help="open pickles, and import wrappers that the folder names")
    parser.add_argument("--seed", type=int, default=0, help="of the environment and the random actions")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print what was found. The exit status is 0 if nothing was, 1 if something was, 2 if it could not be looked at."""
    try:
        diagnosis = diagnose(
            args.what, args.env, env_kwargs=dict(args.env_kwargs), vec_normalize=args.vec_normalize, trusted=args.trusted,
            seed=args.seed,
        )  # fmt: skip
    except (OSError, ValueError, ImportError) as error:
        print(error, file=sys.stderr)
        sys.exit(CANNOT)
    name = args.what or args.env
    print(json.dumps(as_dict(name, diagnosis), indent=2) if args.json else "\n".join(lines_of(name, diagnosis)))
    sys.exit(FOUND if diagnosis.findings else 0)


def as_dict(name: str, diagnosis: Diagnosis) -> dict[str, Any]:
    """:return: for JSON"""
    findings = [finding._asdict() for finding in diagnosis.findings]
    return dict(examined=name, findings=findings, checks=diagnosis.made, not_looked_at=diagnosis.unseen)


def lines_of(name: str, diagnosis: Diagnosis) -> Iterator[str]:
    """
    :param name: of what was examined
    :param diagnosis: what was found
    """
    n = len(diagnosis.findings)
    found = "nothing looks wrong" if n == 0 else f"{n} thing{'s' if n > 1 else ''} look{'s' if n == 1 else ''} wrong"
    yield f"{name}: {found} ({len(diagnosis.made)} of {len(CHECKS)} checks could be made)"
    for finding in diagnosis.findings:
        yield from ("", finding.name)
        parts = dict(seen=finding.symptom, cause=finding.cause, cure=finding.cure, more=finding.link)
        for title, text in parts.items():
            yield from _paragraph(f"  {title:6} ", text)
    if diagnosis.unseen:
        yield from ("", "Not looked at:")
        for text in diagnosis.unseen:
            yield from _paragraph("  - ", text)


def _paragraph(title: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        min(shutil.get_terminal_size().columns, 120),
        initial_indent=title,
        subsequent_indent=" " * len(title),
        break_on_hyphens=False,
        break_long_words=False,
    )
