"""``export --bench``: size and time of one action of each format, beside the model's own ``predict``."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch as th

from sb3_ddpg_ext.cli.bench import report
from sb3_ddpg_ext.export import FORMATS, NotExpressible, export, load
from sb3_ddpg_ext.export.parity import sampled
from sb3_ddpg_ext.export.source import Source, make_source
from sb3_ddpg_ext.observations import each

ROUNDS, SECONDS = 40, 0.05  # of each in turn, so that what else the machine does meets them alike
PREDICT = "predict"


def measure(model: Any, vec_normalize: Any, env: Any, label: str, path: Path | None) -> list[dict[str, Any]]:
    """
    :param model: whose actor is exported
    :param vec_normalize: as :func:`~sb3_ddpg_ext.export.export` takes it
    :param env: the same
    :param label: of the rows
    :param path: of a JSON file that the rows are added to, in place of those with this label; None for none
    :return: a row for the model and one for each format
    """
    th.set_num_threads(1)
    source = make_source(model, vec_normalize, env)
    observation = next(sampled(source, 1, np.random.default_rng(0)))
    one, alone = each(lambda part: part[0], observation), each(lambda part: part[:1], observation)
    functions, sizes = {PREDICT: predicting(source, one, alone)}, {PREDICT: 0}
    with TemporaryDirectory() as folder:
        for name in FORMATS:
            try:
                card = export(model, Path(folder) / name, name, vec_normalize, env, verbose=0)
            except (NotExpressible, ImportError) as reason:
                print(f"{name} is left out: {reason}")
                continue
            functions[name] = acting(load(Path(folder) / card["file"]), one, source.takes_reward)
            sizes[name] = card["bytes"]
        seconds = timed(functions)
    rows = [
        dict(label=label, format=name, bytes=sizes[name], microseconds=round(1e6 * seconds[name], 2)) for name in functions
    ]
    print(table(rows))
    if path is not None:
        write(path, rows, label)
    return rows


def predicting(source: Source, one: Any, alone: Any) -> Callable[[], Any]:
    """The model's way from a raw observation to an action: ``VecNormalize``, which is for several, and ``predict``."""
    model, reward = source.model, np.zeros(1, np.float32) if source.takes_reward else None
    if source.normaliser is None and not source.has_memory:
        return lambda: model.predict(one, deterministic=True)
    _, state = source.predict(alone, reward=reward)
    return lambda: source.predict(alone, state, reward=reward)


def acting(actor: Any, one: Any, takes_reward: bool) -> Callable[[], Any]:
    reward = np.zeros(1, np.float32) if takes_reward else None
    _, state = actor.predict(one, previous_reward=reward)
    return lambda: actor.predict(one, state, previous_reward=reward)


def timed(functions: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """The seconds that one call takes, of all in turn: the fastest round, in which the machine did least besides."""
    found: dict[str, list[float]] = {name: [] for name in functions}
    for round_number in range(ROUNDS + 1):
        for name, function in functions.items():
            n_calls, begin, now = 0, time.perf_counter(), 0.0
            while now < SECONDS:
                for _ in range(10):
                    function()
                n_calls, now = n_calls + 10, time.perf_counter() - begin
            if round_number:  # the first is to warm up
                found[name].append(now / n_calls)
    return {name: min(values) for name, values in found.items()}


def table(rows: list[dict[str, Any]]) -> str:
    """In Markdown: a row for each model and way to act."""
    own = {row["label"]: row["microseconds"] for row in rows if row["format"] == PREDICT}
    lines = [
        [
            row["label"], f"`model.{PREDICT}`" if row["format"] == PREDICT else row["format"],
            f"{row['bytes'] / 1000:,.0f}" if row["bytes"] else "", report.number(row["microseconds"]),
            "" if row["format"] == PREDICT else f"{own[row['label']] / row['microseconds']:.2f}",
        ]
        for row in rows
    ]  # fmt: skip
    return report.markdown(["model", "acts by", "kB", "one action, us", f"times as fast as `{PREDICT}`"], lines)


def write(path: Path, rows: list[dict[str, Any]], label: str) -> None:
    before = json.loads(path.read_text())["rows"] if path.exists() else []
    kept = [row for row in before if row["label"] != label]
    versions = report.versions() | own_versions()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(machine=report.machine(), versions=versions, rows=kept + rows), indent=1) + "\n")


def own_versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("onnx", "onnxruntime"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
