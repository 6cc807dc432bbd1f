"""Rows of CSV files, with errors that name file, line and column."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def read_rows(path: Path, columns: Sequence[str], source: str) -> list[dict[str, Any]]:
    """
    All rows, as texts.

    :param columns: that there must be
    :param source: what writes such a file
    :raises SystemExit: if the file is not there, or has not these columns, or no rows
    """
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            rows, found = list(reader), reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SystemExit(f"CSV {path} cannot be read: {error}") from error
    missing = [name for name in columns if name not in found]
    if missing:
        raise SystemExit(f"CSV {path} has no column {missing[0]!r}; it must be a file of {source}")
    if not rows:
        raise SystemExit(f"CSV {path} has no rows")
    return rows


def make_numbers(rows: list[dict[str, Any]], path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> None:
    """Turn the texts of these columns into finite numbers; into None where an optional one is empty."""
    for i, row in enumerate(rows, 2):
        for name in (*needed, *optional):
            empty = name in optional and not row.get(name)
            row[name] = None if empty else number(row[name], f"CSV {path}, line {i}: {name}")


def number(text: str | None, name: str) -> float:
    """A finite number."""
    try:
        value = float(text or "")
        if np.isfinite(value):
            return value
    except ValueError:
        pass
    raise SystemExit(f"{name}={text!r} must be a finite number")
