"""``ablate``: train over environments, seeds and levels of factors, and keep every run."""

import argparse
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from sb3_ddpg_ext.cli.ablate.progress import duration, make_progress

if TYPE_CHECKING:
    from sb3_ddpg_ext.ablation import Run, Store, Study

INTERRUPTED = 130  # exit status of a program that Ctrl-C has ended


def add_parser(commands: Any) -> None:
    """Add ``ablate`` and its arguments."""
    parser = commands.add_parser(
        "ablate", help="experiments over settings and seeds", description="Runs that are finished are never made again."
    )
    add = parser.add_argument
    add("studies", nargs="*", type=Path, metavar="STUDY.yml", help="studies to run, one after another")
    add("--out", type=Path, help="folder of the results (default: beside the study, of its name)")
    add("--jobs", "-j", type=int, help="runs at a time, one thread each (default: 1; on Ray as many as it has processors)")
    add(
        "--backend",
        choices=("processes", "ray"),
        default="processes",
        help="ray: a Ray cluster (RAY_ADDRESS, else a local one)",
    )
    add("--only", nargs="+", metavar="CONFIG", help="configurations, as --dry-run names them: 'base', 'tau=0.1'")
    add("--dry-run", action="store_true", help="only say what would be run, and how long it would take")
    add("--drop-others", action="store_true", help="forget the runs of settings that the study no longer has")
    group = parser.add_argument_group("without a file, or in place of what it says")
    add = group.add_argument
    add("--env", nargs="+", metavar="ID", help="only these environments, or others")
    add("--seeds", help="0-4, or 0,1,5")
    add("--steps", type=int)
    add("--preset", help="base of all runs (without a file: ddpg_ext, our tuned hyperparameters)")
    add("--base", action="append", default=[], metavar="NAME=VALUE", help="an argument of all runs")
    add("--set", action="append", default=[], metavar="NAME=VALUE,VALUE", help="a factor, such as policy_kwargs.n_critics=1,2")
    add("--design", choices=("grid", "one-at-a-time"))
    add("--eval-every", type=int, metavar="STEPS", help="steps between evaluations on the way")
    add("--eval-episodes", type=int, help="episodes of each")
    add("--gym-packages", nargs="*", help="to import before, as they register environments")
    add("--final-episodes", type=int, help="episodes of the evaluation at the end")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """
    Run the studies, one after another.

    :raises SystemExit: for a wrong argument; with 1 if a run has failed, with 130 after Ctrl-C
    """
    failed = 0
    try:
        for study, folder in read_studies(args):
            failed += run_study(study, folder, args)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        sys.exit(f"ablate: {error}")
    if failed:
        sys.exit(f"{failed} runs have failed; the same command tries them again")


def read_studies(args: argparse.Namespace) -> list[tuple["Study", Path]]:
    """The studies and their folders, all read before the first begins."""
    from sb3_ddpg_ext.ablation import Study

    own = from_arguments(args)
    if args.studies:
        if args.out and len(args.studies) > 1:
            raise ValueError(f"--out={args.out} is for one study, not for {len(args.studies)}")
        read = [(Study.read(path), path) for path in args.studies]
        return [(with_arguments(study, own), args.out or path.with_suffix("")) for study, path in read]
    if "environments" not in own:
        raise ValueError("a study needs a file, or --env")
    folder = args.out or Path("ablation")
    return [(Study(folder.name, {"base": {"preset": "ddpg_ext"}, **own}), folder)]


def with_arguments(study: "Study", own: dict[str, Any]) -> "Study":
    """What the command line says, over the file. Environments of the file keep their settings, and its others stay known."""
    from sb3_ddpg_ext.ablation import Study

    environments = dict.fromkeys(own.get("environments", ())) | study.environments
    return Study(study.name, {**study.spec, **own, "environments": environments})


def from_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """The keys of a study that the command line gives."""
    spec: dict[str, Any] = {"environments": args.env, "steps": args.steps, "design": args.design}
    spec |= {"final_episodes": args.final_episodes, "gym_packages": args.gym_packages}
    spec["evaluation"] = {"every": args.eval_every, "episodes": args.eval_episodes}
    spec["evaluation"] = {name: value for name, value in spec["evaluation"].items() if value is not None}
    if args.seeds:
        spec["seeds"] = args.seeds if "-" in args.seeds else values("--seeds", args.seeds)
    spec["factors"] = {name: levels(name, text) for name, text in map(split, args.set)}
    spec["base"] = {"preset": args.preset or "ddpg_ext"} if args.preset or args.base else {}
    for name, text in map(split, args.base):
        from sb3_ddpg_ext.experiment import merge

        spec["base"] = merge(spec["base"], nested(name, value(f"--base {name}", text)))
    return {name: given for name, given in spec.items() if given}


def split(setting: str) -> tuple[str, str]:
    name, sign, text = setting.partition("=")
    if not sign or not name:
        raise ValueError(f"{setting!r} must be NAME=VALUE")
    return name, text


def levels(name: str, text: str) -> dict[str, Any]:
    """``policy_kwargs.critic_norm``, ``"none,layer"`` -> the settings of the levels ``none`` and ``layer``."""
    given = values(f"--set {name}", text)
    named = {str(one): nested(name, one) for one in given}
    if len(named) < len(given):
        raise ValueError(f"--set {name}={text} must name each level once")
    return named


def values(name: str, text: str) -> list[Any]:
    """What stands between commas, read as YAML; lists and mappings keep theirs."""
    return value(name, f"[{text}]")


def value(name: str, text: str) -> Any:
    import yaml

    try:
        read = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{name}={text} must be YAML ({error})") from None
    return number(read)


def number(read: Any) -> Any:
    """1e-3 as Python reads it; to YAML it is text."""
    if isinstance(read, list):
        return [number(one) for one in read]
    try:
        return float(read) if isinstance(read, str) and read[:1] in "0123456789.-" else read
    except ValueError:
        return read


def nested(name: str, value: Any) -> dict[str, Any]:
    """``a.b`` -> ``{"a": {"b": value}}``."""
    first, _, rest = name.partition(".")
    return {first: nested(rest, value) if rest else value}


def run_study(study: "Study", folder: Path, args: argparse.Namespace) -> int:
    """:return: how many runs have failed"""
    from sb3_ddpg_ext.ablation import Store

    runs = study.runs(args.env, args.only)
    if args.jobs is not None and args.jobs < 1:
        raise ValueError(f"--jobs={args.jobs} must be at least 1")
    store = Store(folder, study.runs())
    if args.dry_run:
        print_plan(study.name, store.missing(runs), store, args.jobs or 1)
        return 0
    with store:
        if args.drop_others:
            store.drop_others()
        elif store.others:
            row = next(iter(store.others.values()))
            raise ValueError(
                f"{folder} has {len(store.others)} runs with settings that {study.name} no longer has, such as {row['env']} "
                f"{row['config']} seed {row['seed']}: give the study another --out, or forget them with --drop-others"
            )
        missing = store.missing(runs)
        print(f"{study.name}: {len(runs)} runs, {len(runs) - len(missing)} are finished; results in {folder}", flush=True)
        return run_missing(missing, store, args)


def run_missing(missing: Sequence["Run"], store: "Store", args: argparse.Namespace) -> int:
    """Make the runs and keep each as it ends."""
    from sb3_ddpg_ext.ablation.parallel import BACKENDS

    failed = 0
    coming = BACKENDS[args.backend](missing, args.jobs)
    with noticing_interrupts() as noticed, make_progress(missing) as progress, closing(coming) as outcomes:
        try:
            for outcome in outcomes:
                if outcome.result is not None:
                    store.add(outcome.result)
                else:
                    failed += 1
                progress.ended(outcome)
                if noticed:  # Ctrl-C came where an interrupt is lost, in the destructor of an object say
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            progress.say(f"Stopped; {len(store.rows)} runs are kept, and the same command goes on with the rest")
            raise
    return failed


@contextmanager
def noticing_interrupts() -> Iterator[list[int]]:
    """A list that gets an entry with each Ctrl-C, beside the ``KeyboardInterrupt``, which not every place lets through."""
    noticed: list[int] = []

    def handle(number: int, frame: Any) -> None:
        noticed.append(number)
        signal.default_int_handler(number, frame)

    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield noticed
        return
    before = signal.signal(signal.SIGINT, handle)
    try:
        yield noticed
    finally:
        signal.signal(signal.SIGINT, before)


def print_plan(name: str, missing: Sequence["Run"], store: "Store", jobs: int) -> None:
    """The runs to come, and how long they take: by those that are finished, else by a short trial."""
    for run in missing:
        print(run)
    seconds = estimate(missing, store.rows.values())
    print(f"{name}: {len(missing)} runs, about {duration(seconds / jobs)} with {jobs} at a time")


def estimate(missing: Sequence["Run"], rows: Any) -> float:
    """Seconds that the runs take, one after another."""
    from sb3_ddpg_ext.ablation.trial import time_run

    known: dict[str, list[float]] = defaultdict(list)
    by_config: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        known[row["env"]].append(float(row["seconds"]))
        by_config[row["env"], row["config"]].append(float(row["seconds"]))
    total = 0.0
    for run in missing:
        if not known[run.env]:
            known[run.env].append(time_run(run))
        seconds = by_config[run.env, run.config] or known[run.env]
        total += median(seconds)  # a run that was paused for an hour says little
    return total
