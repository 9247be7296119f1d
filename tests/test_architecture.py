"""Imports point down, files stay short, and importing the package is cheap."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "tl_lightning"
LAYERS = {
    "errors": 0, "paths": 0, "inputs": 0, "compat": 0, "machine": 0, "store": 0, "transferability": 0,
    "backbones": 1, "data": 1, "heads": 1, "metrics": 1,
    "strategies": 2, "optim": 2, "regularizers": 2,
    "module": 3, "features": 3,
    "callbacks": 4, "reports": 4, "pretraining": 4,
    "runs": 5,
}  # fmt: skip


def room(path_or_name):
    return path_or_name.split(".")[1] if path_or_name.startswith("tl_lightning.") else None


def imports(file):
    """Dotted names that a file imports, with `from a import b` as a.b."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files():
    found = [f for f in PACKAGE.rglob("*.py") if f.parent != PACKAGE or f.stem != "__init__"]
    assert len(found) >= 45
    return found


def owner(file):
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_room_has_a_layer():
    assert {owner(f) for f in files()} == LAYERS.keys()


def test_imports_point_down():
    wrong = []
    for file in files():
        for name in imports(file):
            other = room(name)
            if other and other != owner(file) and other in LAYERS and LAYERS[other] >= LAYERS[owner(file)]:
                # layer 0 is flat: its small modules may use the errors and the paths
                if other not in ("errors", "paths"):
                    wrong.append(f"{file.name}: {name}")
    assert wrong == []


def test_only_runs_knows_the_configuration():
    knowing = {owner(f) for f in files() if any(n.split(".")[0] in ("hydra", "omegaconf") for n in imports(f))}
    assert knowing == {"runs"}


def test_files_and_functions_are_short():
    for file in files():
        tree, lines = ast.parse(file.read_text()), file.read_text().splitlines()
        assert len(lines) <= 250, file
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 50, f"{file.name}: {node.name}"


def test_importing_the_package_imports_neither_torch_nor_hydra():
    code = "import sys, tl_lightning; print([m for m in ('torch', 'hydra', 'lightning') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
