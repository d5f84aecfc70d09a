"""How Sphinx makes the site out of the pages in docs/ and the docstrings in fastconv/.

One command, from the project's root::

    python -m sphinx -c docs . build/site

The root is the source folder, so that a link between two pages is the same on a code host and on
the site, also from docs/ to the README beside the code it describes. Whatever Sphinx warns about
is an error: a link to nowhere, a page in no list, a docstring that is not numpydoc. The site asks
for nothing from elsewhere; it can be read from a disk.
"""

import os
import sys

sys.path.insert(0, os.path.abspath(".."))

project = "fastconv"
author = "the fastconv developers"
copyright = "the fastconv developers"

root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "CHANGELOG.md",
    "benchmarks/README.md",
    "fastconv/_core/ukernels/README.md",
]
html_extra_path = ["_static/index.html"]  # where a browser lands: it sends on to docs/index.html
smartquotes = False  # quotes in docstrings are often code
extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
]

# Pages
myst_heading_anchors = 3
myst_links_external_new_tab = False

# Docstrings
nitpicky = True
highlight_language = "none"  # what is indented is not Python
default_role = "autolink"  # `conv2d` is a link where the reference has it, and a word elsewhere
nitpick_ignore_regex = [("py:obj", ".*")]
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the lists of parameters say more, and in words
autosummary_generate = False
numpydoc_show_class_members = False

# Looks
html_theme = "furo"
html_title = "fastconv"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
highlight_options = {"python": {"stripnl": True}, "pycon": {"stripnl": True}}
pygments_style = "friendly"
pygments_dark_style = "github-dark"
