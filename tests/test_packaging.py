"""The wheel and the sdist hold what they must, and work where they are installed."""

import configparser
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import needs_library

import sb3_ddpg_ext

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


def run(*command, cwd, **env):
    result = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """A folder with the sdist and the wheel that was built from it."""
    folder, source = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("source") / "checkout"
    leave_out = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "logs", "__pycache__", "*.so")
    shutil.copytree(ROOT, source, ignore=leave_out)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source, cwd=folder)
    return folder


def test_wheel_contents(dist):
    """YAML, type marker, licence, entry point; neither tests nor examples."""
    (wheel,) = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"sb3_ddpg_ext/hyperparams/ddpg_ext.yml", "sb3_ddpg_ext/py.typed", "sb3_ddpg_ext/cli/reports/report.py"} <= set(
        names
    )
    assert any(name.endswith("licenses/LICENSE") for name in names)
    top = {"sb3_ddpg_ext", "_sb3_ddpg_ext_autoload.py", f"sb3_ddpg_ext-{sb3_ddpg_ext.__version__}.dist-info"}
    assert {name.split("/")[0] for name in names} == top


def test_wheel_has_every_module(dist):
    """Also those of a package that is new."""
    (wheel,) = dist.glob("*.whl")
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "sb3_ddpg_ext").rglob("*.py")}
    assert modules <= set(zipfile.ZipFile(wheel).namelist())


@needs_library
def test_wheel_is_for_a_platform_and_every_python(dist):
    """Its libraries know nothing of Python."""
    (wheel,) = dist.glob("*.whl")
    assert re.search(r"-py3-none-(?!any)", wheel.name)
    libraries = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")}
    assert {Path(name).name for name in libraries} >= {"ddpg_plain_float.so", "ddpg_plain_double.so"}


def test_without_a_compiler(dist, tmp_path):
    """The source distribution installs, and the learner in Python does the updates."""
    (sdist,) = dist.glob("*.tar.gz")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    run(*pip, "--target", tmp_path / "site", sdist, cwd=tmp_path, CC="no-compiler-here")
    code = "from sb3_ddpg_ext import DDPG; print(DDPG('MlpPolicy', 'Pendulum-v1', verbose=1).learn(110).learner_name)"
    output = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert "Learner: fused (compiled not: the package was installed without its compiled library)" in output
    assert output.rstrip().endswith("fused")


def test_sdist_contents(dist):
    """Tests, examples and the tried versions travel with the source."""
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert {"tests/test_eager.py", "examples/pendulum.py", "constraints.txt", "hyperparams/ddpg_ext.yml", "Makefile"} <= names
    assert {"setup.py", "sb3_ddpg_ext/native/source/update.c", "sb3_ddpg_ext/native/source/product.h"} <= names


@pytest.mark.parametrize("pattern", ["*.whl", "*.tar.gz"])
def test_installed_copy_trains_by_the_plain_command(dist, tmp_path, pattern):
    """Installed elsewhere, it is that copy that rl_zoo3 finds, with the YAML inside it."""
    (archive,) = dist.glob(pattern)
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    run(*pip, "--target", site, archive, cwd=tmp_path)
    output = run(
        Path(sys.executable).with_name("rl_zoo3"), "train", "--algo", "ddpg_ext", "--env", "Pendulum-v1", "-n", "5",
        "--eval-freq", "-1", cwd=tmp_path, PYTHONPATH=str(site),
    )  # fmt: skip
    assert f"Loading hyperparameters from: {site}/sb3_ddpg_ext/hyperparams/ddpg_ext.yml" in output


@pytest.fixture(scope="module")
def editable(tmp_path_factory):
    """Site-packages with an editable installation, whose checkout is gone."""
    site, source = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("editable") / "checkout"
    leave_out = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "logs", "__pycache__", "*.so", "results")
    shutil.copytree(ROOT, source, ignore=leave_out)
    code = f"from setuptools import build_meta; build_meta.build_editable({str(site)!r})"
    run(sys.executable, "-c", code, cwd=source, CC="no-compiler-here")
    (wheel,) = site.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        archive.extractall(site)
    shutil.rmtree(source)
    return site


def test_import_torch_survives_a_deleted_checkout(editable, tmp_path):
    """Its entry point can be loaded; rl_zoo3 warns that it cannot register us, and knows its own algorithms."""
    code = (
        "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'sb3_ddpg_ext' not in getattr(f, '__module__', '')]; "
        "import torch; print(sys.modules['_sb3_ddpg_ext_autoload'].__file__); import rl_zoo3.exp_manager as m; "
        "print('ddpg' in m.ALGOS, 'ddpg_ext' in m.ALGOS)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(editable)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(editable / "_sb3_ddpg_ext_autoload.py"), "True", "False"]
    assert "sb3_ddpg_ext could not be registered in rl_zoo3: ModuleNotFoundError" in result.stderr


def test_what_an_entry_point_names_is_beside_it(editable):
    """In the same folder, and in the record by which pip removes it."""
    (info,) = editable.glob("*.dist-info")
    parser = configparser.ConfigParser()
    parser.read(info / "entry_points.txt")
    files = [f"{value.split(':')[0]}.py" for value in parser["torch.backends"].values()]
    recorded = (info / "RECORD").read_text()
    assert files == ["_sb3_ddpg_ext_autoload.py"]
    assert all((editable / file).is_file() and f"{file},sha256=" in recorded for file in files)


def test_extras_and_version():
    """The extras that docs/start.md names exist, and the version is written once."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = {"zoo", "mujoco", "box2d", "pybullet", "robotics", "plots", "export", "ray", "bench", "docs", "tests", "all"}
    assert set(config["options.extras_require"]) == extras
    assert config["metadata"]["version"] == "attr: sb3_ddpg_ext.__version__"


def test_constraints_for_robotics_differ_in_mujoco_alone():
    """They are the others with an older MuJoCo."""
    pins = [
        {line for line in (ROOT / f"constraints{name}.txt").read_text().splitlines() if line and not line.startswith("#")}
        for name in ("", "-robotics")
    ]
    assert {line.partition("==")[0] for line in pins[0] ^ pins[1]} == {"mujoco"}


def test_version_and_date_are_the_same_everywhere():
    """In the package, the changelog and the citation."""
    citation, changelog = (ROOT / "CITATION.cff").read_text(), (ROOT / "CHANGELOG.md").read_text()
    version, date = re.search(r"^## (\S+) \((\S+)\)$", changelog, re.MULTILINE).groups()
    assert version == sb3_ddpg_ext.__version__
    assert f"version: {version}\ndate-released: {date}\n" in citation


def test_constraints_pin_what_is_installed():
    """Every installed package that constraints.txt names has the version it names."""
    from importlib.metadata import PackageNotFoundError, version

    from packaging.requirements import Requirement

    lines = (ROOT / "constraints.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert len(requirements) > 20
    for requirement in requirements:
        assert next(iter(requirement.specifier)).operator == "=="
        if requirement.marker is None or requirement.marker.evaluate():
            try:
                installed = version(requirement.name)
            except PackageNotFoundError:
                continue
            assert requirement.specifier.contains(installed.split("+")[0]), (str(requirement), installed)
