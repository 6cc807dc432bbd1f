"""``presets``: the systems that can be had by name, and where each comes from."""

import argparse
import shutil
import sys
import textwrap
from typing import Any

from sb3_ddpg_ext.presets import DEFAULT, Preset, load_preset, preset_names


def add_parser(commands: Any) -> None:
    """Add ``presets`` and its arguments."""
    parser = commands.add_parser("presets", help="systems of papers and tutorials by name")
    parser.add_argument("name", nargs="?", metavar="NAME", help="what it claims, where it deviates, for which tasks")
    parser.add_argument("--path", action="store_true", help="only print where its file is")
    parser.add_argument("--markdown", action="store_true", help="all of them with their files, as the site shows them")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Print the list, one preset, or all."""
    if args.markdown:
        if args.name is not None or args.path:
            sys.exit("--markdown shows all presets, without NAME and --path")
        print(as_markdown())
        return
    if args.name is None:
        if args.path:
            sys.exit("--path needs the NAME of a preset")
        print(listing())
        return
    try:
        preset = load_preset(args.name)
    except ValueError as error:
        sys.exit(str(error))
    print(preset.path if args.path else describe(preset))


def listing() -> str:
    names = preset_names()
    width = max(map(len, names))
    return "\n".join(f"{name:{width}}  {load_preset(name).about['summary']}" for name in names)


def as_markdown() -> str:
    """A table of all presets, and a section for each: claims, rules, deviations, tasks, commands and the file itself."""
    presets = [load_preset(name) for name in preset_names()]
    rows = [f"| [`{preset.name}`](#{anchor(preset)}) | {preset.about['summary']} |" for preset in presets]
    return "\n".join(["| preset | what it is |", "|---|---|", *rows, "", *map(section, presets)])


def anchor(preset: Preset) -> str:
    return preset.name.replace("_", "-")


def section(preset: Preset) -> str:
    """One preset in Markdown."""
    about, env = preset.about, preset.environments[0]
    rest = ["any other"] if DEFAULT in preset.blocks else []
    deviations, rules = ([f"- {text}" for text in about.get(key, [])] for key in ("deviations", "rules"))
    tasks = [f"`{name}`" for name in preset.environments] + rest
    lines = [
        f"({anchor(preset)})=", f"## `{preset.name}`", "",
        f"Source: {about['source']}.", "", f"Claims: {about['claims']}.", "",
        *(["How it fits tasks that it does not know:", "", *rules, ""] if rules else []),
        *(["What is not as in the source, and why:", "", *deviations, ""] if deviations else []),
        f"Tasks with values of their own: {', '.join(tasks)}.", "",
        "```shell", f"rl_zoo3 train --algo {preset.algo} --env {env} -conf {preset.name}", "```", "",
        "```python", "from sb3_ddpg_ext import DDPG", "", f'model = DDPG.from_preset("{preset.name}", "{env}")', "```", "",
        "<details><summary>its file</summary>", "", "```yaml", preset.path.read_text().rstrip(), "```", "", "</details>", "",
    ]  # fmt: skip
    return "\n".join(lines)


def describe(preset: Preset) -> str:
    """Source, claims, rules, deviations, and a command for a task of its own."""
    about = preset.about
    lines = [preset.name, "", *paragraph("Source", about["source"]), *paragraph("Claims", about["claims"]), ""]
    for key, title in (
        ("rules", "How it fits tasks that it does not know"),
        ("deviations", "What is not as in the source, and why"),
    ):
        if about.get(key):
            lines += [title, *(line for text in about[key] for line in paragraph("-", text, between=" ")), ""]
    rest = ["any other (default)"] if DEFAULT in preset.blocks else []
    lines += paragraph("Tasks", ", ".join([*preset.environments, *rest]))
    env = preset.environments[0]
    lines += ["", f"rl_zoo3 train --algo {preset.algo} --env {env} -conf {preset.name}"]
    lines += [f'DDPG.from_preset("{preset.name}", "{env}").learn()']
    return "\n".join(lines)


def paragraph(name: str, text: str, between: str = ": ") -> list[str]:
    """Lines that fit the terminal."""
    return textwrap.wrap(
        f"{name}{between}{text}",
        min(shutil.get_terminal_size().columns, 120),
        subsequent_indent="  ",
        break_on_hyphens=False,
        break_long_words=False,
    )
