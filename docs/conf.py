"""Settings of the documentation; ``make docs`` builds it."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "uncollapse"
author = "The uncollapse authors"
copyright = "2026, the uncollapse authors; Apache-2.0"
version = release = version_of("uncollapse")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "component_pages",
    "api_pages",
    "mathml",
    "measured",
    "repository_pages",
]
exclude_patterns = ["_build", "extensions"]
nitpicky = True
# What other projects define is written in signatures but not linked: the build needs no network.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!uncollapse).*"),
    # Modules behind the public ones have no page.
    (r"py:.*", r"uncollapse\.[a-z_]+\.[a-z_]+(\..*)?"),
    (r"py:.*", r"uncollapse_[a-z]+\.(?!functional\.)[a-z_]+(\..*)?"),
]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True}
napoleon_use_rtype = False
add_module_names = False
toc_object_entries = False

html_theme = "furo"
html_math_renderer = "mathml"
html_title = "uncollapse"
html_static_path = ["static"]
html_css_files = ["uncollapse.css"]
html_copy_source = False
html_show_sphinx = False
