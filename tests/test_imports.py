"""The arrows of the architecture: who may import whom, and what nobody may do. Read from the source, nothing is run."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
FILES = sorted((SOURCE / "gsnn").rglob("*.py"))
# What each folder, or file, may import of gsnn. Folders that are not named may import whatever is not refused below.
ALLOWED = {
    "models": {"models", "data.schema", "data.shear", "data.components", "data.sphere", "errors", "rng"},
    "data": {"data", "errors", "rng", "config", "simulate.cosmology", "memory"},
    "simulate": {"simulate", "data", "errors", "rng", "config", "emulator"},
    "objectives": {"objectives", "data", "evaluation", "errors", "rng", "config", "simulate.mesh"},
    "training": {"training", "errors", "rng", "config", "memory", "scale.devices"},
    "evaluation": {"evaluation", "data.schema", "errors", "rng", "simulate.mesh"},
    "baselines": {
        "baselines",
        "data",
        "evaluation",
        "errors",
        "rng",
        "config",
        "simulate.waveforms",
        "simulate.fields",
        "simulate.sphere_fields",
        "simulate.expansion",
        "simulate.haloes",
        "simulate.mesh",
        "simulate.planck",  # their templates
    },
    "explain": {"explain", "data", "errors", "rng", "config"},
    "errors": set(),
    "memory": set(),
    "rng": set(),
    "locate": set(),
    "config": {"errors"},
}
ENTRIES = {"training.worker"}  # what torchrun starts: it walks through the steps, as the command does
NOBODY_IMPORTS = ("cli", "studies")
ONLY_CLI_IMPORTS = "serve"


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """The modules of gsnn that a file imports, at its top or inside a function, without the leading ``gsnn.``."""
    module, found = name_of(path), set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            names = {f"{base}.{alias.name}" for alias in node.names}
            modules = {name for name in names if (SOURCE / name.replace(".", "/")).with_suffix(".py").exists()}
            packages = {name for name in names if (SOURCE / name.replace(".", "/") / "__init__.py").exists()}
            found |= (modules | packages) or {base}
    return {name.removeprefix("gsnn.") for name in found if name.startswith("gsnn.")}


def within(module: str, allowed: set[str]) -> bool:
    return any(module == one or module.startswith(one + ".") for one in allowed)


@pytest.mark.parametrize("path", FILES, ids=lambda path: name_of(path))
def test_arrows_point_one_way(path):
    own = name_of(path).removeprefix("gsnn").removeprefix(".")
    found = imports(path)
    for refused in NOBODY_IMPORTS:
        assert not any(within(one, {refused}) for one in found if not own.startswith(refused)), f"imports {refused}"
    if not within(own, {"cli", ONLY_CLI_IMPORTS}):
        assert not any(within(one, {ONLY_CLI_IMPORTS}) for one in found), f"imports {ONLY_CLI_IMPORTS}"
    for folder, allowed in ALLOWED.items():
        if within(own, {folder}) and own not in ENTRIES:
            strange = {one for one in found if not within(one, allowed)}
            assert not strange, f"{own} imports {', '.join(sorted(strange))}"


def test_the_imports_are_found():
    """The reading of imports itself: relative and absolute ones, at the top and inside functions."""
    run = imports(SOURCE / "gsnn/run.py")
    assert {"errors", "steps.data", "report.page", "evaluation.compare"} <= run
    assert imports(SOURCE / "gsnn/errors.py") == set()


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: name_of(path))
def test_nothing_received_is_executed(path):
    """No pickle in any form, no eval, no exec, no shell."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = {alias.name for alias in node.names} | {getattr(node, "module", None) or ""}
            bad = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
            assert not modules & bad, f"line {node.lineno}"
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            assert name not in ("eval", "exec", "compile", "__import__"), f"line {node.lineno}: {name}"
            assert name not in ("torch.load", "torch.jit.load", "os.system", "os.popen", "yaml.load"), (
                f"line {node.lineno}"
            )
            for keyword in node.keywords:
                truth = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                assert keyword.arg not in ("allow_pickle", "shell") or truth, f"line {node.lineno}: {keyword.arg}"


HEAVY = ("torch", "lance", "sklearn", "matplotlib", "astropy", "scipy", "captum", "pandas", "pyarrow", "pydantic")


@pytest.mark.parametrize("statement", ["import gsnn", "import gsnn.cli", "import gsnn; dir(gsnn); gsnn.__version__"])
def test_the_face_of_gsnn_is_light(statement):
    """``gsnn --help`` answers at once, because nothing heavy is imported before it is needed."""
    code = f"{statement}\nimport sys\nprint(*sorted(set(sys.modules) & set({HEAVY})))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.split() == []


@pytest.mark.parametrize(
    ("module", "refused"),
    [
        ("gsnn.models.resnet", "sklearn matplotlib astropy lance captum pandas"),
        ("gsnn.data.survey", "torch sklearn matplotlib pandas"),
        ("gsnn.objectives.regress", "sklearn matplotlib captum pandas"),
        ("gsnn.study", "sklearn matplotlib captum pandas"),
        ("gsnn.run", "sklearn matplotlib captum pandas astropy"),
    ],
)
def test_a_module_imports_nothing_heavy_that_it_is_not_about(module, refused):
    code = f"import {module}, sys\nprint(*sorted(set(sys.modules) & set({refused.split()})))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.split() == []
