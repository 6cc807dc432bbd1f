"""The examples run, and are short enough to be read."""

import importlib.util
import inspect
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
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


def test_there_are_examples():
    """The folder is found, so that the parametrised tests have something to test."""
    assert len(EXAMPLES) >= 9


@parametrize_examples
def test_example_is_a_screen_at_most(path):
    """No example is longer than 45 lines."""
    assert len(path.read_text().splitlines()) <= 45
