"""The site builds without a warning, no link or picture of it is missing, and every piece of code on it runs as printed."""

import argparse
import ast
import importlib.util
import inspect
import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import gymnasium as gym
import matplotlib
import pytest
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from sb3_ddpg_ext import DDPG
from sb3_ddpg_ext.__main__ import main
from sb3_ddpg_ext.cli.presets import as_markdown
from sb3_ddpg_ext.distributed import RayCollector
from sb3_ddpg_ext.presets import load_preset, preset_names

pytest.importorskip("rl_zoo3")
matplotlib.use("Agg")
ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`\n]+)`")
ARGUMENTS = inspect.signature(DDPG).parameters
STEPS = 150  # of a training, at most
PLACEHOLDERS = re.compile(r"\b[A-Z]{3,}\b|\.\.\.")
ELSEWHERE = {
    "trusted": "DDPG.load",
    "terminated": "step()",
    "truncated": "step()",
    "norm_reward": "VecNormalize",
    "max_episode_steps": "register()",
    "env": "an assignment",
} | dict.fromkeys(inspect.signature(RayCollector).parameters, "collector=dict(kind='ray', ...)")
NOT_HERE = {  # arguments that need what is not on every machine
    "storage_device": "a GPU", "cuda_graph": "a GPU", "pin_memory": "a GPU", "bf16": "a warning without AMX",
    "cuda": "a GPU", "HindsightReplayBuffer": "goals",
}  # fmt: skip
parametrize_pages = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)


def blocks(path, language):
    return [match["code"] for match in BLOCK.finditer(path.read_text()) if match["language"] == language]


def commands(path):
    """The lines for a shell, those that are continued joined."""
    text = "\n".join(blocks(path, "shell")).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def spans(path):
    """Code between backticks, outside blocks."""
    return SPAN.findall(BLOCK.sub("", path.read_text()))


def keywords_of(text):
    """The names and the values of what stands between the brackets of a call; None if it is no such thing."""
    try:
        call = ast.parse(f"f({text})", mode="eval").body
    except SyntaxError:
        return None
    return {word.arg for word in call.keywords} if not call.args and call.keywords else None


def shorten(monkeypatch):
    """Every training is a short one."""
    setup = OffPolicyAlgorithm._setup_learn
    parameters = list(inspect.signature(setup).parameters)
    assert parameters[:2] == ["self", "total_timesteps"]
    monkeypatch.setattr(
        OffPolicyAlgorithm,
        "_setup_learn",
        lambda self, steps, *args, **kwargs: setup(self, min(steps, STEPS), *args, **kwargs),
    )


@parametrize_pages
@pytest.mark.slow
def test_python_on_the_page_runs(path, tmp_path, monkeypatch):
    """The blocks of a page one after another, in one namespace, with short trainings."""
    monkeypatch.chdir(tmp_path)
    shorten(monkeypatch)
    namespace = {"__name__": "__page__"}
    for code in blocks(path, "python"):
        exec(compile(code, path.name, "exec"), namespace)


def test_there_is_python():
    """The blocks are found."""
    assert sum(len(blocks(path, "python")) for path in PAGES) >= 25


@pytest.mark.parametrize("name", preset_names())
def test_python_of_the_presets(name):
    """What the generated page has for each: the preset knows the environment."""
    codes = [code for code in BLOCK.findall(as_markdown()) if code[0] == "python" and f'("{name}"' in code[1]]
    ((_, code),) = codes
    env = ast.parse(code).body[-1].value.args[1].value
    assert load_preset(name).hyperparams(env)


@parametrize_pages
def test_arguments_on_the_page_are_taken(path, tmp_path, monkeypatch):
    """Code between backticks that looks like arguments is one of DDPG, said in whole, and a model can be made with it."""
    monkeypatch.chdir(tmp_path)
    for text in spans(path):
        names = keywords_of(text)
        if names is None or names <= set(ELSEWHERE) or all(name.isupper() for name in names):  # variables of a shell
            continue
        assert names <= set(ARGUMENTS), f"`{text}`: not an argument of DDPG; does it go in policy_kwargs?"
        if not any(word in text for word in NOT_HERE):
            arguments = dict(buffer_size=1000) | eval(f"dict({text})")
            DDPG("MlpPolicy", "Pendulum-v1", **arguments)


def test_arguments_are_found():
    """The test above has something to look at."""
    assert sum(keywords_of(text) is not None for path in PAGES for text in spans(path)) >= 60
    assert keywords_of("critic_loss='huber'") == {"critic_loss"}
    assert keywords_of("model.save('model')") is None
    assert "critic_loss" not in ARGUMENTS


@parametrize_pages
def test_our_commands_are_known(path, monkeypatch):
    """Each ``python -m sb3_ddpg_ext`` has a command and arguments that it takes."""
    parse = argparse.ArgumentParser.parse_args

    def parse_only(parser, *args, **kwargs):
        namespace = parse(parser, *args, **kwargs)
        namespace.run = lambda _: None
        return namespace

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
    lines = [*commands(path), *(text for text in spans(path) if text.startswith("python -m sb3_ddpg_ext "))]
    for line in lines:
        words = shlex.split(line)
        if words[:3] == ["python", "-m", "sb3_ddpg_ext"]:
            monkeypatch.setattr(sys, "argv", words[2:])
            try:
                main()
            except SystemExit as error:  # by argparse, which has printed why
                pytest.fail(f"`{line}` is refused: {error}")


@parametrize_pages
def test_other_commands_name_what_there_is(path):
    """Targets of make, files that are run, extras."""
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    extras = set(
        re.findall(r"^(\w+) =$", (ROOT / "setup.cfg").read_text().partition("[options.extras_require]")[2], re.MULTILINE)
    )
    for line in commands(path):
        words = shlex.split(line)
        if words[0] == "make":
            assert words[1] in targets, line
        if words[0] == "python" and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), line
    for extra in re.findall(r"(?:sb3_ddpg_ext|\.)\[([\w,]+)\]", path.read_text()):
        assert set(extra.split(",")) <= extras, extra


def known(words):
    """Whether the environment of a command is installed here."""
    import rl_zoo3.import_envs  # noqa: F401

    return words[words.index("--env") + 1] in gym.registry


def shortened(words):
    """A command of rl_zoo3 as printed, for a short run."""
    if words[1:2] == ["train"] or words[2:4] == ["sb3_ddpg_ext.zoo", "train"]:
        short = ["-n", "250", "--eval-freq", "-1"]  # more than an episode of 200 steps
        return (
            words
            + (["--n-trials", "1", "--n-startup-trials", "1", "--n-evaluations", "1"] if "-optimize" in words else [])
            + short
        )
    if words[1:2] == ["enjoy"]:
        return [*words, "--no-render", "-n", "50"]
    if "rl_zoo3.record_video" in words:
        return [*words, "-n", "50"]
    return [*words, "-n", "2"] if "report" in words else words


@parametrize_pages
@pytest.mark.slow
def test_rl_zoo3_commands_run(path, tmp_path):
    """Those of a page one after another, as printed but for their length, unless they stand on the page of rl_zoo3 as well."""
    elsewhere = [] if path.stem == "rl_zoo3" else commands(ROOT / "docs" / "rl_zoo3.md")
    for line in commands(path):
        words = shlex.split(line)
        is_zoo = "rl_zoo3" in line or "sb3_ddpg_ext.zoo" in words or "report" in words
        if line in elsewhere or not is_zoo or PLACEHOLDERS.search(line) or ("--env" in words and not known(words)):
            continue
        program = [str(Path(sys.executable).with_name("rl_zoo3"))] if words[0] == "rl_zoo3" else [sys.executable]
        result = subprocess.run(
            [*program, *shortened(words)[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=300,
            env=environment(),
        )  # fmt: skip
        assert result.returncode == 0, f"{line}\n{result.stdout[-2000:]}{result.stderr[-3000:]}"


def environment():
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path, "MPLBACKEND": "Agg", "SDL_VIDEODRIVER": "dummy"}


def test_readme_is_short():
    """What a newcomer reads first."""
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 130
    assert len(text.split()) <= 1000


def test_links_of_the_readme():
    """Lead to files that are there."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


class Page(HTMLParser):
    """What a page of the site leads to, and where it can be led to."""

    def __init__(self, text):
        super().__init__()
        self.targets, self.anchors, self.texts, self.n_tables, self._in_code = [], set(), [], 0, 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self._in_code += tag in ("code", "pre", "script", "style")
        self.n_tables += tag == "table"
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag == "img":
            assert values.get("alt", "").strip() or "sidebar-logo" in values.get("class", ""), values
        self.targets += [values[name] for name in ("href", "src") if values.get(name)]

    def handle_endtag(self, tag):
        self._in_code -= tag in ("code", "pre", "script", "style")

    def handle_data(self, data):
        if not self._in_code:
            self.texts.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the built pages."""
    for name in ("sphinx", "myst_parser", "furo"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install 'sb3_ddpg_ext[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        "-d",
        folder / "trees",
        "docs",
        folder / "html",
    ]
    result = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, env=environment(), timeout=500)
    assert result.returncode == 0, result.stderr
    return folder / "html"


@pytest.mark.slow
def test_links_of_the_site(site):
    """Every link and picture inside the site is there, down to the heading; no table was left as text."""
    pages = {path: Page(path.read_text()) for path in site.rglob("*.html")}
    broken, n_links = [], 0
    for path, page in pages.items():
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            found = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            n_links += 1
            if not found.exists() or (
                parts.fragment and found in pages and unquote(parts.fragment) not in pages[found].anchors
            ):
                broken.append(f"{path.relative_to(site)}: {target}")
        broken += [
            f"{path.relative_to(site)}: {text}" for text in page.texts if "|--" in text or "](" in text or "| --" in text
        ]
    assert broken == []
    assert n_links > 500
    assert pages[site / "networks.html"].n_tables >= 6


@pytest.mark.slow
def test_the_site_needs_no_network(site):
    """Scripts, styles, fonts and pictures of a page lie beside it, and its formulas need none of them."""
    fetched = re.compile(r"""<(?:script|img|source|iframe)[^>]*\bsrc=["']https?:|<link[^>]*"stylesheet"[^>]*href="https?:""")
    pages = {path: path.read_text() for path in site.rglob("*.html")}
    assert [str(path) for path, text in pages.items() if fetched.search(text)] == []
    styles = [path.read_text() for path in site.rglob("*.css")]
    assert styles
    assert not any(re.search(r"@import[^;]*https?:|url\(['\"]?https?:", style) for style in styles)
    algorithm = pages[site / "algorithm.html"]
    assert algorithm.count("<math") > 10
    assert "\\(" not in algorithm
    assert "\\frac" not in algorithm


@pytest.mark.slow
def test_api_reference_has_every_public_name(site):
    """Each of ``sb3_ddpg_ext.__all__``, and the presets have their files."""
    import sb3_ddpg_ext

    text = "".join(path.read_text() for path in (site / "api").glob("*.html"))
    for name in set(sb3_ddpg_ext.__all__) - {"__version__", "MlpPolicy"}:  # MlpPolicy is DDPGPolicy
        assert re.search(rf'id="sb3_ddpg_ext(\.\w+)*\.{name}"', text), name
    page = Page((site / "presets.html").read_text())
    assert {name.replace("_", "-") for name in preset_names()} <= page.anchors
