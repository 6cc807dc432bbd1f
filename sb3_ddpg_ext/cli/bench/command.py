"""``bench``: our speed beside that of other DDPGs, measured in turn in fresh processes."""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sb3_ddpg_ext.cli.bench import report
from sb3_ddpg_ext.cli.bench.buffers import OURS
from sb3_ddpg_ext.cli.bench.buffers import libraries as libraries_of_buffers
from sb3_ddpg_ext.cli.bench.options import OPTIONS
from sb3_ddpg_ext.cli.bench.task import LIBRARIES, MEASURES, Beside, Cell, Task

DEFAULT_CELLS = ("400x300/256", "256x256/256", "400x300/64", "64x64/64")


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} must be at least 1")
    return value


def threads(text: str) -> int:
    """A number of threads; 0 for what the library takes by itself."""
    return 0 if text == "default" else positive(text)


def add_parser(commands: Any) -> None:
    """Add ``bench`` and its arguments."""
    parser = commands.add_parser("bench", help="compare our speed with other DDPGs, or profile it (--profile)")
    add = parser.add_argument
    add("--libraries", nargs="+", choices=LIBRARIES, default=["ours", "sb3", "sbx", "cleanrl"], help="what to compare")
    add(
        "--options", nargs="*", choices=OPTIONS, metavar="OPTION", help="instead: ours with each of these options, or with all"
    )
    add("--buffers", nargs="*", choices=OURS, metavar="BUFFER", help="instead: ours and SB3's with each of these, or with all")
    add(
        "--beside", nargs="+", type=Beside.parse, default=[], metavar="LIBRARY@NET/BATCH",
        help="in turn with them, others in a cell of their own, such as sb3@400x300/256",
    )  # fmt: skip
    add("--measure", nargs="+", choices=MEASURES, default=["learn", "update"], help="what to measure")
    add("--env", default="HalfCheetah-v5", help="environment id; observations and actions must be one-dimensional boxes")
    add("--n-envs", type=positive, default=1, help="environments that step together, with one update for each step of each")
    add("--cells", nargs="+", type=Cell.parse, metavar="NET/BATCH", help=f"default: {' '.join(DEFAULT_CELLS)}")
    add("--net", metavar="400,300", help="hidden layers, for a single cell")
    add("--batch-size", type=positive, help="minibatch, for a single cell")
    add(
        "--threads", nargs="+", type=threads, metavar="N",
        help="thread counts to try, of which each library's best is reported, or 'default', which leaves it to the library",
    )  # fmt: skip
    add("--repeats", type=positive, default=5, help="runs of each library, one after the other in turn")
    add("--steps", type=positive, default=1000, help="environment steps in one timed call of learn()")
    add("--gradient-steps", type=positive, default=10, help="updates in one timed call of train()")
    add("--min-seconds", type=float, default=1.0, help="timed calls are repeated until this much time has passed")
    add("--warmup", type=positive, default=300, help="environment steps before the first measurement, some 200 with updates")
    add("--fill", type=int, default=50_000, help="random transitions put into the replay buffer before")
    add("--device", choices=["cpu", "cuda"], default="cpu")
    add("--learner", default="auto", help="of ours")
    add("--precision", choices=["float32", "bf16"], default="float32", help="of ours")
    add("--profile", action="store_true", help="no comparison: where the time of one of our steps goes")
    add("--json", type=Path, help="write runs, summary, machine and versions to this file")
    add("--png", type=Path, help="draw the summary")
    add("--worker", help=argparse.SUPPRESS)  # a Task as JSON: what the fresh processes are started with
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Measure, print, write what was asked for."""
    if args.worker:
        from sb3_ddpg_ext.cli.bench.worker import work

        print(json.dumps(work(Task(**json.loads(args.worker)))))
        return
    check_arguments(args)
    libraries, skipped = (["ours"], {}) if args.profile else available(args.libraries)
    if args.options is not None:
        libraries, skipped = ["ours", *(f"ours+{option}" for option in args.options or OPTIONS)], {}
    if args.buffers is not None:
        libraries, skipped = libraries_of_buffers(args.buffers), {}
    machine, versions = report.machine(), report.versions()
    print_header(args, machine, versions, skipped)
    records = run_all(plan(args, libraries))
    runs, failed = [run for run in records if "error" not in run], [run for run in records if "error" in run]
    rows = [] if args.profile else report.summarise(runs)
    print("\n" + ("\n\n".join(map(report.profile_table, runs)) if args.profile else report.tables(rows)))
    settings = {name: value for name, value in vars(args).items() if name not in ("run", "worker", "json", "png")}
    result = dict(
        machine=machine, versions=versions, settings=settings, skipped=skipped, runs=runs, failed=failed,
        summary=[row._asdict() for row in rows],
    )  # fmt: skip
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=1, default=str) + "\n")
    if args.png and (rows or args.profile):
        from sb3_ddpg_ext.cli.plot.bench import draw

        draw(rows, result, args.png)
    if failed:
        raise SystemExit(f"{len(failed)} of {len(records)} runs failed")


def check_arguments(args: argparse.Namespace) -> None:
    import gymnasium as gym

    try:
        env = gym.make(args.env)
    except gym.error.Error as error:
        raise SystemExit(f"--env {args.env}: {error}") from error
    for name, space in (("observations", env.observation_space), ("actions", env.action_space)):
        if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
            raise SystemExit(f"--env {args.env}: {name} must be a one-dimensional Box, not {space}")
    env.close()
    if args.cells and (args.net or args.batch_size):
        raise SystemExit("--cells holds nets and batch sizes; --net and --batch-size are for a single cell without it")
    if args.threads is not None and 0 in args.threads and len(args.threads) > 1:
        raise SystemExit("--threads default must come alone: what a library takes by itself is no count to be compared")
    if sum((args.options is not None, args.buffers is not None, args.profile)) > 1:
        raise SystemExit("--options compares our own updates, --buffers replay, --profile is about one update: one of them")
    if args.profile and args.beside:
        raise SystemExit("--beside compares with others; --profile is about one of our updates")
    if args.profile and args.device != "cpu":
        raise SystemExit(f"--profile measures the CPU; it must not come with --device {args.device}")


def cells_of(args: argparse.Namespace) -> list[Cell]:
    if args.cells:
        return args.cells
    if args.net or args.batch_size:
        try:
            return [Cell.parse(f"{(args.net or '400,300').replace(',', 'x')}/{args.batch_size or 256}")]
        except argparse.ArgumentTypeError as error:
            raise SystemExit(f"--net {args.net} must be hidden layers, such as 400,300") from error
    one_cell = args.options is not None or args.buffers is not None
    return [Cell.parse(text) for text in (DEFAULT_CELLS[1:2] if one_cell else DEFAULT_CELLS)]


def available(libraries: list[str]) -> tuple[list[str], dict[str, str]]:
    """The libraries that are installed, and why the others are skipped."""
    if "sbx" not in libraries or importlib.util.find_spec("sbx"):
        return libraries, {}
    reason = "the package sbx-rl is not installed: pip install 'sb3_ddpg_ext[bench]'"
    return [library for library in libraries if library != "sbx"], {"sbx": reason}


def plan(args: argparse.Namespace, libraries: list[str]) -> list[Task]:
    """Cell by cell, the libraries in turn, so that what else the machine does meets them alike."""
    steps = -(-args.steps // args.n_envs) * args.n_envs  # learn() stops at a multiple of n_envs
    warmup = -(-max(args.warmup, 100 + 10 * args.n_envs) // args.n_envs) * args.n_envs
    return [
        Task(
            library=library, threads=n_threads, repeat=repeat, cell=str(own), env=args.env, n_envs=args.n_envs,
            device=args.device, learner=args.learner, precision=args.precision, measures=args.measure, steps=steps,
            gradient_steps=args.gradient_steps, warmup=warmup, fill=args.fill, min_seconds=args.min_seconds,
            profile=args.profile,
        )
        for cell in cells_of(args)
        for repeat in range(1 if args.profile else args.repeats)
        for n_threads in args.threads or sorted({1, report.usable_cores()})
        for library, own in (*((library, cell) for library in libraries), *args.beside)
    ]  # fmt: skip


def print_header(args: argparse.Namespace, machine: dict[str, Any], versions: dict[str, str], skipped: dict[str, str]) -> None:
    print(f"{machine['processor']}, {machine['cores']} cores; {machine['system']}")
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    print(f"{args.env}, n_envs {args.n_envs}, {args.device}, {args.gradient_steps} updates in a timed call of train()")
    if machine["load"] is not None and machine["load"] > 0.5:
        print(f"The machine is not idle (load {machine['load']:.1f}): these numbers will not be worth much.")
    for library, reason in skipped.items():
        print(f"{library} is skipped: {reason}")


def run_all(tasks: list[Task]) -> list[dict[str, Any]]:
    """One record for each task; ctrl-C keeps those that are done."""
    records: list[dict[str, Any]] = []
    try:
        for task in tasks:
            record = {name: getattr(task, name) for name in ("library", "cell", "threads", "repeat")} | launch(task)
            records.append(record)
            progress = f"[{len(records)}/{len(tasks)}] {task.cell} {task.library}, threads: {report.threads(task.threads)}"
            print(f"{progress}: {outcome(record)}", flush=True)
    except KeyboardInterrupt:
        print("interrupted")
    return records


def launch(task: Task) -> dict[str, Any]:
    """Run a task in a fresh process."""
    command = [sys.executable, "-m", "sb3_ddpg_ext", "bench", "--worker", json.dumps(asdict(task))]
    environment = os.environ | ({"JAX_PLATFORMS": "cpu"} if task.device == "cpu" else {})
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    if process.returncode:
        return {"error": (process.stderr.strip().splitlines() or [f"exit status {process.returncode}"])[-1]}
    return json.loads(process.stdout.splitlines()[-1])


def outcome(record: dict[str, Any]) -> str:
    if "error" in record:
        return f"failed: {record['error']}"
    measured = record.get("measures", {}).items()
    return ", ".join(f"{name} {report.number(value)} {MEASURES[name].unit}" for name, value in measured) or "profiled"
