"""How the site is built: `make site`. Pages are Markdown; the Python reference comes from docstrings."""

from importlib.metadata import version as installed

project = "pam-edge"
author = "The pam-edge authors"
copyright = "2026, the pam-edge authors"
release = version = installed("pam-edge")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

myst_heading_anchors = 3  # links such as performance.md#the-gate
myst_enable_extensions = ["colon_fence"]

default_role = "literal"  # docstrings write `name` as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures hold names; types, shapes and units are in the text
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False  # "Returns: a `Model`: ..." is one sentence, not a type and a description

html_theme = "furo"
html_title = f"pam-edge {release}"
html_copy_source = False
html_show_sourcelink = False
