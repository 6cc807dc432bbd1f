"""The examples run, and are short enough to be read."""

import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
# What the extras bring along that can be imported.
PACKAGES = {
    "zoo": {"rl_zoo3", "huggingface_sb3", "optuna", "seaborn", "rliable", "tqdm", "rich", "joblib", "requests"},
    "mujoco": {"mujoco"},
    "box2d": {"Box2D"},
    "pybullet": {"pybullet", "pybullet_envs_gymnasium"},
    "robotics": {"gymnasium_robotics", "panda_gym"},
    "ray": {"ray", "requests"},
    "bench": {"jax", "sbx"},
}
parametrize_examples = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)


@parametrize_examples
def test_example_runs(path, tmp_path, monkeypatch):
    """main() comes to its end after few steps, and writes into the folder that it is given and not where it is run."""
    working_directory, folder = tmp_path / "working_directory", tmp_path / "folder"
    working_directory.mkdir()
    folder.mkdir()
    monkeypatch.chdir(working_directory)
    spec = importlib.util.spec_from_file_location(f"examples_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    takes_folder = "folder" in inspect.signature(module.main).parameters
    assert module.main(total_timesteps=300, **({"folder": str(folder)} if takes_folder else {})) is not None
    assert bool(list(folder.iterdir())) == takes_folder
    assert not list(working_directory.iterdir())


@parametrize_examples
def test_example_says_how_to_run_it(path):
    """The module's docstring has the command."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert f"python examples/{path.name}" in module.__doc__


@pytest.mark.slow
@parametrize_examples
def test_example_names_the_extra_that_it_needs(path, tmp_path):
    """With the packages of that extra alone, beside Stable-Baselines3, gymnasium and torch, it runs."""
    named = re.search(r"needs the extra (\w+)", path.read_text())
    allowed = PACKAGES[named[1]] if named else set()
    blocked = set().union(*PACKAGES.values()) - allowed
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({sorted(blocked)!r})); "
        f"sys.path[:0] = {[str(path.parent), *sys.path]!r}; "
        f"import {path.stem} as example, inspect; "
        f"folder = dict(folder={str(tmp_path)!r}) if 'folder' in inspect.signature(example.main).parameters else dict(); "
        "example.main(total_timesteps=300, **folder)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_there_are_examples():
    """The folder is found, so that the parametrised tests have something to test."""
    assert len(EXAMPLES) >= 9


@parametrize_examples
def test_example_is_a_screen_at_most(path):
    """No example is longer than 45 lines."""
    assert len(path.read_text().splitlines()) <= 45
