"""The private places of MJX and Warp that `sim/fixes` replaces or calls. A test names the patch that broke."""

import importlib
import inspect
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from mujoco.mjx._src import collision_driver, forward, solver
from packaging.requirements import Requirement

from mjx_safety.sim.fixes import known, mjx_colliders

MJX, WARP = "mujoco.mjx._src", "mujoco.mjx.third_party.mujoco_warp._src"
PLACES = [  # what breaks, module, function, its parameters
    ("the exact line search, which replaces it", f"{MJX}.solver", "_linesearch", ("m", "d", "ctx")),
    ("the exact line search, which calls it", f"{MJX}.support", "mul_m", ("m", "d", "vec")),
    ("the solver, which replaces it", f"{MJX}.solver", "solve", ("m", "d")),
    ("the solver, which calls it", f"{MJX}.solver", "_trace_m", ("m", "d")),
    ("the solutions of M x = b, which replace it", f"{MJX}.smooth", "solve_m", ("m", "d", "x")),
    ("the velocity terms of equalities, which replace it", f"{MJX}.constraint", "make_constraint", ("m", "d")),
    ("the velocity terms of equalities, which call it", f"{MJX}.smooth", "com_vel", ("m", "d")),
    ("the velocity terms of equalities, which call it", f"{MJX}.math", "quat_mul", ("u", "v")),
    ("the contacts of two boxes, which call it", f"{MJX}.collision_convex", "_box_box", ("b1", "b2")),
    ("the contacts of two boxes, wrapped by it", f"{MJX}.collision_convex", "collider", ("ncon",)),
    ("the contacts with the floor, wrapped by it", f"{MJX}.collision_primitive", "collider", ("ncon",)),
    ("all corrected contacts, which call it", f"{MJX}.math", "make_frame", ("a",)),
    (
        "Warp's capsule on the floor, which replaces it",
        f"{WARP}.collision_primitive_core",
        "plane_capsule",
        ("plane_normal", "plane_pos", "capsule_pos", "capsule_axis", "capsule_radius", "capsule_half_length"),
    ),
    (
        "Warp's capsule on the floor, which calls it",
        f"{WARP}.collision_primitive_core",
        "plane_sphere",
        ("plane_normal", "plane_pos", "sphere_pos", "sphere_radius"),
    ),
]


@pytest.mark.parametrize(("broken", "module", "name", "parameters"), PLACES, ids=[f"{p[1]}.{p[2]}" for p in PLACES])
def test_a_patched_function_is_where_it_was(broken, module, name, parameters):
    if module.startswith(WARP):
        pytest.importorskip("warp", reason="needs the extra 'warp'")
    function = getattr(importlib.import_module(module), name, None)
    said = f"mujoco-mjx {version('mujoco-mjx')} changed {module}.{name}. It breaks {broken}: see sim/fixes."
    assert function is not None, said
    found = getattr(function, "input_types", None) or inspect.signature(function).parameters
    assert tuple(found) == parameters, said


@pytest.mark.parametrize("pair", mjx_colliders._CORRECTED, ids=lambda pair: "-".join(geom.name for geom in pair))
def test_a_corrected_pair_is_in_the_table_of_colliders(pair):
    said = f"mujoco-mjx {version('mujoco-mjx')} has no collider for {pair}: the corrected one is never called."
    assert pair in collision_driver._COLLISION_FUNC, said


def test_the_forward_pass_calls_the_replaced_equalities_by_name():
    said = f"mujoco-mjx {version('mujoco-mjx')} no longer calls constraint.make_constraint: ours is never used."
    assert "constraint.make_constraint" in inspect.getsource(forward), said


def test_the_forward_pass_calls_the_replaced_functions_by_name():
    said = f"mujoco-mjx {version('mujoco-mjx')} no longer calls solver.solve or smooth.solve_m: ours are never used."
    assert "solver.solve" in inspect.getsource(forward.forward), said
    assert "smooth.solve_m" in inspect.getsource(forward.fwd_acceleration), said
    assert "smooth.solve_m" in inspect.getsource(forward.euler), said


def test_the_solver_calls_its_line_search_by_the_replaced_name():
    said = (
        f"mujoco-mjx {version('mujoco-mjx')} no longer calls solver._linesearch: the exact line search is never used."
    )
    assert "_linesearch(" in inspect.getsource(solver.solve), said


PATCHES = sorted(path.stem for path in Path(known.__file__).parent.glob("*.py") if "mujoco.mjx" in path.read_text())


@pytest.mark.parametrize("name", PATCHES)
def test_a_patch_refuses_a_version_that_it_does_not_know(name, monkeypatch):
    """Read anew, with another version: the module says which ones it knows."""
    if name.startswith("warp"):
        pytest.importorskip("warp", reason="needs the extra 'warp'")
    source = (Path(known.__file__).parent / f"{name}.py").read_text()
    monkeypatch.setattr(known, "version", lambda package: "3.99.1")
    with pytest.raises(ImportError, match=r"mujoco-mjx 3\.99\.1 is installed, .* private parts of 3\.17 only"):
        exec(compile(source, name, "exec"), {"__name__": f"again_{name}"})


def test_the_bounds_of_the_package_admit_only_known_versions():
    project = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text())["project"]
    bounds = next(Requirement(text) for text in project["dependencies"] if text.startswith("mujoco-mjx"))
    minors = [f"3.{minor}" for minor in range(100) if f"3.{minor}.0" in bounds.specifier]
    assert minors == list(known.KNOWN)
