"""Finding and opening the libraries."""

import ctypes
import functools
from ctypes import c_int, c_long, c_void_p
from pathlib import Path

from sb3_ddpg_ext.native.structures import Acting, Plan, Step

FOLDER = Path(__file__).parent
LEVELS = ("avx512", "avx2", "plain")  # the best first


@functools.cache
def library(type_name: str, level: str | None = None) -> ctypes.CDLL | None:
    """
    :param type_name: of the numbers: ``"float"`` or ``"double"``; ``"bf16"`` for floats that are rounded before large products
    :param level: of the processor, one of ``LEVELS``; None for the best one that was built and runs here
    :return: the library; None if there is none
    """
    if level is None:
        return next((found for each in levels_here() if (found := library(type_name, each)) is not None), None)
    if type_name == "bf16":
        return next((found for name in ways_to_round() if (found := library(name, level)) is not None), None)
    opened = _opened(level, type_name)
    if opened is None or not _is_of_this_version(opened):
        return None  # not built, or of another version
    opened.plan_new.argtypes, opened.plan_new.restype = [ctypes.POINTER(Plan)], c_void_p
    opened.plan_free.argtypes, opened.plan_free.restype = [c_void_p], None
    opened.plan_update.argtypes, opened.plan_update.restype = [c_void_p, ctypes.POINTER(Step)], None
    opened.act.argtypes, opened.act.restype = [c_void_p, c_long, c_int], c_int
    return opened


@functools.cache
def levels_here() -> tuple[str, ...]:
    """The levels that were built and that this processor has, the best first."""
    plain = _opened("plain", "float")
    if plain is None:
        return ()
    return tuple(level for i, level in enumerate(LEVELS) if i >= plain.best_level() and _opened(level, "float") is not None)


@functools.cache
def ways_to_round() -> list[str]:
    """The names of the libraries in which this processor multiplies numbers of bfloat16 faster than others, the best first."""
    plain = _opened("plain", "float")
    ways = 0 if plain is None else plain.ways_to_round()
    return [name for bit, name in ((2, "amx"), (1, "vectors")) if ways & bit]


def _is_of_this_version(opened: ctypes.CDLL) -> bool:
    for name, structure in [("plan", Plan), ("step", Step), ("acting", Acting)]:
        size = getattr(opened, f"size_of_{name}", None)
        if size is None or size() != ctypes.sizeof(structure):
            return False
    return True


def _opened(level: str, type_name: str) -> ctypes.CDLL | None:
    sources = [file.stat().st_mtime for file in (FOLDER / "source").glob("*.*")]  # in a checkout
    for file in FOLDER.glob(f"ddpg_{level}_{type_name}.*"):
        if file.stat().st_mtime < max(sources, default=0):
            continue  # built from older sources, whose structures may be others
        try:
            return ctypes.CDLL(str(file))
        except OSError:  # of another system
            continue
    return None
