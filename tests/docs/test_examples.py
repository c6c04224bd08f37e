"""The examples run, and what they add behaves."""

import importlib.util
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import World, assert_close

import mjx_safety
from mjx_safety import registry

from .pages import ROOT

EXAMPLES = ROOT / "examples"
NAMES = [path.stem for path in sorted(EXAMPLES.glob("*.py"))]


@pytest.fixture(scope="module")
def load():
    """Import an example by its name."""

    def load(name):
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)
        return sys.modules[name]

    yield load
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs_and_prints_a_finite_result(name, load, capsys, monkeypatch):
    monkeypatch.setattr(registry, "_FACTORIES", dict(registry._FACTORIES))
    load(name).main(physics="mujoco", num_envs=4, num_steps=100)
    printed = capsys.readouterr().out
    assert "return" in printed and "nan" not in printed and "inf" not in printed


@pytest.fixture(scope="module")
def hovercraft(load):
    return World(load("custom_robot").hovercraft_goal())


def test_the_hovercraft_goes_where_its_fans_blow_it(hovercraft):
    start = hovercraft.scene(
        root_pos=(0, 0, 0.1), root_quat=(1, 0, 0, 0), hazards_pos=(9, 9, 0), vases_pos=[(9, -9, 0.1), (-9, 9, 0.1)]
    )
    ahead, left = (hovercraft.go(start, fans, 40)[-1] for fans in ((1, 1), (-1, 1)))
    np.testing.assert_allclose(ahead.data.qpos[1:3], 0, atol=1e-4)
    assert ahead.data.qpos[0] > 0.3 and left.data.qpos[2] > 0.5
    assert hovercraft.seen(ahead, "velocimeter")[0] == pytest.approx(float(ahead.data.qvel[0]), abs=1e-5)
    assert hovercraft.env.action_size == 2 and hovercraft.env.dt == pytest.approx(0.04)


def test_the_hovercraft_shoves_vases_and_pays(hovercraft):
    start = hovercraft.scene(
        root_pos=(0, 0, 0.1), root_quat=(1, 0, 0, 0), hazards_pos=(9, 9, 0), vases_pos=[(0.5, 0, 0.1), (-9, 9, 0.1)]
    )
    states = hovercraft.go(start, (1, 1), 40)
    assert max(float(hovercraft.cost(state, "vases_contact")) for state in states) >= 1


def test_the_hovercraft_is_a_robot_for_mjx_too(load):
    env = mjx_safety.make(load("custom_robot").hovercraft_goal(), physics="mjx")
    after = jax.eval_shape(lambda key: env.step(env.reset(key), jnp.zeros(2)), jax.random.key(0))
    assert after.obs.shape == (9 + 48,)


@pytest.fixture(scope="module")
def patrol(load):
    return World(load("custom_task").patrol())


def test_corners_are_visited_in_turn(patrol):
    snapshot = patrol.snapshot(patrol.scene(hazards_pos=(9, 9, 0)))
    square = 1.2 * np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)])
    for index, corner in enumerate(square):
        there = jnp.append(jnp.float32(corner), 0.1)
        goal = jnp.append(jnp.float32(corner), 0.16)[None]
        state = patrol.restore(snapshot.replace(root_pos=there, goal_pos=goal))
        assert state.memory.corner == index and not state.goal_met
        after = patrol.step(state, jnp.zeros(2))
        assert after.goal_met and after.reward == pytest.approx(1.0, abs=1e-5)
        assert after.memory.corner == (index + 1) % 4
        assert after.memory.last_dist == pytest.approx(2.4, abs=1e-5)
        assert patrol.seen(after, "goal_lidar").max() == pytest.approx(1 - 2.4 / 3, abs=1e-5)
        following = patrol.step(after, jnp.array([1.0, 0.0]))
        gain = after.memory.last_dist - following.memory.last_dist
        assert not following.goal_met and following.reward == pytest.approx(float(gain), abs=1e-6)


def test_a_patrol_survives_a_snapshot(patrol):
    state = patrol.reset(jax.random.key(3))
    state = patrol.go(state, (1, 0.3), 3)[-1]
    assert_close(patrol.restore(patrol.snapshot(state)).memory, state.memory, 1e-6)
