"""Who may import whom, and that the core stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import measures
import pytest
from stable_baselines3.common.buffers import ReplayBuffer

import _sb3_ddpg_ext_autoload
import sb3_ddpg_ext
from sb3_ddpg_ext import DDPG

PACKAGE = Path(sb3_ddpg_ext.__file__).parent
# A module imports only from layers above its own; modules of one layer do not import each other.
LAYERS = [
    ("files", "kinds", "native", "observations", "packing", "runtime"),
    ("validation",),
    ("env_checks", "model_checks"),
    ("model_file",),
    ("batch", "networks", "schedules"),
    ("policies",),
    ("buffers", "noise"),
    ("checkpoints", "diagnostics", "finite", "learners", "replay"),
    ("arguments", "collector", "explorer", "histories", "plan", "recipe", "trainer"),
    ("buffer_files", "distributed"),
    ("places",),
    ("ddpg",),
    ("recurrent",),
    ("calibration", "callbacks", "checkpoint", "demonstrations", "export", "presets", "wrappers"),
    ("zoo",),
    ("experiment",),
    ("ablation", "doctor"),
    ("cli",),
    ("__main__",),
]
DEPTH = {module: depth for depth, layer in enumerate(LAYERS) for module in layer}
UPWARDS = {("ddpg", "experiment")}  # inside a function: DDPG.from_preset is a door to what stands on DDPG
CORE = {module for layer in LAYERS[: LAYERS.index(("recurrent",)) + 1] for module in layer} | {"callbacks"}
CORE_MAY_IMPORT = {"gymnasium", "numpy", "torch", "stable_baselines3", "sb3_contrib", "sb3_ddpg_ext"} | sys.stdlib_module_names
CORE_MAY_IMPORT |= {"cloudpickle"}  # a dependency of Stable-Baselines3
CORE_MAY_IMPORT |= {"ray"}  # for a collector that the user names
CORE_MAY_IMPORT |= {"minari"}  # to read a data set that the user names
FILES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path != PACKAGE / "__init__.py" and path.relative_to(PACKAGE).parts[0] != "hyperparams"
)


def module_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path, inside_functions):
    """Names imported by a file, also under TYPE_CHECKING."""
    tree = ast.parse(path.read_text())
    skipped = [] if inside_functions else [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    hidden = {id(child) for node in skipped for child in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) not in hidden:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, "imports are absolute"
                own = [alias.name for alias in node.names] if node.module == "sb3_ddpg_ext" else []
                yield from (f"sb3_ddpg_ext.{name}" for name in own) if own else [node.module]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_upwards(path):
    """Each module imports from layers above its own, or from its own package."""
    mine = module_of(path)
    for name in imports_of(path, inside_functions=True):
        if name.startswith("sb3_ddpg_ext."):
            other = name.split(".")[1]
            assert other == mine or DEPTH[other] < DEPTH[mine] or (mine, other) in UPWARDS, f"{mine} imports {other}"


def name_of(path):
    """As it is imported."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files_imported_by(path, names):
    """The files of the package that one imports anywhere, those of a room by its ``__init__`` too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in names else node.module


def circles(graph):
    """Files that reach themselves."""

    def reachable(start):
        seen, left = set(), list(graph[start])
        while left:
            name = left.pop()
            if name not in seen:
                seen.add(name)
                left.extend(graph.get(name, ()))
        return seen

    return sorted(name for name in graph if name in reachable(name))


def test_no_circles_of_files():
    """Not even inside functions, but for the door to what stands on DDPG."""
    names = {name_of(path): path for path in FILES}
    graph = {name: {other for other in files_imported_by(path, names) if other in names} for name, path in names.items()}
    for mine, other in UPWARDS:
        graph[f"sb3_ddpg_ext.{mine}"].discard(f"sb3_ddpg_ext.{other}")
    assert circles(graph) == []


def test_circles_are_found():
    """Of any length."""
    assert circles(dict(a={"b"}, b={"c"}, c={"a"}, d={"a"}, e=set())) == ["a", "b", "c"]


@pytest.mark.parametrize("path", [path for path in FILES if module_of(path) in CORE], ids=lambda path: path.stem)
def test_core_imports_no_optional_package(path):
    """The core needs Stable-Baselines3 and what that needs, also inside functions."""
    assert {name.split(".")[0] for name in imports_of(path, inside_functions=True)} <= CORE_MAY_IMPORT


def test_autoload_imports_the_standard_library_alone():
    """The file that ``import torch`` runs."""
    names = {name.split(".")[0] for name in imports_of(Path(_sb3_ddpg_ext_autoload.__file__), inside_functions=False)}
    assert names <= sys.stdlib_module_names


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_import_is_light():
    """Beside stable_baselines3, ``from sb3_ddpg_ext import DDPG`` loads our own modules and SB3's, nothing else."""
    code = (
        "import sys, stable_baselines3; before = set(sys.modules); from sb3_ddpg_ext import DDPG; "
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    assert set(run_python(code).split()) <= {"sb3_ddpg_ext", "stable_baselines3"} | sys.stdlib_module_names


def test_public_names():
    """Every public name can be had."""
    assert all(getattr(sb3_ddpg_ext, name) is not None for name in sb3_ddpg_ext.__all__)


def test_classes_are_not_deep():
    """DDPG stands on Stable-Baselines3 alone; a replay buffer has one class between, or two."""
    assert measures.own_depth(DDPG) == 1
    assert max(measures.own_depth(cls, ReplayBuffer) for cls in measures.BUFFERS) <= 3


def test_types_are_seldom_asked_for():
    """Variation is by objects that answer."""
    assert measures.per_thousand_lines() <= 10


def test_few_attributes():
    """Stable-Baselines3's own DDPG has 55."""
    assert measures.n_attributes() <= 62


def test_modules_are_short():
    """The two in which users read arguments and SB3's hooks are long by these; their code is bounded, too."""
    long = {path.relative_to(PACKAGE).as_posix() for path in FILES if measures.lines(path) > 300}
    assert long <= {"ddpg.py", "buffers/transitions.py"}
    assert measures.lines_of_code(PACKAGE / "buffers/transitions.py") <= 250
    assert measures.lines_of_code(PACKAGE / "ddpg.py") <= 530


def test_no_private_names_across_modules():
    """But by inheritance."""
    assert sorted(set(measures.private_names_across_modules())) == []


def test_the_measures_find_what_they_look_for():
    """A question for a type is one of three calls or comparisons."""
    code = "isinstance(a, B); issubclass(C, D); type(a) is B; type(a); a.isinstance(b)"
    assert sum(measures.asks_for_a_type(node) for node in ast.walk(ast.parse(code))) == 3


def test_update_fits_a_screen():
    """The learner that is to be read beside the paper stays short."""
    assert len((PACKAGE / "learners" / "eager.py").read_text().splitlines()) <= 70
