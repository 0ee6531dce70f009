"""The site: `make docs` builds it into build/site, from these pages and the docstrings, without any network."""

import re
import shutil
from pathlib import Path

import latex2mathml.converter
from docutils import nodes

project = "Radiffuse"
author = "The Radiffuse authors"
html_title = "Radiffuse"
html_show_copyright = False
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
source_suffix = {".md": "myst-nb"}
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_output_stderr = "remove"
nb_render_markdown_format = "myst"
root_doc = "index"
html_theme = "furo"
html_extra_path = ["catalogue.html"]
html_math_renderer = "mathml"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_use_ivar = True


def written(self, node):
    """A formula as MathML, which browsers draw by themselves."""
    block = isinstance(node, nodes.math_block)
    made = latex2mathml.converter.convert(node.astext(), display="block" if block else "inline")
    self.body.append(f"<p>{made}</p>" if block else made)
    raise nodes.SkipNode


def marked_up(app, what, name, obj, options, lines):
    """Docstrings are plain text: shapes such as (B, *S) are no emphasis, and $x$ is a formula."""
    lines[:] = [re.sub(r"\$([^$]+)\$", r":math:`\1`", line.replace("*", r"\*")) for line in lines]


def with_pictures(app, failure):
    """catalogue.html, which is copied as it is, shows them from there."""
    if failure is None:
        shutil.copytree(
            Path(app.srcdir) / "pictures", Path(app.outdir) / "pictures", dirs_exist_ok=True
        )


def setup(app):
    app.connect("build-finished", with_pictures)
    app.connect("autodoc-process-docstring", marked_up, priority=900)
    app.add_html_math_renderer("mathml", (written, None), (written, None))
