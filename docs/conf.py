"""How Sphinx makes the site: ``make docs`` writes it to ``docs/_build/html``."""

import re
from pathlib import Path

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

import sb3_ddpg_ext
from sb3_ddpg_ext.cli.presets import as_markdown

project = "sb3_ddpg_ext"
version = release = sb3_ddpg_ext.__version__
copyright = "the authors of sb3_ddpg_ext, MIT licence"  # a name of Sphinx
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"sb3_ddpg_ext {version}"
html_show_sourcelink = False
html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # what an argument is stands in the text; the signature has its default
autodoc_class_signature = "mixed"
maximum_signature_line_length = 100

LINK = re.compile(r"\]\((?!https?:|#)([^)]+)\)")


def links_from_docs(app, relative_path, parent_docname, content):
    """A page in docs/ that includes a part of results/README.md: its links lead from there."""
    if Path(relative_path).as_posix() == "../results/README.md":
        content[0] = LINK.sub(lambda match: f"]({seen_from_docs(match[1])})", content[0])


def seen_from_docs(target):
    """:param target: of a link in results/README.md"""
    if target.startswith("../docs/"):
        return target.removeprefix("../docs/")
    return target.removeprefix("../") if target.startswith("../") else f"../results/{target}"


def presets_from_their_files(app, docname, source):
    """The page of the presets is generated."""
    if docname == "presets":
        source[0] = source[0].replace("<!-- the presets -->", as_markdown())


def inline_math(translator, node):
    """A formula as MathML, which browsers draw themselves: no script is fetched from elsewhere."""
    translator.body.append(convert(node.astext()))
    raise SkipNode


def displayed_math(translator, node):
    translator.body.append(convert(node.astext(), display="block"))
    raise SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", inline_renderers=(inline_math, None), block_renderers=(displayed_math, None))
    app.connect("include-read", links_from_docs)
    app.connect("source-read", presets_from_their_files)
