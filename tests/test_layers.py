"""The shape of the package: folders are layers, imports point down, no cycle, files and functions are small."""

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = "mjx_safety"
ROOT = Path(__file__).resolve().parent.parent / PACKAGE

# From bottom to top. A folder, or a module beside the folders, imports only what stands before it. `__init__` is the
# public surface of the environments. The programs at the top level only start what is in `cli`.
LAYERS = ("types", "core", "world", "sim", "env", "registry", "viz", "agents", "runs", "__init__", "interop", "cli")
SEES_ONLY = {
    "agents": {"types", "core"},
    "interop": {"types", "__init__", "viz", "registry"},
}  # stricter than the order
PROGRAMS = {
    "__main__",
    "train",
    "evaluate",
    "render",
    "plot",
    "play",
    "benchmark",
    "export",
    "record",
    "clone",
    "submit",
}
APART = ("world.robots", "world.tasks")  # their files import none of their own folder but the shared ones
SHARED = {"base", "costs", "assets"}

MAX_MODULE_LINES = 400  # docstrings not counted
MAX_FUNCTION_LINES = 60  # docstrings not counted


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def as_module(dotted: str) -> str | None:
    """The module of the package that a dotted name lies in: `mjx_safety.core.shapes.Shape` is in `core.shapes`."""
    if dotted == PACKAGE:
        return "__init__"
    if not dotted.startswith(PACKAGE + "."):
        return None
    name = dotted.removeprefix(PACKAGE + ".")
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or "__init__"


def imports(name: str) -> set[str]:
    """Modules of the package that a module imports anywhere in its text."""
    dotted = []
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            dotted += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} has a relative import"
            dotted += [f"{node.module}.{alias.name}" for alias in node.names]
    return {module for module in map(as_module, dotted) if module is not None} - {name}


def layer(name: str) -> str:
    return name.split(".")[0]


def may_import(name: str, other: str) -> bool:
    mine, its = layer(name), layer(other)
    if mine in PROGRAMS:
        return its == "cli" or (mine, its) == ("render", "__init__")  # two things of one name
    if mine == its:
        folder = next((folder for folder in APART if name.startswith(folder + ".")), None)
        return folder is None or not other.startswith(folder + ".") or other.split(".")[-1] in SHARED
    if its not in LAYERS:
        return False
    if mine in SEES_ONLY:
        return its in SEES_ONLY[mine]
    return LAYERS.index(its) < LAYERS.index(mine)


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name):
    assert layer(name) in {*LAYERS, *PROGRAMS}, f"{name} is in no layer: add its folder to LAYERS"
    upward = sorted(other for other in imports(name) if not may_import(name, other))
    assert not upward, f"{name} imports {', '.join(upward)}, which its layer does not see"


def test_no_import_cycles():
    graphlib.TopologicalSorter({name: imports(name) for name in MODULES}).prepare()  # CycleError names the modules


def test_drawing_is_loaded_only_when_somebody_draws():
    top = ast.parse(MODULES["__init__"].read_text()).body
    names = [alias.name for node in top if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert "viz" not in names and "viz" in {layer(name) for name in imports("__init__")}


def test_no_algorithm_imports_another():
    from mjx_safety.agents import ALGORITHMS

    algorithms = {choice.make.__module__.removeprefix(PACKAGE + ".") for choice in ALGORITHMS.values()}
    for name in algorithms:
        assert not imports(name) & algorithms, name


def lines(node: ast.AST, end: int, start: int = 1) -> int:
    """Lines from start to end, less the docstrings in between."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = [
        inner.body[0]
        for inner in ast.walk(node)
        if isinstance(inner, documented) and ast.get_docstring(inner, clean=False) is not None
    ]
    return end - start + 1 - sum(doc.end_lineno - doc.lineno + 1 for doc in docstrings)


@pytest.mark.parametrize("name", MODULES)
def test_modules_and_functions_are_small(name):
    text = MODULES[name].read_text()
    tree = ast.parse(text)
    length = lines(tree, len(text.splitlines()))
    assert length <= MAX_MODULE_LINES, f"{name} has {length} lines; the limit is {MAX_MODULE_LINES}"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = lines(node, node.end_lineno, node.lineno)
            assert length <= MAX_FUNCTION_LINES, (
                f"{name}.{node.name} has {length} lines; the limit is {MAX_FUNCTION_LINES}"
            )


@pytest.mark.parametrize(
    ("name", "other", "allowed"),
    [
        ("env.env", "types", True),
        ("types", "env.env", False),
        ("world.robots.point", "world.robots.base", True),
        ("world.robots.point", "world.robots.car", False),
        ("sim.engines.mjx", "sim.scene", True),
        ("world.config", "sim.scene", False),
        ("agents.ppo", "types", True),
        ("agents.ppo", "env.vector", False),
        ("registry", "cli.evaluate", False),
        ("train", "cli.train", True),
        ("cli.train", "train", False),
        ("__init__", "viz", True),
        ("viz.still", "__init__", False),
        ("interop.brax", "__init__", True),
        ("runs.sweeps", "viz.plots", True),
        ("runs.sweeps", "cli.common", False),
    ],
)
def test_the_rule_itself(name, other, allowed):
    assert may_import(name, other) is allowed
