"""The layers of the package: what may import what, and how large a file may grow.

Arrays at the bottom, scikit-learn's shells at the top. A module imports from layers below its own.
Within a layer, families do not know each other, nor do estimators: they meet in what is shared.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import skbae

PACKAGE = Path(skbae.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

LAYERS = [
    ["skbae._types", "skbae._version"],
    ["skbae.operators"],
    ["skbae.energies"],
    ["skbae.inference"],
    ["skbae.estimators"],
    ["skbae.model_selection", "skbae.thermodynamics"],
    ["skbae.plotting"],
    ["skbae"],
]

# What the members of a layer that must not know each other may share; elsewhere: anything.
SHARED = {
    "skbae.energies": {
        "_base",
        "_capabilities",
        "_components",
        "_bayesian_mixture",
        "_precision_prior",
        "_conjugate",
        "_covariance",
        "_decoder",
        "_distributions",
        "_gaussian",
        "_gaussian_coordinates",
        "_gradient_mixture",
        "_loadings",
        "_mixture",
        "_mlp",
    },
    "skbae.estimators": {
        "_base",
        "_checks",
        "_mixture_base",
        "_progress",
        "_sampled",
        "_stacklevel",
    },
}

# A family may spread over several files, all named after it: _gmm, _gmm_fit.
FAMILIES = ("_gmm", "_pca", "_mixture_pca", "_rbm", "_vae")

# Families that are made of another family.
BUILT_ON = {"_mixture_pca": "_pca"}

# Inference works for any family, so of the energies it may see the abstract classes only.
ABSTRACT_ENERGIES = {"skbae.energies._base", "skbae.energies._capabilities"}

# Lines of code: docstrings, comments and blank lines are welcome and not counted.
MAX_CODE_LINES = 400


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(source: str) -> set[str]:
    """Return whatever the source imports, inside functions and for type checking included."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            found |= {_imported(origin, alias.name) for alias in node.names}
    return found


def _imported(origin: str, name: str) -> str:
    """Return the module meant by ``from origin import name``, which may be `name` itself."""
    within = f"{origin}.{name}"
    members = [member for layer in LAYERS for member in layer]
    is_package = (PACKAGE.parent / origin.replace(".", "/") / "__init__.py").exists()
    if origin == "skbae":
        return within if within in members else origin
    if origin.startswith("skbae"):
        return within if is_package else origin
    return within


def layer_of(module: str) -> tuple[int, str]:
    """Return the number of the layer a module is in, and which of its members it belongs to."""
    for number, layer in enumerate(LAYERS):
        for member in layer:
            if module == member or (member != "skbae" and module.startswith(member + ".")):
                return number, member
    raise AssertionError(f"{module} is in no layer: give it one in LAYERS")


def family_of(name: str) -> str | None:
    """Return the family that a file is named after."""
    return next((each for each in FAMILIES if f"{name}_".startswith(f"{each}_")), None)


def violations(module: str, source: str) -> list[str]:
    """Return what is wrong with a module's imports."""
    complaints = []
    for target in sorted(imported_modules(source)):
        package, *inner = target.split(".")
        if target.startswith("."):
            complaints.append(f"{module} imports {target}: write absolute imports")
        elif package == "sklearn" and any(part.startswith("_") for part in inner):
            complaints.append(f"{module} imports the private {target}")
        elif package == "skbae":
            complaints += _misplaced(module, target)
    return complaints


def _misplaced(module: str, target: str) -> list[str]:
    (layer, home), (target_layer, target_home) = layer_of(module), layer_of(target)
    if target_layer > layer:
        return [f"{module} imports {target}, from a layer above"]
    if home == "skbae.inference" and target_home == "skbae.energies":
        return [] if target in ABSTRACT_ENERGIES else [f"{module} names a family, in {target}"]
    if target_layer < layer:
        return []
    shared = SHARED.get(home)
    name = target.rpartition(".")[2]
    here, there = family_of(module.rpartition(".")[2]), family_of(name)
    own = there is not None and there in (here, BUILT_ON.get(here))
    if target_home == home and (shared is None or own or name in shared):
        return []
    return [f"{module} imports {target}, its neighbour"]


def code_lines(source: str) -> int:
    """Count the lines that are neither blank, nor a comment, nor part of a docstring."""
    documented = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            documented |= set(range(node.lineno, node.end_lineno + 1))
    return sum(
        bool(line.strip()) and not line.lstrip().startswith("#") and number not in documented
        for number, line in enumerate(source.splitlines(), start=1)
    )


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_imports_only_from_below(path):
    assert violations(module_name(path), path.read_text("utf-8")) == []


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_files_stay_small_and_are_named_for_what_they_do(path):
    assert code_lines(path.read_text("utf-8")) <= MAX_CODE_LINES
    assert path.stem.strip("_") not in {"utils", "util", "helpers", "common", "misc"}


@pytest.mark.parametrize(
    ("module", "line", "complaint"),
    [
        ("skbae.operators._tempered", "from skbae.energies._base import Energy", "layer above"),
        ("skbae.energies._gmm", "import skbae.inference._em", "layer above"),
        ("skbae.energies._gmm", "from skbae import BayesianGMMAutoEncoder", "layer above"),
        ("skbae.energies._gmm", "from skbae.energies import _pca", "neighbour"),
        ("skbae.energies._gmm", "from skbae.energies._pca import PCAEnergy", "neighbour"),
        ("skbae.energies._pca", "from skbae.energies._mixture_pca import PCAFamily", "neighbour"),
        ("skbae.inference._em", "from skbae.energies._gmm import gaussian_mixture", "a family"),
        ("skbae.inference._em", "from skbae.energies import _mixture", "a family"),
        ("skbae.inference._em", "def f():\n    from skbae.estimators import _gmm", "layer above"),
        ("skbae.estimators._pca", "from skbae.estimators._gmm import tables", "neighbour"),
        ("skbae.thermodynamics", "import skbae.plotting", "layer above"),
        ("skbae.thermodynamics", "import skbae.model_selection", "neighbour"),
        ("skbae.estimators._gmm", "from . import _base", "absolute"),
        ("skbae.estimators._gmm", "from sklearn.utils._param_validation import x", "private"),
        ("skbae.estimators._gmm", "import sklearn.mixture._base", "private"),
        ("skbae.estimators._gmm", "from sklearn.base import _fit_context", "private"),
    ],
)
def test_a_bad_import_is_caught(module, line, complaint):
    assert any(complaint in found for found in violations(module, line))


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("skbae.energies._gmm", "from skbae.energies._base import Energy"),
        ("skbae.energies._gmm", "from skbae.operators._linalg import triangular_inverse"),
        ("skbae.inference._em", "from skbae.energies._base import require"),
        ("skbae.inference._bridge", "from skbae.inference._gibbs import sweep"),
        ("skbae.estimators._gmm", "import skbae.inference._em\nimport numpy as np"),
        ("skbae.plotting", "from skbae.estimators._gmm import BayesianGMMAutoEncoder"),
        ("skbae", "from skbae.estimators._gmm import BayesianGMMAutoEncoder"),
    ],
)
def test_a_good_import_is_not(module, line):
    assert violations(module, line) == []


def test_only_lines_of_code_are_counted():
    source = (
        '"""Module.\n\nMore.\n"""\n\n# why\nx = 1\n\n\ndef f():\n    """Return."""\n    return x\n'
    )
    assert code_lines(source) == 3
