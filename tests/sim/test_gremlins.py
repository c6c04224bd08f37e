"""Gremlins: undisturbed they follow the law of the reference; a snapshot knows where they started, or finds out."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from worlds import World, world_of

from mjx_safety import Doggo, EnvConfig, Gremlins

TRAVEL, HOVER, CIRCLE = 0.35, 0.19956, 0.3488  # m, in safety-gymnasium 1.0.0
START = np.array([[20.0, 20.0, 0.1], [23.0, 20.0, 0.1], [20.0, 23.0, 0.1], [23.0, 23.0, 0.1]])


@functools.cache
def law(num_steps, dt, travel=TRAVEL):
    """Offsets [num_steps + 1, 3] m from the start, by the reference's law without contacts."""
    timeconst = max(0.02, 2 * dt)
    damping, stiffness = 2 / (0.95 * timeconst), 1 / (0.95**2 * timeconst**2 * 1.5**2)
    offset, velocity, offsets = np.zeros(3), np.zeros(3), [np.zeros(3)]
    for index in range(num_steps):
        time = index * dt
        gap = offset - (travel * np.sin(time), travel * np.cos(time), 0.1)
        near = min(np.linalg.norm(gap) / 0.001, 1.0)
        impedance = 0.9 + 0.05 * (2 * near**2 if near < 0.5 else 1 - 2 * (1 - near) ** 2)  # MuJoCo's default solimp
        pull = damping * velocity + stiffness * impedance * gap
        velocity = velocity + dt * ((1 - impedance) * np.array([0, 0, -9.81]) - impedance * pull)
        offset = offset + dt * velocity
        offsets.append(offset)
    return np.array(offsets)


@pytest.fixture(scope="module")
def button1():
    return world_of("SafetyPointButton1-v0")


@pytest.fixture(scope="module")
def run(button1):
    """350 steps (7 s, more than a turn) with the robot far away."""
    start = button1.scene(
        root_pos=(-20, -20, 0.1), gremlins_pos=START, gremlins_start_pos=START, gremlins_quat=(1, 0, 0, 0)
    )
    return [start, *button1.go(start, (0, 0), 350)]


def offsets(world, states, start=START):
    return np.array([world.snapshot(state).gremlins_pos - start for state in states])


def test_undisturbed_they_follow_the_references_law(button1, run):
    expected = law(3500, 0.002)[::10]
    error = np.abs(offsets(button1, run) - expected[:, None]).max(axis=(1, 2))
    assert error[:20].max() < 8e-3  # from the floor, and turning: mm
    assert error[20:50].max() < 1e-4
    assert error[50:].max() < 2e-5  # what single precision keeps of a place 20 m away


def test_they_hover_and_circle_with_a_lag(button1, run):
    late = offsets(button1, run)[100:, 0]
    time = 0.02 * np.arange(100, 351)
    np.testing.assert_allclose(late[:, 2] + 0.1, HOVER, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(late[:, :2], axis=-1), CIRCLE, atol=2e-4)
    lag = (time - np.arctan2(late[:, 0], late[:, 1]) + np.pi) % (2 * np.pi) - np.pi  # clockwise from +y
    np.testing.assert_allclose(lag, 0.09, atol=0.01)


def test_all_move_in_step(button1, run):
    late = offsets(button1, run)[20:]
    np.testing.assert_allclose(late, np.broadcast_to(late[:, :1], late.shape), atol=2e-5)


def test_what_drives_them_is_told_as_the_reference_counts_it(button1, run):
    """Relative to the start, as their mocap bodies start at the origin; of the last physics step."""
    for index in (1, 7, 350):
        time = 0.02 * index - 0.002
        target = (TRAVEL * np.sin(time), TRAVEL * np.cos(time), 0.1)
        snapshot = button1.snapshot(run[index])
        np.testing.assert_allclose(snapshot.gremlin_mocaps_pos, np.tile(target, (4, 1)), atol=1e-5)
        np.testing.assert_allclose(snapshot.gremlin_mocaps_quat, np.tile((1, 0, 0, 0), (4, 1)), atol=1e-6)
    np.testing.assert_allclose(button1.snapshot(run[0]).gremlin_mocaps_pos, np.zeros((4, 3)), atol=1e-6)


@pytest.mark.parametrize("index", [0, 1, 5, 20, 100, 350])
def test_a_snapshot_keeps_the_start(button1, run, index):
    snapshot = button1.snapshot(run[index])
    np.testing.assert_allclose(snapshot.gremlins_start_pos, START, atol=1e-6)
    again = button1.snapshot(button1.restore(snapshot))
    np.testing.assert_allclose(again.gremlins_start_pos, START, atol=1e-6)
    np.testing.assert_allclose(again.gremlins_start_quat, snapshot.gremlins_start_quat, atol=1e-6)


@pytest.mark.parametrize("index", [0, 1, 2, 5, 20, 100, 350])
def test_without_the_start_it_is_found_from_the_time(button1, run, index):
    snapshot = button1.snapshot(run[index]).replace(gremlins_start_pos=None, gremlins_start_quat=None)
    found = button1.snapshot(button1.restore(snapshot)).gremlins_start_pos
    np.testing.assert_allclose(found, START, atol=2e-3 if index > 1 else 8e-3)


@pytest.mark.parametrize("index", [5, 20, 100])
def test_a_restored_gremlin_goes_on_as_the_original(button1, run, index):
    snapshot = button1.snapshot(run[index])
    guessed = snapshot.replace(gremlins_start_pos=None, gremlins_start_quat=None)
    for given, tolerance in ((snapshot, 2e-5), (guessed, 4e-3)):
        states = button1.go(button1.restore(given), (0, 0), 20)
        np.testing.assert_allclose(
            offsets(button1, states), offsets(button1, run[index + 1 : index + 21]), atol=tolerance
        )


def test_the_observation_is_of_the_cubes_and_not_of_their_targets(button1):
    start = np.array([[1.0, 0.0, 0.1], *START[1:]])
    gremlins = {"gremlins_pos": start, "gremlins_start_pos": start}
    first = button1.scene(root_pos=(0, 0, 0.1), root_quat=(1, 0, 0, 0), **gremlins)
    for state in [first, *button1.go(first, (0, 0), 5)]:
        snapshot = button1.snapshot(state)
        closeness = 1 - np.hypot(*(snapshot.gremlins_pos[0] - snapshot.root_pos)[:2]) / 3
        assert button1.seen(state, "gremlins_lidar").max() == pytest.approx(closeness, abs=1e-5)


@pytest.mark.parametrize("travel", [0.0, 0.3])
def test_the_law_holds_for_other_time_steps_and_circles(travel):
    """The Doggo's physics steps are five times as long."""
    gremlins = Gremlins(num=1, travel=travel, keepout=0.1)
    world = World(EnvConfig(robot=Doggo(), gremlins=gremlins))
    place = jnp.array([[20.0, 20.0, 0.1]])
    start = world.scene(gremlins_pos=place, gremlins_start_pos=place)
    states = [start, *world.go(start, np.zeros(12), 40)]
    expected = law(400, 0.01, travel)[::10]
    error = np.abs(offsets(world, states, place)[:, 0] - expected).max(axis=-1)
    assert error[20:].max() < 2e-5
