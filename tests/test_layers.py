"""The shape of the package: imports point down, nothing is cyclic, files and functions stay small.

To edit the tables: a row is a layer, rows run from low to high, and a module imports only from rows before its own,
never from its own row. A module belongs to the row that names it, else to the first row with a pattern that matches, so
a new robot, task or algorithm needs no edit. Names are those of the files without `mjx_safety.`; the package's own
`__init__.py` is `__init__`, that of `robots/` is `robots`.
"""

import ast
import graphlib
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

PACKAGE = "mjx_safety"
ROOT = Path(__file__).resolve().parent.parent / PACKAGE

MAX_MODULE_LINES = 400  # docstrings not counted
MAX_FUNCTION_LINES = 60  # docstrings not counted

WORLDS = (
    ("types", "settings", "readings", "driven"),
    ("geometry",),
    ("shapes",),
    ("placement", "lidar"),
    ("layouts",),
    ("layouts",),
    ("robots.base", "objects"),
    ("robots.*",),
    ("robots",),
    ("model",),
    ("scene",),
    (
        "physics.base",
        "physics.colliders",
        "physics.line_search",
        "physics.warp_colliders",
        "physics.compaction",
        "physics.nearby",
        "physics.rest",
    ),
    ("physics.*",),
    ("physics",),
    ("tasks.base", "tasks.costs", "tasks.rewards"),
    ("tasks.*",),
    ("tasks",),
    ("config",),
    ("observation",),
    ("env",),
    ("wrappers",),
    ("registry",),
    ("__init__",),
)
AGENTS = (
    ("agents.types",),
    ("agents.returns", "agents.distributions", "agents.surrogates", "agents.trust_region", "agents.running_stats"),
    ("agents.constraints", "agents.networks", "agents.episode_cost"),
    ("agents.rollout", "agents.optimize", "agents.replay"),
    ("agents.critics",),
    ("agents.on_policy",),
    ("agents.first_order", "agents.second_order"),
    ("agents.*",),  # the algorithms
    ("agents.catalogue", "agents.train", "agents.evaluate", "agents.checkpoint"),
    ("agents",),
)
HOST = (  # the command line and what else runs on the host; imported by nobody below
    ("cli", "plots", "progress", "rendering.opengl", "rendering.solids", "rendering.episodes"),
    ("rendering.frames", "rendering.top_view", "rendering.strip"),
    ("rendering.film", "rendering.replay", "rendering.lidar_view"),
    ("rendering.*",),
    ("runs", "groups", "scores", "throughput", "peer_throughput", "overview", "rendering", "interop"),
    ("report",),
    ("evaluate", "benchmark", "plot", "play", "interop.*"),
    ("render", "train", "__main__"),
)

FROM_WORLDS = {"agents": {"types"}}  # what the agents see of the other column
ONLY = {"wrappers": {"types"}}  # stricter than the module's row
# The one look upwards, inside a function and not before it is called: the method of `Env`, which users hold in their
# hands, that shows a state. Who asks for no picture never imports the module.
LATE = {"env": {"rendering"}}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def column_of(name: str) -> tuple[tuple[str, ...], ...]:
    if name.split(".")[0] == "agents":
        return AGENTS
    return HOST if row_in(HOST, name) is not None else WORLDS


def row_in(column: tuple[tuple[str, ...], ...], name: str) -> int | None:
    exact = [i for i, row in enumerate(column) if name in row]
    matching = [i for i, row in enumerate(column) if any(fnmatchcase(name, pattern) for pattern in row)]
    return (exact + matching + [None])[0]


def as_module(dotted: str) -> str | None:
    """The module of the package that a dotted name lies in: `mjx_safety.robots.POINT` is in `robots`; `jax` in none."""
    if dotted == PACKAGE:
        return "__init__"
    if not dotted.startswith(PACKAGE + "."):
        return None
    name = dotted.removeprefix(PACKAGE + ".")
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or "__init__"


def imports(name: str, *, late: bool = True) -> set[str]:
    """Modules of the package that a module imports: anywhere in its text, or (not late) outside of functions."""
    path = MODULES[name]
    folder = [PACKAGE, *path.relative_to(ROOT).parent.parts]
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = {id(inner) for function in functions for inner in ast.walk(function)}
    dotted = []
    for node in ast.walk(tree):
        if not late and id(node) in inside:
            continue
        if isinstance(node, ast.Import):
            dotted += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = folder[: len(folder) + 1 - node.level] if node.level else []
            base = ".".join(above + ([node.module] if node.module else []))
            dotted += [f"{base}.{alias.name}" for alias in node.names]
    return {module for module in map(as_module, dotted) if module is not None}


def may_import(name: str, other: str) -> bool:
    mine, its = column_of(name), column_of(other)
    if name in ONLY:
        return other in ONLY[name]
    if mine is its:
        return row_in(its, other) < row_in(mine, name)
    return mine is HOST or (mine is AGENTS and other in FROM_WORLDS["agents"])


@pytest.mark.parametrize("name", MODULES)
def test_module_has_a_layer(name):
    assert row_in(column_of(name), name) is not None, (
        f"{PACKAGE}/{name.replace('.', '/')} has no layer: give it a row in tests/test_layers.py"
    )


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name):
    known = {module for module in MODULES if row_in(column_of(module), module) is not None}
    assert name in known, f"{name} has no layer"
    seen = imports(name) - LATE.get(name, set())
    upward = sorted(other for other in seen & known if not may_import(name, other))
    assert not upward, f"{name} imports {', '.join(upward)}, which its layer does not see (tests/test_layers.py)"


def test_no_import_cycles():
    graph = {name: imports(name) - {name} - LATE.get(name, set()) for name in MODULES}
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the modules on the cycle


@pytest.mark.parametrize("name", LATE)
def test_what_is_imported_late_is_needed_and_only_late(name):
    assert LATE[name] <= imports(name)
    assert not LATE[name] & imports(name, late=False)


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
        ("env", "types", True),
        ("types", "env", False),
        ("robots.point", "robots.base", True),
        ("robots.point", "robots.car", False),
        ("physics.mjx", "physics.base", True),
        ("scene", "physics.mjx", False),
        ("wrappers", "types", True),
        ("wrappers", "env", False),
        ("agents.ppo", "types", True),
        ("agents.ppo", "wrappers", False),
        ("agents.ppo", "agents.cpo", False),
        ("agents.ppo", "agents.first_order", True),
        ("agents.first_order", "agents.second_order", False),
        ("agents.first_order", "agents.on_policy", True),
        ("agents.on_policy", "agents.first_order", False),
        ("agents.catalogue", "agents.ppo", True),
        ("agents.ppo", "agents.catalogue", False),
        ("agents.train", "agents.catalogue", False),
        ("agents", "agents.catalogue", True),
        ("agents.train", "agents.rollout", True),
        ("env", "agents.types", False),
        ("train", "agents.train", True),
        ("train", "__init__", True),
        ("agents.train", "train", False),
        ("registry", "evaluate", False),
    ],
)
def test_the_table_itself(name, other, allowed):
    assert may_import(name, other) is allowed
