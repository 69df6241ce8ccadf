"""How Sphinx builds the documentation: `sphinx-build docs build/docs`, without a network."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for the extensions that lie here

project = "mullama_lab"
copyright = "the authors of mullama_lab, Apache-2.0"
release = metadata.version("mullama-lab")
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "docstring_examples",
    "saved_notebooks",
    "widget_keys",
]

# `name` in a docstring is code, and a link where there is something of that name.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_type_aliases = {
    name: name
    for name in ("Prompt", "Chains", "ChainOrSchedule", "Seeds", "Stop", "Messages", "Fork", "Undo")
}
maximum_signature_line_length = 88
python_use_unqualified_type_names = True
# Names that share one explanation ("prompt, seed: ...") stay together.
napoleon_use_param = False
napoleon_custom_sections = [("Attributes", "params_style")]

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # as they were saved
nb_ipywidgets_js = {}  # would come from another server
suppress_warnings = ["mystnb.unknown_mime_type"]  # the live forms; the pictures are HTML
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]

copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_title = "mullama_lab"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_context = {"default_mode": "auto"}  # light or dark, as the system says
html_theme_options = {
    "navbar_align": "left",
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"index": [], "keys": [], "building": []}
