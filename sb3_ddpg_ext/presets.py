"""
Presets: systems of papers and tutorials as files of rl_zoo3's hyperparameters, ``hyperparams/presets/NAME.yml``.

:func:`load_preset` reads one, and ``DDPG.from_preset`` makes a model of it. ``rl_zoo3 train -conf NAME`` and ``ablate`` take
its name.
"""

import difflib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

ABOUT = "about"  # the key of a preset's file that is no environment
DEFAULT = "default"
TUNED = ("ddpg_ext", "ddpg_ext_lstm")  # our own hyperparameters, which rl_zoo3 takes for these algorithms by itself


def hyperparams_folder() -> Path:
    """Inside an installed package, beside the package in a checkout."""
    package = Path(__file__).parent
    folder = package / "hyperparams"
    return folder if folder.is_dir() else package.parent / "hyperparams"


def preset_names() -> list[str]:
    """All presets, our own hyperparameters first."""
    return [*TUNED, *sorted(path.stem for path in (hyperparams_folder() / "presets").glob("*.yml"))]


def load_preset(name: str) -> "Preset":
    """:raises ValueError: if there is no preset of this name"""
    names = preset_names()
    if name not in names:
        near = difflib.get_close_matches(str(name), names, n=1)
        guess = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"preset={name!r} is unknown; it must be one of {', '.join(names)}{guess}")
    folder = hyperparams_folder()
    return Preset((folder if name in TUNED else folder / "presets") / f"{name}.yml")


class Preset:
    """
    A file of rl_zoo3's hyperparameters, which says under ``about`` where they come from.

    :param path: the file
    """

    def __init__(self, path: Path):
        self.path, self.name = path, path.stem

    @cached_property
    def _content(self) -> dict[str, Any]:
        try:
            import yaml
        except ImportError as error:
            raise ImportError(f"presets need PyYAML ({error}): pip install 'sb3_ddpg_ext[zoo]'") from error
        return yaml.safe_load(self.path.read_text())

    @property
    def about(self) -> Mapping[str, Any]:
        """``summary``, ``source``, ``claims``, ``algo``, ``deviations``, and ``rules`` for tasks that it does not know."""
        return self._content[ABOUT]

    @property
    def algo(self) -> str:
        """The name of the algorithm in rl_zoo3."""
        return self.about["algo"]

    @property
    def blocks(self) -> dict[str, dict[str, Any]]:
        """Hyperparameters by environment, and ``default``."""
        return {key: block for key, block in self._content.items() if key != ABOUT}

    @property
    def environments(self) -> list[str]:
        """Those that have a block of their own."""
        return [key for key in self.blocks if key != DEFAULT]

    def introduction(self, env_id: str) -> str:
        """
        Which values an environment gets, and the preset's rules.

        :param env_id: id of the environment
        """
        which = f"its values for {env_id}" if env_id in self.environments else f"its default values, for {env_id}"
        rules = [f"- {rule}" for rule in self.about.get("rules", [])]
        title = ["How it fits tasks that it does not know:"] if rules else []
        return "\n".join([f"Preset: {self.name}, {which}", *title, *rules])

    def hyperparams(self, env_id: str) -> dict[str, Any]:
        """
        The block of an environment, else the default one.

        :raises ValueError: where there is neither
        """
        if env_id in self.environments or DEFAULT in self.blocks:
            return self.blocks.get(env_id) or self.blocks[DEFAULT]
        raise ValueError(f"preset {self.name!r} has no default; env={env_id!r} must be one of {', '.join(self.environments)}")
