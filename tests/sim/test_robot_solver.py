"""A robot's file may set the solver, as long as objects that nothing touches come to rest with it."""

from pathlib import Path

import mujoco
import pytest

import mjx_safety
from mjx_safety import EnvConfig, Gremlins, Pillars, Point, Vases
from mjx_safety.sim.robot_solver import wrong_solver


def option(text):
    return mujoco.MjModel.from_xml_string(f"<mujoco><option {text}/></mujoco>").opt


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('iterations="0"', "iterations"),
        ('impratio="0"', "impratio"),
        ('impratio="-1"', "impratio"),
        ('tolerance="1"', "tolerance"),
        ('solver="PGS" iterations="3"', "solver, iterations"),
        ('iterations="1" ls_iterations="4" integrator="implicitfast"', "iterations, ls_iterations"),
        ('cone="elliptic" timestep="0.5"', "cone"),
    ],
)
def test_a_solver_that_keeps_vases_moving_is_named(text, names):
    message = wrong_solver(option(text))
    assert message is not None
    assert message.startswith(f"sets <option {names}>, with which vases that nothing touches would move at ")
    assert message.endswith(" them out" if "," in names else " it out")


@pytest.mark.parametrize(
    "text",
    [
        "",
        'timestep="0.5"',
        'integrator="RK4"',
        'solver="PGS"',
        'solver="CG"',
        'cone="elliptic" impratio="100"',
        'tolerance="1e-6"',
        'iterations="10" ls_iterations="20"',
    ],
)
def test_a_solver_with_which_vases_rest_is_allowed(text):
    assert wrong_solver(option(text)) is None


@pytest.mark.parametrize("physics", ["mujoco", "mjx"])
def test_it_is_refused_among_objects_that_move_alone(tmp_path, physics):
    text = Path(Point().xml).read_text()
    assert '<option timestep="0.002"/>' in text
    xml = tmp_path / "thing.xml"
    xml.write_text(text.replace("<option", '<option iterations="0"'))
    for moving in ({"vases": Vases(num=1)}, {"gremlins": Gremlins(num=1)}):
        with pytest.raises(ValueError, match=r"thing\.xml of robot Point sets <option iterations>, with which vases"):
            mjx_safety.make(EnvConfig(robot=Point(xml=str(xml)), **moving), physics=physics)
    mjx_safety.make(EnvConfig(robot=Point(xml=str(xml)), pillars=Pillars(num=1)), physics="mujoco")
