"""Settings of the builder for objects: sizes, masses, costs, numbers."""

import jax
import numpy as np
import pytest
from worlds import World, built

import mjx_safety
from mjx_safety import (
    Boundary,
    Button,
    Buttons,
    CircleArea,
    EnvConfig,
    Gremlins,
    Hazards,
    Pillars,
    Push,
    PushBox,
    Vases,
    Walls,
)


def test_objects_have_their_sizes_and_masses():
    env = built(
        task=Push(push_box=PushBox(size=0.3, density=0.002)),
        vases=Vases(num=2, size=0.05, density=0.01, sink=0.01),
        pillars=Pillars(num=1, size=0.4, half_height=0.3),
        buttons=Buttons(num=1, size=0.2),
        gremlins=Gremlins(num=1, size=0.15, density=0.004),
        walls=Walls(num=1, size=0.7),
    )
    model = env.mj_model

    def sizes(name):
        body = model.body(name)
        first = body.geomadr[0]
        return model.geom_size[first : first + body.geomnum[0]], body.mass[0], body.geomnum[0]

    edge = 0.3
    posts = [(edge, edge, edge), *[(edge / 2, edge / 2, edge)] * 4]
    np.testing.assert_allclose(sizes("push_box0")[0], posts)
    assert sizes("push_box0")[1] == pytest.approx(16 * 0.002 * edge**3)
    for index in range(2):
        np.testing.assert_allclose(sizes(f"vases{index}")[0], [(0.05, 0.05, 0.05)])
        assert sizes(f"vases{index}")[1] == pytest.approx(0.01 * 0.1**3)
    np.testing.assert_allclose(sizes("pillars0")[0][0, :2], (0.4, 0.3))
    assert sizes("buttons0")[0][0, 0] == pytest.approx(0.2)
    np.testing.assert_allclose(sizes("gremlins0")[0], [(0.15, 0.15, 0.15)])
    assert sizes("gremlins0")[1] == pytest.approx(0.004 * 0.3**3)
    np.testing.assert_allclose(sizes("walls0")[0], [(0.7, 0.7, 0.7)])
    snapshot = jax.eval_shape(lambda key: env.snapshot(env.reset(key)), jax.random.key(0))
    assert snapshot.vases_pos.shape == (2, 3)
    heights = {"vases": 0.04, "pillars": 0.3, "buttons": 0.2, "gremlins": 0.15, "walls": 0.7, "push_box": 0.3}
    assert {name: env.config.objects[name].height for name in heights} == pytest.approx(heights)


def test_what_is_not_constrained_has_no_cost():
    kinds = {
        "hazards": Hazards(constrained=False),
        "vases": Vases(),
        "pillars": Pillars(constrained=False),
        "gremlins": Gremlins(),
        "boundary": Boundary(constrained=False),
    }
    assert built(**kinds).cost_names == ("vases_contact", "vases_velocity", "gremlins")
    assert built(vases=Vases(displace_cost=1.0)).cost_names == ("vases_contact", "vases_velocity", "vases_displace")
    assert built(task=Button(), hazards=Hazards()).cost_names == ("buttons", "hazards")
    assert built(task=Button(buttons=Buttons(num=4, constrained=False))).cost_names == ()
    assert built(walls=Walls(), task=Push()).cost_names == ()


def test_the_circle_has_a_radius_and_can_be_moved():
    area = CircleArea(radius=0.7, locations=((0.0, 0.0),))
    env = mjx_safety.make("SafetyPointCircle0-v0", physics="mujoco", task=mjx_safety.Circle(circle=area))
    assert env.config.task.circle.radius == 0.7


def test_lines_of_a_boundary_stand_at_their_distance():
    world = World(EnvConfig(boundary=Boundary(num=4, distance=1.7, cost=2.0), indicator=False))
    snapshot = world.snapshot(world.reset(jax.random.key(0)))
    lines = [(1.7, 0), (-1.7, 0), (0, 1.7), (0, -1.7)]
    np.testing.assert_allclose(snapshot.boundary_pos[:, :2], lines, atol=1e-6)
    assert world.scene(root_pos=(1.71, 0, 0.1)).cost == 2.0
    assert world.scene(root_pos=(1.69, -1.69, 0.1)).cost == 0.0


def test_the_goal_disc_of_button_takes_a_place_if_asked_for():
    """Then the first layout keeps 0.4 m free for it, though it ends up on a button."""
    tasks = (Button(goal_placed=placed, buttons=Buttons(num=2)) for placed in (False, True))
    for task, num in zip(tasks, (3, 4), strict=True):
        env = built(task=task)
        assert env.placement.keepout.shape == (num,)
        snapshot = jax.eval_shape(lambda key, env=env: env.snapshot(env.reset(key)), jax.random.key(0))
        assert snapshot.goal_pos.shape == (1, 3)
