"""The site that `nox -s docs` builds from this folder. Nothing on it comes from the net."""

import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent / "site"))

project = "keras-patterns"
author = "The authors of keras-patterns"
LOGO = "site/static/logo.svg"
copyright = author
try:
    release = metadata.version(project)
except metadata.PackageNotFoundError:
    release = "of a checkout"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "docstrings",
    "pages",
    "public_names",
    "rooms_of_the_api",
]
nitpicky = True

# Pages that begin with `file_format: mystnb` are run in a folder of their own, on the backend that
# `KERAS_BACKEND` names. An error in one ends the build.
nb_execution_mode = "auto"
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_merge_streams = True
exclude_patterns = ["site"]

# Pages say `<!-- site` where the code host shows nothing: see pages.py.
myst_enable_extensions = ["colon_fence", "html_image"]
myst_heading_anchors = 4

# Docstrings write code in single quotes of this kind: `kp.fit`.
default_role = "literal"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 88
python_display_short_literal_types = True
# Stubs are not needed: a page holds a whole room.
autosummary_generate = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
toc_object_entries_show_parents = "hide"
# Types in signatures that have no page here: those of Python, NumPy and Keras, and inner ones.
nitpick_ignore_regex = [
    (r"py:.*", r"(keras|numpy|pandas|optuna|collections|pathlib|os|abc)\..*"),
    (r"py:.*", r"keras_patterns\.\w+\..*"),
    # Names of types that a signature writes as they stand in the source.
    (
        r"py:class",
        r"Axes|Frozen|InitialValues|Path|Plot|Requests|SearchArguments|Setting|Thawed|Where",
    ),
    (r"py:exc", r"SchemaError"),
    # Pieces of such types.
    (r"py:class", r"'\w+'|low|dict\[str|tuple\[str"),
]

html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["site/static"]
html_css_files = ["site.css"]
html_favicon = LOGO
html_show_sourcelink = False
html_copy_source = False
html_use_index = False
html_sidebars = {"index": [], "which-tool": []}
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {"text": project, "image_light": LOGO, "image_dark": LOGO},
    "github_url": f"https://github.com/{project}/{project}",
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "show_toc_level": 2,
    "show_nav_level": 1,
    "navigation_with_keys": False,
    "secondary_sidebar_items": {"**": ["page-toc"], "index": [], "which-tool": []},
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def setup(app: "Sphinx") -> None:
    # The theme copies a template of its own among the static files: a page whose links are broken.
    template = Path(app.outdir, "_static", "webpack-macros.html")
    app.connect("build-finished", lambda *_: template.unlink(missing_ok=True))
