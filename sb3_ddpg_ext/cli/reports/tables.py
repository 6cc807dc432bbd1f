"""``tables``: the tables of Markdown files, written anew from the files in ``results/`` that stand in a comment above each."""

import argparse
import difflib
import re
import shlex
from pathlib import Path
from typing import Any

from sb3_ddpg_ext.cli.reports.table_kinds import KINDS, Request

DEFAULTS = ("README.md", "results/README.md", "docs/**/*.md")
OPENING, CLOSING = "<!-- table:", "<!-- end -->"
BLOCK = re.compile(rf"{OPENING}(?P<request>[^\n]*?)-->\n(?P<table>.*?){CLOSING}", re.DOTALL)
SYNTAX = """
A table stands between two comments:

  <!-- table: KIND FILE ... OPTION=VALUE ... -->
  <!-- end -->

FILEs are seen from the --root. KINDs:
"""


def add_parser(commands: Any) -> None:
    """Add ``tables`` and its arguments."""
    kinds = "\n".join(f"  {name}: {(make.__doc__ or '').strip()}" for name, make in KINDS.items())
    parser = commands.add_parser(
        "tables", help="write the tables of Markdown files from the CSV and JSON files behind them",
        epilog=SYNTAX + kinds, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE.md", help=f"default: {', '.join(DEFAULTS)}")
    parser.add_argument("--root", type=Path, default=Path(), help="the folder that files are seen from")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a table is not what its files say")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Rewrite, or compare."""
    files = [args.root / path for path in args.files] or [path for text in DEFAULTS for path in sorted(args.root.glob(text))]
    stale, count = [], 0
    for path in files:
        try:
            old = path.read_text()
        except OSError as error:
            raise SystemExit(f"{path} cannot be read: {error}") from error
        new, number = rewrite(old, args.root, path)
        count += number
        if new == old:
            continue
        stale.append(str(path))
        if args.check:
            print(
                "\n".join(difflib.unified_diff(old.splitlines(), new.splitlines(), str(path), "from its files", "", "", 0, ""))
            )
        else:
            path.write_text(new)
    if args.check and stale:
        raise SystemExit(f"{', '.join(stale)}: tables are not what their files say; make results writes them")
    print(f"{count} tables in {len(files)} files" + (f", changed in {', '.join(stale)}" if stale else ", none changed"))


def rewrite(text: str, root: Path, path: Path) -> tuple[str, int]:
    """
    The text with its tables as the files have them, and how many there are.

    :raises SystemExit: if a comment has no end, asks for an unknown kind, or a file is not there
    """

    def replace(match: re.Match[str]) -> str:
        name = f"{path}, <!-- table:{match['request']}-->"
        return f"{OPENING}{match['request']}-->\n\n{make_table(match['request'], match['table'], root, name)}\n\n{CLOSING}"

    new, count = BLOCK.subn(replace, text)
    if text.count(OPENING) != count:
        raise SystemExit(f"{path}: each comment {OPENING} ... --> must stand in one line, with {CLOSING} below the table")
    return new, count


def make_table(request: str, old: str, root: Path, name: str) -> str:
    """
    :param old: the table as it stands; columns named by ``keep`` are written by hand and stay
    :param name: of the comment, for errors
    """
    words = shlex.split(request)
    if not words or words[0] not in KINDS:
        raise SystemExit(f"{name}: the first word must be one of {', '.join(KINDS)}")
    options = dict(word.split("=", 1) for word in words[1:] if "=" in word)
    kept = [column for column in options.pop("keep", "").split(",") if column]
    asked = Request([root / word for word in words[1:] if "=" not in word], options, name)
    table = KINDS[words[0]](asked)
    if options:
        raise SystemExit(f"{name}: {words[0]} knows no option {', '.join(options)}")
    return keep(table, old, kept) if kept else table


def keep(table: str, old: str, columns: list[str]) -> str:
    """The new table, and behind it the columns of the old one that are written by hand, matched by the first cell of a row."""
    header, *rows = cells_of(old) or [[]]
    texts = {row[0]: dict(zip(header, row, strict=False)) for row in rows if row}
    lines = []
    for i, line in enumerate(table.splitlines()):
        first = cells_of(line)[0][0] if i != 1 else ""
        added = columns if i == 0 else ["---"] * len(columns) if i == 1 else [texts.get(first, {}).get(c, "") for c in columns]
        lines.append(f"{line} {' | '.join(added)} |")
    return "\n".join(lines)


def cells_of(table: str) -> list[list[str]]:
    """The rows of a Markdown table, without the one of dashes."""
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.splitlines() if line.startswith("|")
    ]
    return [row for row in rows if not all(set(cell) <= {"-", ":"} and cell for cell in row)]
