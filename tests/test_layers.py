"""The layers of the package: what may import what.

Arrays at the bottom, scikit-learn's shells at the top. A module imports from layers below its own.
Within a layer, a family's folder knows only the bases, ``mixture/`` and its declared parents.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import skbae

PACKAGE = Path(skbae.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

LAYERS = [
    ["skbae._report"],
    ["skbae._trusted", "skbae._types", "skbae._version"],
    ["skbae.operators"],
    ["skbae.energies"],
    ["skbae.inference"],
    ["skbae.estimators"],
    [
        "skbae.components",
        "skbae.functionals",
        "skbae.model_selection",
        "skbae.testing",
        "skbae.thermodynamics",
    ],
    ["skbae.plotting"],
    ["skbae"],
]

# A family's folder knows the bases beside it, these folders, and the families it is made of.
OPEN_FOLDERS = {"skbae.energies.mixture"}
# The public face of a layer, which names what is in these folders.
FACES = {"skbae.energies"}
PARENTS = {
    "skbae.energies.components": {"skbae.energies.gaussian"},
    "skbae.energies.mixture_pca": {"skbae.energies.pca"},
    "skbae.estimators.conditional": {"skbae.estimators.gmm"},
    "skbae.estimators.mixture": {"skbae.estimators.gmm"},
    "skbae.estimators.mixture_pca": {"skbae.estimators.pca"},
}

# Inference works for any family, so of the energies it may see the abstract classes only.
ABSTRACT_ENERGIES = {
    "skbae.energies._allocations",
    "skbae.energies._base",
    "skbae.energies._capabilities",
}


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


def family_folder(module: str) -> str | None:
    """Return the family's folder that a module lies in: a package within energies or estimators."""
    parts = module.split(".")
    if len(parts) < 3 or parts[1] not in ("energies", "estimators"):
        return None
    folder = ".".join(parts[:3])
    return folder if (PACKAGE.parent / folder.replace(".", "/")).is_dir() else None


def ancestors(folder: str) -> set[str]:
    """Return a family's folder, its declared parents, theirs, and the folders open to all."""
    found, waiting = set(OPEN_FOLDERS), [folder]
    while waiting:
        each = waiting.pop()
        found.add(each)
        waiting += PARENTS.get(each, set()) - found
    return found


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
    there = family_folder(target)
    if target_layer < layer:
        return []
    if target_home != home:
        return [f"{module} imports {target}, its neighbour"]
    here = family_folder(module)
    if there is None or there == here:
        return []
    if here is None and module in FACES and there in OPEN_FOLDERS:
        return []
    if here is None:
        return [f"{module} is shared by families and imports one of them, {target}"]
    if there in ancestors(here):
        return []
    return [f"{module} imports {target}, its neighbour"]


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules of a circle of imports, or an empty list."""
    done: set[str] = set()

    def follow(module: str, path: list[str]) -> list[str]:
        if module in path:
            return path[path.index(module) :]
        if module in done:
            return []
        for target in sorted(graph.get(module, ())):
            found = follow(target, [*path, module])
            if found:
                return found
        done.add(module)
        return []

    return next((found for module in sorted(graph) if (found := follow(module, []))), [])


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_imports_only_from_below(path):
    assert violations(module_name(path), path.read_text("utf-8")) == []


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_file_is_named_for_what_is_inside(path):
    assert path.stem.strip("_") not in {"utils", "util", "helpers", "common", "misc"}


def test_imports_form_no_circle():
    names = {module_name(path) for path in MODULES}
    graph = {
        module_name(path): imported_modules(path.read_text("utf-8")) & names - {"skbae"}
        for path in MODULES
    }
    assert cycle(graph) == []


def test_a_circle_is_found():
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


OPERATOR = "skbae.operators._tempered"
GAUSSIAN = "skbae.energies.gaussian._mixture"
PCA = "skbae.energies.pca._energy"
EM = "skbae.inference.optimise._em"
SHELL = "skbae.estimators.gmm._estimator"


@pytest.mark.parametrize(
    ("module", "line", "complaint"),
    [
        (OPERATOR, "from skbae.energies._base import Energy", "layer above"),
        (GAUSSIAN, f"import {EM}", "layer above"),
        (GAUSSIAN, "from skbae import BayesianGMMAutoEncoder", "layer above"),
        (GAUSSIAN, "from skbae.energies import pca", "neighbour"),
        (GAUSSIAN, f"from {PCA} import PCAEnergy", "neighbour"),
        (PCA, "from skbae.energies.mixture_pca._components import PCAFamily", "neighbour"),
        (PCA, "from skbae.energies.rbm._energy import RBMEnergy", "neighbour"),
        ("skbae.energies._base", f"from {PCA} import PCAEnergy", "shared by families"),
        ("skbae.energies", f"from {PCA} import PCAEnergy", "shared by families"),
        (EM, f"from {GAUSSIAN} import gaussian_mixture", "a family"),
        (EM, "from skbae.energies import mixture", "a family"),
        (EM, f"def f():\n    from {SHELL} import x", "layer above"),
        ("skbae.estimators.pca._estimator", f"from {SHELL} import tables", "neighbour"),
        ("skbae.estimators._base", f"from {SHELL} import tables", "shared by families"),
        ("skbae.thermodynamics", "import skbae.plotting", "layer above"),
        ("skbae.thermodynamics", "import skbae.model_selection", "neighbour"),
        (SHELL, "from . import _base", "absolute"),
        (SHELL, "from sklearn.utils._param_validation import x", "private"),
        (SHELL, "import sklearn.mixture._base", "private"),
        (SHELL, "from sklearn.base import _fit_context", "private"),
    ],
)
def test_a_bad_import_is_caught(module, line, complaint):
    assert any(complaint in found for found in violations(module, line))


@pytest.mark.parametrize(
    ("module", "line"),
    [
        (GAUSSIAN, "from skbae.energies._base import Energy"),
        (GAUSSIAN, "from skbae.energies.mixture._energy import MixtureEnergy"),
        (GAUSSIAN, "from skbae.operators._linalg import triangular_inverse"),
        ("skbae.energies.mixture_pca._prior", f"from {PCA} import PCAEnergy"),
        (EM, "from skbae.energies._base import require"),
        ("skbae.inference.evidence._bridge", "from skbae.inference.sample._gibbs import sweep"),
        (SHELL, f"import {EM}\nimport numpy as np"),
        ("skbae.plotting", f"from {SHELL} import BayesianGMMAutoEncoder"),
        ("skbae", f"from {SHELL} import BayesianGMMAutoEncoder"),
    ],
)
def test_a_good_import_is_not(module, line):
    assert violations(module, line) == []
