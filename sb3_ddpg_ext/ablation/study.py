"""What a study runs: environments, seeds, and levels of factors put over a base."""

import hashlib
import itertools
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sb3_ddpg_ext.experiment import evaluate_text, merge
from sb3_ddpg_ext.presets import load_preset
from sb3_ddpg_ext.validation import check_choice, check_instance, check_integer

KEYS = ("environments", "steps", "seeds", "evaluation", "final_episodes", "design", "base", "factors", "gym_packages")
DESIGNS = ("grid", "one-at-a-time")
BASE = "base"
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """
    One training of a study, and how it is evaluated.

    :param study: name of the study
    :param env: environment id
    :param config: the settings in short: ``"base"``, ``"noise=pink"``, ``"noise=pink critic_norm=layer"``
    :param levels: name of the level of each factor
    :param seed: of model and environment
    :param algo: as rl_zoo3 names it
    :param hyperparams: a block of a YAML file of rl_zoo3, see :func:`~sb3_ddpg_ext.experiment.make_experiment`
    :param steps: of the environment
    :param evaluate_every: steps between evaluations on the way
    :param evaluation_episodes: episodes of each
    :param final_episodes: episodes of the evaluation at the end
    :param gym_packages: to import before, as they register environments
    """

    study: str
    env: str
    config: str
    levels: dict[str, str]
    seed: int
    algo: str
    hyperparams: dict[str, Any]
    steps: int
    evaluate_every: int
    evaluation_episodes: int
    final_episodes: int
    gym_packages: tuple[str, ...] = ()

    @property
    def settings(self) -> str:
        """Ten characters that differ between runs that differ in more than their names and seeds."""
        said = (self.algo, self.hyperparams, self.steps, self.evaluate_every, self.evaluation_episodes, self.final_episodes)
        return hashlib.sha256(json.dumps(said, sort_keys=True, default=_name_of).encode()).hexdigest()[:10]

    @property
    def key(self) -> tuple[str, str, int]:
        """What no two runs of a study have in common."""
        return self.env, self.settings, self.seed

    def __str__(self) -> str:
        return f"{self.env} {self.config} seed {self.seed}"


def _name_of(thing: Any) -> str:
    """Of a class, a function or an object in the hyperparameters, without its address."""
    name = getattr(thing, "__qualname__", None)
    return f"{thing.__module__}.{name}" if name else re.sub(r" at 0x[0-9a-f]+", "", repr(thing))


class Study:
    """
    Runs over environments, seeds and levels of factors.

    :param name: of the study
    :param spec: ``environments`` (a list of ids, or a mapping from ids to settings of their own), ``seeds`` (a list, or
        ``"0-4"``), ``steps`` (a number, or a mapping by environment; without it the preset's), ``evaluation``
        (``every`` and ``episodes``; ``every`` may be a mapping by environment), ``final_episodes``, ``design`` (``"grid"``, or
        ``"one-at-a-time"``, where the first level of each factor is the base), ``base`` (settings), ``factors`` (for each a
        mapping from the names of its levels to settings) and ``gym_packages`` (a list of those that register environments).
        Settings are keys of rl_zoo3's YAML files, thus also arguments of the algorithm; besides ``preset``, the name of one,
        and ``algo``, as rl_zoo3 names it. Later ones are merged into earlier ones: preset, base, environment, levels.
    :raises ValueError: for an unknown key or value, or two levels with the same settings
    :raises TypeError: for a value of the wrong type
    """

    def __init__(self, name: str, spec: Mapping[str, Any]):
        check_instance(f"study {name!r}", spec, Mapping, f"a mapping with the keys {', '.join(KEYS)}")
        unknown = [key for key in spec if key not in KEYS]
        if unknown:
            raise ValueError(f"study {name!r}: the key {unknown[0]!r} is unknown; it must be one of {', '.join(KEYS)}")
        self.name, self.spec = name, {key: value for key, value in spec.items() if value is not None}
        spec = self.spec
        environments = spec.get("environments") or []
        check_instance("environments", environments, (list, Mapping), "a list of ids, or a mapping from ids to settings")
        if not environments:
            raise ValueError("environments must name one at least")
        own = environments if isinstance(environments, Mapping) else dict.fromkeys(environments)
        self.environments = {str(env): _settings(f"environments: {env}", settings) for env, settings in own.items()}
        self.seeds = read_seeds(spec.get("seeds", [0, 1, 2]))
        self.design = spec.get("design", "grid")
        check_choice("design", self.design, list(DESIGNS))
        self.base = _settings("base", spec.get("base"))
        self.factors = self._read_factors(spec.get("factors") or {})
        self._read_evaluation(spec.get("evaluation") or {})
        packages = spec.get("gym_packages", [])
        check_instance("gym_packages", packages, (list, tuple), "a list of the names of packages")
        self.gym_packages = tuple(map(str, packages))
        self.final_episodes = check_integer("final_episodes", spec.get("final_episodes", 100), at_least=1)

    @classmethod
    def read(cls, path: Path) -> "Study":
        """:raises ValueError: if the file is no YAML"""
        import yaml

        try:
            return cls(path.stem, yaml.safe_load(path.read_text()))
        except yaml.YAMLError as error:
            raise ValueError(f"{path} must be a YAML file ({error})") from None

    def _read_factors(self, factors: Any) -> dict[str, dict[str, Settings]]:
        check_instance("factors", factors, Mapping, "a mapping from names of factors to levels")
        for factor, named in factors.items():
            check_instance(f"factors: {factor}", named, Mapping, "a mapping from names of levels to settings")
            if not named:
                raise ValueError(f"factors: {factor} must have one level at least")
        return {
            str(factor): {str(level): _settings(f"factors: {factor}: {level}", value) for level, value in levels.items()}
            for factor, levels in factors.items()
        }

    def _read_evaluation(self, evaluation: Any) -> None:
        check_instance("evaluation", evaluation, Mapping, "a mapping with every and episodes")
        unknown = [key for key in evaluation if key not in ("every", "episodes")]
        if unknown:
            raise ValueError(f"evaluation: the key {unknown[0]!r} is unknown; it must be every or episodes")
        self.every = evaluation.get("every", 10_000)
        self.evaluation_episodes = check_integer("evaluation: episodes", evaluation.get("episodes", 5), at_least=1)

    def configurations(self) -> Iterator[tuple[str, dict[str, str]]]:
        """The name of each, and the level of each factor in it."""
        first = {factor: next(iter(levels)) for factor, levels in self.factors.items()}
        if self.design == "grid":
            for levels in itertools.product(*self.factors.values()):
                named = dict(zip(self.factors, levels, strict=True))
                yield " ".join(f"{factor}={level}" for factor, level in named.items()) or BASE, named
            return
        yield BASE, first
        for factor, others in self.factors.items():
            for level in list(others)[1:]:
                yield f"{factor}={level}", first | {factor: level}

    def runs(self, environments: Collection[str] | None = None, configs: Collection[str] | None = None) -> list[Run]:
        """
        Environment by environment and seed by seed: a study that is stopped early has something whole.

        :param environments: only these
        :param configs: only these configurations
        :raises ValueError: for a configuration that the study does not have, or two with the same settings
        """
        named = [config for config, _ in self.configurations()]
        unknown = [config for config in configs or () if config not in named]
        if unknown:
            raise ValueError(f"study {self.name!r} has no {unknown[0]!r}; it has {', '.join(map(repr, named))}")
        made: dict[tuple[str, str, int], Run] = {}
        chosen = [env for env in self.environments if environments is None or env in environments]
        blocks = {(env, config): self._resolve(env, levels) for env in chosen for config, levels in self.configurations()}
        for env in chosen:
            for seed in self.seeds:
                for config, levels in self.configurations():
                    run = self._make_run(env, config, levels, seed, *blocks[env, config])
                    other = made.setdefault(run.key, run)
                    if other is not run:
                        raise ValueError(
                            f"study {self.name!r}: {config!r} and {other.config!r} are the same settings in {env}"
                        )
        return [run for run in made.values() if configs is None or run.config in configs]

    def _resolve(self, env: str, levels: dict[str, str]) -> tuple[str, dict[str, Any]]:
        """The algorithm and its hyperparameters."""
        overrides: dict[str, Any] = {}
        chosen = [self.factors[factor][level] for factor, level in levels.items()]
        for settings in (self.base, self.environments[env], *chosen):
            overrides = merge(overrides, evaluate_text(settings))
        name, algo = overrides.pop("preset", None), overrides.pop("algo", None)
        if name is None:
            return algo or "ddpg_ext", overrides
        preset = load_preset(name)
        return algo or preset.algo, merge(evaluate_text(preset.hyperparams(env)), overrides)

    def _make_run(
        self, env: str, config: str, levels: dict[str, str], seed: int, algo: str, hyperparams: dict[str, Any]
    ) -> Run:
        steps = _of_environment("steps", self.spec.get("steps", hyperparams.get("n_timesteps")), env)
        block = {key: value for key, value in hyperparams.items() if key != "n_timesteps"}
        every = _of_environment("evaluation: every", self.every, env)
        episodes = self.evaluation_episodes, self.final_episodes
        return Run(self.name, env, config, levels, seed, algo, block, steps, every, *episodes, self.gym_packages)


def _settings(name: str, value: Any) -> Settings:
    value = {} if value is None else value
    check_instance(name, value, Mapping, "a mapping from settings to values")
    return value


def _of_environment(name: str, value: Any, env: str) -> int:
    """A number that is one for all environments, or one for each."""
    if isinstance(value, Mapping):
        if env not in value:
            raise ValueError(f"{name} must have a number for {env}; it has {', '.join(map(str, value))}")
        name, value = f"{name}: {env}", value[env]
    if value is None:
        raise ValueError(f"{name} must be a number: no preset has one for {env}")
    return check_integer(name, int(value) if isinstance(value, float) and value.is_integer() else value, at_least=1)


def read_seeds(seeds: Any) -> list[int]:
    """``[0, 1, 2]``, ``"0-2"`` or a single number."""
    if isinstance(seeds, str):
        match = re.fullmatch(r"(\d+)-(\d+)", seeds)
        if not match:
            raise ValueError(f"seeds={seeds!r} must be a list of numbers, or FIRST-LAST")
        seeds = list(range(int(match[1]), int(match[2]) + 1))
    seeds = list(seeds) if isinstance(seeds, list | tuple) else [seeds]
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds={seeds!r} must be one at least, each once")
    return [check_integer("seeds", seed, at_least=0) for seed in seeds]
