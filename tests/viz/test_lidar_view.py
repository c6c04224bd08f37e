"""The lidar picture shows the readings, where they come from, and how far the objects are."""

import itertools
import math
import re
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Wedge
from worlds import world_of

import mjx_safety
from mjx_safety.viz import plot_lidar
from mjx_safety.viz.frames import lidar_readings
from mjx_safety.viz.lidar_view import RING, WIDTH, explain

ID = "SafetyPointGoal2-v0"


@pytest.fixture(scope="module")
def picture():
    world = world_of(ID)
    state = world.reset(jax.random.key(1))
    view, *panels = plot_lidar(world.env, state).get_axes()
    return SimpleNamespace(env=world.env, state=state, view=view, panels=panels)


def test_bars_are_the_readings(picture):
    readings = lidar_readings(picture.env, picture.state)
    assert [panel.get_title(loc="left") for panel in picture.panels] == ["goal lidar", "hazards lidar", "vases lidar"]
    for panel, values in zip(picture.panels, readings.values(), strict=True):
        np.testing.assert_allclose([bar.get_height() for bar in panel.patches], values, atol=1e-6)


def test_rings_lie_around_the_robot_and_turn_with_it(picture):
    wedges = [patch for patch in picture.view.patches if isinstance(patch, Wedge)]
    inks = wedges[1::2]  # each on its paper
    values = np.concatenate(list(lidar_readings(picture.env, picture.state).values()))
    np.testing.assert_allclose([ink.get_facecolor()[3] for ink in inks], values, atol=1e-6)
    x, y, yaw = picture.state.data.qpos[:3]
    np.testing.assert_allclose([ink.center for ink in inks], [(x, y)] * len(inks), atol=1e-6)
    np.testing.assert_allclose((inks[0].theta1 - math.degrees(yaw)) % 360, 0, atol=1e-3)
    np.testing.assert_allclose((inks[5].theta1 - math.degrees(yaw)) % 360, 5 * 360 / 16, atol=1e-3)
    np.testing.assert_allclose([inks[0].r, inks[-1].r], [RING + WIDTH, RING + 3 * WIDTH], atol=1e-6)


def test_distances_stand_at_the_bin_of_the_object(picture):
    goal = np.asarray(picture.state.places.markers["goal"])[0, :2]
    x, y, yaw = np.asarray(picture.state.data.qpos[:3], float)
    distance = math.hypot(*(goal - (x, y)), 0.1)  # the lidar looks down from the robot's height
    bin_ = int((math.atan2(goal[1] - y, goal[0] - x) - yaw) / (2 * math.pi) % 1 * 16)
    (text,) = picture.panels[0].texts
    assert text.get_text() == f"{distance:.2f} m" or abs(float(text.get_text()[:-2]) - distance) < 0.01
    assert text.get_position()[0] == bin_
    ends = [line.get_xydata()[-1] for line in picture.view.lines if line.get_linestyle() == ":"]
    assert min(np.linalg.norm(end - goal) for end in ends) < 1e-5
    reading = lidar_readings(picture.env, picture.state)["goal"][bin_]
    np.testing.assert_allclose(reading, 1 - math.dist(goal, (x, y)) / 3, atol=0.02)


def test_natural_lidar_draws_its_rays_to_the_surface():
    env = mjx_safety.make(ID, physics="mujoco", lidar=mjx_safety.Lidar(kind="natural"))
    state = jax.device_get(world_of(ID).reset(jax.random.key(1)).replace(key=None))
    obs = np.zeros_like(state.obs)
    obs[env.obs_slices["goal_lidar"].start + 4] = math.exp(-1.5)
    view = plot_lidar(env, state.replace(obs=obs)).get_axes()[0]
    (ray,) = [line.get_xydata() for line in view.lines]
    x, y, yaw = state.data.qpos[:3]
    expected = (x + 1.5 * math.cos(yaw + math.pi / 2), y + 1.5 * math.sin(yaw + math.pi / 2))
    np.testing.assert_allclose(ray, [(x, y), expected], atol=1e-5)


@pytest.mark.parametrize(
    ("lidar", "words"),
    [
        (mjx_safety.Lidar(), r"1 - distance / 3 m .*\nand shares"),
        (
            mjx_safety.Lidar(max_dist=None, exp_gain=2.0, alias=False),
            r"exp\(-2 distance in m\) of the nearest object in it$",
        ),
        (mjx_safety.Lidar(kind="natural"), "Natural lidar: a ray"),
    ],
)
def test_words(lidar, words):
    assert re.search(words, explain(lidar))


def test_worlds_without_lidars_and_batches_are_refused():
    world = world_of("SafetyPointRun0-v0")
    with pytest.raises(ValueError, match="no kind of object has a lidar in this environment"):
        plot_lidar(world.env, world.reset(jax.random.key(0)))
    state = jax.tree.map(lambda leaf: leaf[None], world_of(ID).reset(jax.random.key(1)))
    with pytest.raises(ValueError, match="one world"):
        plot_lidar(world_of(ID).env, state)


def test_rings_and_sectors_fit_an_arena_of_any_size():
    env = mjx_safety.make(ID, physics="mujoco", extents=(-20.0, -20.0, 20.0, 20.0))
    view = plot_lidar(env, jax.device_get(world_of(ID).reset(jax.random.key(1)).replace(key=None))).get_axes()[0]
    inks = [patch for patch in view.patches if isinstance(patch, Wedge)][1::2]
    share = (RING + WIDTH) / 4.7  # of the picture, as in the benchmark's arena
    np.testing.assert_allclose(inks[0].r / (40 + 0.7), share, rtol=1e-6)
    ends = [line.get_xydata()[-1] for line in view.lines if line.get_linestyle() == "-"]
    assert len(ends) == 16 and all(np.abs(end).max() > 20.35 for end in ends), "sectors reach the edge"


@pytest.mark.parametrize("num_bins", [16, 48])
def test_no_text_of_the_bars_is_cut_or_overlaps(num_bins):
    env = mjx_safety.make(ID, physics="mujoco", lidar=mjx_safety.Lidar(num_bins=num_bins))
    state = env.reset(jax.random.key(1))
    figure = plot_lidar(env, state)
    FigureCanvasAgg(figure).draw()
    _, *panels = figure.get_axes()
    for panel in panels:
        frame = panel.get_window_extent()
        distances = sorted((text.get_window_extent() for text in panel.texts), key=lambda box: box.x0)
        assert all(box.y1 < frame.y1 for box in distances)
        assert not any(a.overlaps(b) for a, b in itertools.pairwise(distances))
    numbers = [tick.get_window_extent() for tick in panels[-1].get_xticklabels()]
    assert not any(a.overlaps(b) for a, b in itertools.pairwise(numbers))


def test_no_line_leads_to_what_the_lidar_cannot_see():
    """Buttons are hidden for a while after a press."""
    env = mjx_safety.make("SafetyPointButton2-v0", physics="mujoco")
    snapshot = env.snapshot(env.reset(jax.random.key(0)))
    for timer, title in ((0, "buttons lidar"), (5, "buttons (hidden) lidar")):
        state = env.restore(snapshot.replace(buttons_timer=np.int32(timer)), jax.random.key(0))
        _, *panels = plot_lidar(env, state).get_axes()
        panel = next(panel for panel in panels if panel.get_title(loc="left").startswith("buttons"))
        assert panel.get_title(loc="left") == title
        assert bool(panel.texts) == (timer == 0)
