"""How the site is built: ``pip install ".[docs]" && sphinx-build -W -b html docs build``.

Nothing is downloaded: formulas are MathML, fonts and scripts come with the theme, and links to
other projects are plain links.
"""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path

# One thread of BLAS and of OpenMP, before NumPy is loaded: pictures do not depend on the machine.
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ["MPLBACKEND"] = "Agg"

here = Path(__file__).parent
root = here.parent
sys.path[:0] = [str(root), str(here / "_ext")]  # the checkout, whatever is installed

import skbae._version  # noqa: E402

pyproject = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]

# -- the two addresses, each given in one place ---------------------------------------------------

# Where the site will be found, as skbae/_version.py says: while that is empty, pages' heads have no
# links to it, and estimators in the gallery link to the pages beside them.
html_baseurl = skbae._version.DOCUMENTATION
skbae._version.DOCUMENTATION = html_baseurl or ".."
# Where the sources are: pages have a link to edit them if pyproject.toml gives a Repository among
# the project's URLs, or the environment does; the address is then REPOSITORY/edit/main/FILE.
repository = os.environ.get("SKBAE_REPOSITORY", pyproject.get("urls", {}).get("Repository", ""))

# -- project --------------------------------------------------------------------------------------

project = "skbae"
author = "skbae developers"
copyright = "skbae developers"
version = release = skbae.__version__
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_copybutton",
    "mathml",
    "live_pictures",
    "api_members",
    "code_links",
    "page_companions",
    "links_of_pages",
]
exclude_patterns = ["_ext", "_templates", "_build", "auto_examples/*.ipynb", "auto_examples/*.py"]
templates_path = ["_templates"]
nitpicky = True
# Names of other packages are no links: their lists of names would have to be downloaded.
nitpick_ignore_regex = [(r"py:.*", r"(sklearn|numpy|scipy|matplotlib|pandas|arviz|dask)\..*")]

# -- Markdown pages, whose examples pytest runs ---------------------------------------------------

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["toc.empty_glob", "config.cache"]  # patterns may have no page yet

# -- reference of the API -------------------------------------------------------------------------

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections say what parameters are
numpydoc_show_class_members = False  # the template of classes lists them
numpydoc_xref_param_type = False
autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"
default_role = "literal"

# -- gallery: only examples/gallery; the scripts beside it are run by hand ------------------------

gallery = root / "examples" / "gallery"
if any(gallery.glob("plot_*.py")):
    extensions.append("sphinx_gallery.gen_gallery")
    sphinx_gallery_conf = {
        "examples_dirs": [str(gallery)],
        "gallery_dirs": ["auto_examples"],
        "filename_pattern": r"plot_",
        "within_subsection_order": "FileNameSortKey",
        "abort_on_example_error": True,
        "doc_module": ("skbae",),
        "backreferences_dir": "api/backreferences",  # the API shows which examples use a class
        "log_level": {"backreference_missing": "debug"},
        "download_all_examples": False,
        "write_computation_times": False,
        "remove_config_comments": True,
        "show_signature": False,
    }
    autosummary_context = {"has_gallery": True}

# -- pages ----------------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "skbae"
html_static_path = ["_static"]
html_css_files = ["skbae.css"]
html_show_sourcelink = False  # pages have links to their Markdown instead
html_copy_source = False
html_math_renderer = "mathml"
html_theme_options = {
    "logo": {"text": "skbae"},
    "navbar_align": "left",
    "header_links_before_dropdown": 8,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": {
        "**": ["page-toc", "page-companions"],
        "index": [],
    },
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_center": [],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_context = {"repository": repository, "default_mode": "auto"}
html_sidebars = {"index": [], "changelog": [], "cite": [], "tutorial": []}  # none on the left
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
