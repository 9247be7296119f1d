"""Imports point down and never in circles, knowledge stays in its room, files stay short, importing is cheap."""

import ast
import re
import subprocess
import sys
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tl_lightning"
CONF = PACKAGE.parent / "conf"
LAYERS = {
    **dict.fromkeys(("errors", "bar", "batch", "lazy", "checks", "targets", "options", "compat", "inputs", "paths",
                     "normaliser", "search", "store", "machine", "files", "printable", "torchvision_hook",
                     "transferability", "examples"), 0),
    "backbones": 1, "heads": 1, "evaluation": 1,
    "tasks": 2,
    "data": 3,
    "strategies": 4, "optim": 4, "regularizers": 4,
    "learner": 5, "fully_sharded": 5, "features": 5,
    "callbacks": 6, "reports": 6,
    "module": 7, "pretraining": 7,
    "trainer": 8, "config": 8, "runs": 8,
    "conflicts": 9,
    "build": 10,
    "jobs": 11,
    "serving": 12,
    "run": 13, "opened_run": 12,
    "cli": 14,
    "api": 15, "__main__": 15,
}  # fmt: skip
# A pattern, and the rooms (files or folders) whose knowledge it is.
KNOWLEDGE = {
    r"isinstance\([^)]*(TextInput|ImageInput)": ("data/images", "data/texts"),
    r"isinstance\([^)]*(Classification|Multilabel|Regression)\b": ("tasks",),
    r"\.multi\b|several_labels": (),
    r"TensorBoardLogger|SummaryWriter|\.experiment\b": ("reports",),
    r"endswith\(\"SAM|startswith\(\"SAM|uphill": ("optim.py",),
    r"\.lora_|lora_[ab]": ("backbones/low_rank.py",),
    r"(metrics\.json|model\.json|config\.yaml|(best|last)\.ckpt)\"": ("runs/file_names.py",),
    r"sys\.argv": ("cli", "examples"),
    r"logging\.disable\(": (),
    r"from hydra|import hydra|omegaconf": ("cli", "config"),
}  # fmt: skip


def imports(file):
    """Dotted names that a file imports, with `from a import b` as a.b; those for annotations alone are left out."""
    tree = ast.parse(file.read_text())
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files():
    found = [f for f in PACKAGE.rglob("*.py") if f.parent != PACKAGE or f.stem != "__init__"]
    assert len(found) >= 120
    return found


def functions():
    for file in files():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield file, node


def owner(file):
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_of(file):
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_every_room_has_a_layer():
    assert {owner(f) for f in files()} == LAYERS.keys()


def test_imports_point_down():
    wrong = []
    for file in files():
        for name in imports(file):
            other = name.split(".")[1] if name.startswith("tl_lightning.") else None
            # layer 0 is flat: its small modules may use each other, as long as there is no circle
            if other in LAYERS and other != owner(file) and LAYERS[other] >= max(1, LAYERS[owner(file)]):
                wrong.append(f"{file.relative_to(PACKAGE)}: {name}")
    assert wrong == []


def test_no_file_imports_itself_by_way_of_others():
    """At whatever depth in a function the import stands."""
    known = {module_of(f): f for f in files()}
    graph = {}
    for name, file in known.items():
        named = set(imports(file))
        graph[name] = {m for m in known if m != name and (m in named or any(n.rpartition(".")[0] == m for n in named))}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as circle:
        pytest.fail(f"a circle: {' > '.join(circle.args[1])}")
    assert set(order) == set(known)


@pytest.mark.parametrize("pattern", KNOWLEDGE)
def test_knowledge_stays_in_its_room(pattern):
    found = [f.relative_to(PACKAGE).as_posix() for f in files() if re.search(pattern, f.read_text())]
    strangers = [name for name in found if not name.startswith(KNOWLEDGE[pattern] or ("-",))]
    assert strangers == []


def test_no_two_files_of_one_name_and_none_named_like_a_library():
    names = [f.stem for f in files() if f.stem != "__init__"]
    taken = {"data_module", "csv", "statistics", "timm", "torchvision", "transformers", "rich", "hydra"}
    assert [n for n in names if n in taken] == []
    assert [n for n, times in Counter(names).items() if times > 1] == []


def test_files_functions_and_constructors_are_short():
    assert [f.name for f in files() if len(f.read_text().splitlines()) > 250] == []
    assert [f"{f.name}: {n.name}" for f, n in functions() if n.end_lineno - n.lineno >= 40] == []
    many = []
    for file, node in functions():
        arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs) if a.arg != "self"]
        if node.name == "__init__" and len(arguments) > 8:
            many.append(f"{file.name}: {arguments}")
    assert many == []


def test_every_group_file_is_short():
    files = [f for f in CONF.rglob("*.yaml") if f.parent != CONF and "hydra" not in f.parts]
    assert len(files) >= 40
    assert [f.name for f in files if len(f.read_text().splitlines()) > 15] == []


_SHAPE = re.compile(r"\([A-Z0-9][\w.]*,|\(N\)|scalar|any shape")  # (N, C), (N,), (3, H, W)


def _is_about_tensors(node):
    annotations = [a.annotation for a in (*node.args.args, *node.args.kwonlyargs)] + [node.returns]
    said = " ".join(ast.unparse(a) for a in annotations if a is not None)
    said = re.sub(r"(Mapping|dict)\[str, Tensor\]|Callable\[.*", "", said)  # weights by name, of whatever shapes
    return bool(re.search(r"\b(Tensor|ndarray|Inputs)\b", said))


def public(node):
    return not node.name.startswith("_") and ast.get_docstring(node) is not None


def test_docstrings_of_tensor_functions_say_shapes():
    silent = [f"{f.name}: {n.name}" for f, n in functions()
              if public(n) and _is_about_tensors(n) and not _SHAPE.search(ast.get_docstring(n))]  # fmt: skip
    assert silent == []


def test_docstrings_of_refusing_functions_name_the_error():
    silent = []
    for file, node in functions():
        raised = {ast.unparse(r.exc.func) for r in ast.walk(node)
                  if isinstance(r, ast.Raise) and isinstance(r.exc, ast.Call)}  # fmt: skip
        for name in raised - {"NotImplementedError", "AttributeError"}:
            if public(node) and name not in ast.get_docstring(node):
                silent.append(f"{file.name}: {node.name} raises {name}")
    assert silent == []


def test_importing_the_package_imports_neither_torch_nor_hydra():
    code = "import sys, tl_lightning; print([m for m in ('torch', 'hydra', 'lightning') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
