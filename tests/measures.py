"""
Figures of the code's shape, as ``tests/test_architecture.py`` bounds them.

python tests/measures.py
"""

import ast
from pathlib import Path

from stable_baselines3.common.buffers import ReplayBuffer

import sb3_ddpg_ext
from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.buffers import HindsightReplayBuffer, SequenceReplayBuffer, TransitionReplayBuffer

PACKAGE = Path(sb3_ddpg_ext.__file__).parent
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] != "hyperparams")
CORE = [path for path in FILES if path.relative_to(PACKAGE).parts[0] != "cli"]
# Private names of Stable-Baselines3, rl_zoo3, torch and Python that our classes have, too.
OF_OTHERS = {"_wrap_env", "_preprocess_action_noise", "_preprocess_hyperparams", "_parameters", "_make"}
BUFFERS = (TransitionReplayBuffer, HindsightReplayBuffer, SequenceReplayBuffer)


def own_depth(cls, top=None):
    """Classes of this package among those that a class is made of, and ``top``."""
    return sum(base is top or base.__module__.startswith("sb3_ddpg_ext") for base in cls.__mro__)


def asks_for_a_type(node):
    """Whether it is a call of isinstance or issubclass, or compares type(...) with something."""
    called = lambda part: part.func.id if isinstance(part, ast.Call) and isinstance(part.func, ast.Name) else ""  # noqa: E731
    if isinstance(node, ast.Compare):
        return any(called(part) == "type" for part in (node.left, *node.comparators))
    return called(node) in ("isinstance", "issubclass")


def type_questions(path):
    """How many of these a file has."""
    return sum(asks_for_a_type(node) for node in ast.walk(ast.parse(path.read_text())))


def lines(path):
    return len(path.read_text().splitlines())


def docstring_of(node):
    """The lines of the docstring of a module, class or function; none for anything else."""
    has_one = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None
    return range(node.body[0].lineno, node.body[0].end_lineno + 1) if has_one else range(0)


def lines_of_code(path):
    """Lines without docstrings, comments and empty ones."""
    text = path.read_text()
    documented = {line for node in ast.walk(ast.parse(text)) for line in docstring_of(node)}
    rest = (line.strip() for number, line in enumerate(text.splitlines(), 1) if number not in documented)
    return sum(bool(line) and not line.startswith("#") for line in rest)


def per_thousand_lines():
    """Questions for a type in 1,000 lines, without the command line."""
    return 1000 * sum(map(type_questions, CORE)) / sum(map(lines, CORE))


def n_attributes():
    """Of a new model."""
    return len(vars(DDPG("MlpPolicy", "Pendulum-v1", buffer_size=10, device="cpu")))


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name != "_"


def private_names_of(tree):
    """Private functions, classes, methods, attributes and variables that a file gives a name to."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.attr if isinstance(node, ast.Attribute) else node.id


def private_names_across_modules():
    """Private names of one file of the package that another one uses, other than by inheritance."""
    trees = {path: ast.parse(path.read_text()) for path in FILES}
    own = {path: {name for name in private_names_of(tree) if is_private(name)} for path, tree in trees.items()}
    everyones = set().union(*own.values()) - OF_OTHERS
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sb3_ddpg_ext"):
                yield from (f"{path.relative_to(PACKAGE)}: {each.name}" for each in node.names if is_private(each.name))
            elif (
                isinstance(node, ast.Attribute)
                and is_private(node.attr)
                and node.attr in everyones - own[path]
                and ast.unparse(node.value) not in ("self", "cls")
            ):
                yield f"{path.relative_to(PACKAGE)}: {ast.unparse(node)}"


def main():
    print(f"own classes of DDPG, from the first: {own_depth(DDPG)}")
    for cls in BUFFERS:
        print(f"classes of {cls.__name__}, with Stable-Baselines3's ReplayBuffer: {own_depth(cls, ReplayBuffer)}")
    print(f"questions for a type in 1,000 lines, without cli/: {per_thousand_lines():.1f}")
    print(f"attributes of a new model: {n_attributes()}")
    print("private names across modules:", *(sorted(set(private_names_across_modules())) or ["none"]), sep="\n  ")
    print(
        "modules of more than 300 lines (of these, code):",
        *[f"{path.relative_to(PACKAGE)} {lines(path)} ({lines_of_code(path)})" for path in FILES if lines(path) > 300],
    )


if __name__ == "__main__":
    main()
