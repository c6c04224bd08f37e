"""MuJoCo's pictures show the robot, markers, halo and cost where they belong."""

import dataclasses
import importlib
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image
from worlds import world_of

import mjx_safety
from mjx_safety.sim.scene import build_scene
from mjx_safety.viz import CAMERAS, render
from mjx_safety.viz.frames import FrameDrawer, bin_angles, check_camera, check_size, lidar_readings

from .recordings import needs_opengl

SIZE = 160
ID = "SafetyPointGoal2-v0"


@pytest.fixture(scope="module")
def drawer():
    with FrameDrawer(world_of(ID).env, SIZE, SIZE) as made:
        yield made


@pytest.fixture(scope="module")
def state():
    return jax.device_get(world_of(ID).reset(jax.random.key(1)).replace(key=None))


def redness(picture):
    red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
    return (red > 90) & (green < 60) & (blue < 60)


def where(mask):
    """Middle of the pixels that a mask has: (row, column)."""
    return np.argwhere(mask).mean(axis=0)


@needs_opengl
def test_the_robot_stays_in_the_middle_of_track(drawer, state):
    data = state.data
    moved = state.replace(data=data.replace(qpos=data.qpos + np.eye(1, len(data.qpos), dtype=np.float32)[0]))
    for one in (state, moved):
        np.testing.assert_allclose(where(redness(drawer.draw(one, halo=False)))[1], SIZE / 2, atol=4)
    fixed = [where(redness(drawer.draw(one, "top", halo=False))) for one in (state, moved)]
    metre = SIZE / (4 + 0.7)  # pixels
    np.testing.assert_allclose(fixed[1] - fixed[0], (0, metre), atol=2)


@needs_opengl
def test_top_shows_the_world_as_it_lies(drawer, state):
    x, y = state.data.qpos[:2]
    metre = SIZE / (4 + 0.7)
    found = where(redness(drawer.draw(state, "top", halo=False)))
    np.testing.assert_allclose(found, (SIZE / 2 - y * metre, SIZE / 2 + x * metre), atol=2)


@needs_opengl
def test_markers_are_there(drawer, state):
    picture = drawer.draw(state, "top", halo=False).astype(int)
    metre = SIZE / (4 + 0.7)
    for kind, channel in (("goal", 1), ("hazards", 2)):
        for x, y, _ in state.places.markers[kind]:
            pixel = picture[round(SIZE / 2 - y * metre), round(SIZE / 2 + x * metre)]
            assert pixel[channel] > max(np.delete(pixel, channel)) + 20, (kind, pixel)


@needs_opengl
def test_a_costly_step_is_red(drawer, state):
    calm, costly = (drawer.draw(state.replace(cost=np.float32(cost))) for cost in (0, 1))
    assert redness(costly).sum() > 2 * redness(calm).sum()
    seen = [drawer.draw(state.replace(cost=np.float32(cost)), "vision") for cost in (0, 1)]
    np.testing.assert_array_equal(*seen)  # the robot is inside the marker


@needs_opengl
def test_the_halo_is_above_the_robot(drawer, state):
    with_halo, without = drawer.draw(state), drawer.draw(state, halo=False)
    row, column = where(np.any(with_halo != without, axis=-1))
    assert row < SIZE / 2 - 10 and abs(column - SIZE / 2) < 5


@needs_opengl
def test_the_halo_shows_the_readings(drawer, state):
    none, all_ = (state.replace(obs=np.full_like(state.obs, value)) for value in (0, 1))
    change = np.abs(drawer.draw(all_).astype(int) - drawer.draw(none)).sum()
    assert change > 20_000
    vision = [drawer.draw(one, "vision") for one in (none, all_)]
    np.testing.assert_array_equal(*vision)


@needs_opengl
def test_cameras_differ_and_a_drawing_is_repeatable(drawer, state):
    pictures = {camera: drawer.draw(state, camera) for camera in CAMERAS}
    assert len({picture.tobytes() for picture in pictures.values()}) == len(CAMERAS)
    np.testing.assert_array_equal(drawer.draw(state, "track"), pictures["track"])
    assert all(len(np.unique(picture.reshape(-1, 3), axis=0)) > 50 for picture in pictures.values())


def test_unknown_cameras_are_refused():
    env = world_of(ID).env
    with pytest.raises(ValueError, match="camera is 'side'; it must be one of track, fixednear"):
        check_camera(env, "side")
    blind = build_scene(env.config.robot, {}, engine="mujoco").model
    stub = SimpleNamespace(mj_model=blind, robot_name=env.robot_name)
    check_camera(stub, "vision")
    without = SimpleNamespace(ncam=0)
    with pytest.raises(ValueError, match="the robot Point has no camera named 'vision'"):
        check_camera(SimpleNamespace(mj_model=without, robot_name=env.robot_name), "vision")


@needs_opengl
def test_render_gives_an_image_that_a_notebook_shows(state):
    image = render(world_of(ID).env, state, width=96, height=64)
    assert isinstance(image, Image.Image) and image.size == (96, 64)
    assert image._repr_png_()[:4] == b"\x89PNG"
    batch = jax.tree.map(lambda leaf: np.stack([leaf] * 3), state)
    width, height = render(world_of(ID).env, batch, width=96, height=64).size
    assert (width // 96, height // 64) == (2, 2)


@needs_opengl
def test_an_environment_shows_its_states(state):
    env = world_of(ID).env
    image = mjx_safety.render(env, state, camera="top", width=96, height=64)
    np.testing.assert_array_equal(image, render(env, state, camera="top", width=96, height=64))


def test_render_refuses_what_is_no_world(state):
    batch = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (2, 2, *np.shape(leaf))), state)
    with pytest.raises(ValueError, match=r"up to 64, and this state has the shape \(2, 2\)"):
        render(world_of(ID).env, batch)


@pytest.mark.parametrize("size", [-1, 0, 16385, 10**6, 100.5, 64.0, True, np.bool_(True), None, "96", [96]])
@pytest.mark.parametrize("edge", ["width", "height"])
def test_a_picture_has_a_whole_number_of_pixels(state, edge, size):
    env, words = world_of(ID).env, rf"^{edge} is .*; it must be a whole number of pixels from 1 to 16384$"
    for draw in (render, mjx_safety.render):
        with pytest.raises(ValueError, match=words):
            draw(env, state, **{edge: size})
    with pytest.raises(ValueError, match=words):
        FrameDrawer(env, **{"width": 96, "height": 64, edge: size})


def test_numbers_of_pixels_may_be_numpy_s():
    for size in (1, 16384, np.int64(96), np.uint8(96)):
        check_size(size, size)


def test_the_drawn_model_is_the_true_one_on_every_engine():
    env = world_of("SafetyCarPush2-v0").env
    stand_in = build_scene(env.config.robot, env.config.objects, engine="mjx")
    assert stand_in.model.ngeom > env.mj_model.ngeom
    drawn = stand_in.true_model
    assert drawn.ngeom == env.mj_model.ngeom and drawn.nq == stand_in.model.nq and drawn.nmocap == stand_in.model.nmocap
    np.testing.assert_array_equal(drawn.geom_type, env.mj_model.geom_type)


def test_readings_by_kind():
    for env_id, prefix in (("SafetyPointPush1-v0", "push_box_lidar"), ("Safexp-PointPush1-v0", "box_lidar")):
        env = world_of(env_id).env
        obs = np.arange(env.obs_size, dtype=np.float32)
        readings = lidar_readings(env, SimpleNamespace(obs=obs))
        assert set(readings) == {"goal", "push_box", "hazards", "pillars"}
        np.testing.assert_array_equal(readings["push_box"], obs[env.obs_slices[prefix]])


def test_directions_of_the_halo():
    env = world_of(ID).env
    np.testing.assert_allclose(bin_angles(env)[[0, 4]], np.array([0.5, 4.5]) * 2 * np.pi / 16)
    lidar = dataclasses.replace(env.config.lidar, kind="natural")
    rays = SimpleNamespace(config=dataclasses.replace(env.config, lidar=lidar))
    np.testing.assert_allclose(bin_angles(rays)[[0, 4]], [0, np.pi / 2])


def test_the_program_of_the_same_name_does_not_hide_the_function(state):
    importlib.import_module("mjx_safety.render")
    with pytest.raises(ValueError, match="camera"):
        mjx_safety.render(world_of(ID).env, state, camera="nowhere")


@needs_opengl
@pytest.mark.parametrize("edge", [2.0, 20.0, 100.0])
def test_the_floor_fills_the_view_from_the_top(state, edge):
    """However large the arena: both colours of its tiles in each corner, and no end of it."""
    env = mjx_safety.make(ID, physics="mujoco", extents=(-edge, -edge, edge, edge))
    with FrameDrawer(env, 2 * SIZE, SIZE) as drawer:
        picture = drawer.draw(state, "top", halo=False).astype(int)
    assert picture.min(axis=-1)[:, : SIZE // 4].min() > 150, "nothing is black"
    for rows in (slice(0, SIZE // 4), slice(-SIZE // 4, None)):
        for columns in (slice(0, SIZE // 4), slice(-SIZE // 4, None)):
            corner = picture[rows, columns].sum(axis=-1)
            assert np.ptp(corner) > 30 and 0.2 < (corner > corner.mean()).mean() < 0.8


@needs_opengl
@pytest.mark.parametrize("camera", ["track", "top", "vision", "fixedfar"])
def test_the_floor_goes_on_far_from_the_origin(camera):
    """MuJoCo's own floor ends 40 m from the origin. A picture of the same scene there looks as it does here."""
    world, pictures = world_of("SafetyPointGoal0-v0"), []
    for x in (0.0, 60.0):
        config = dataclasses.replace(world.env.config, extents=(x - 2.0, -2.0, x + 2.0, 2.0))
        goal, root = np.array([x, 1.5, 0.0]), np.array([x, 0.0, 0.1])
        state = world.restore(mjx_safety.Snapshot(root_pos=root, root_quat=np.eye(4)[0], goal_pos=goal))
        env = world.env.replace(config=config)
        pictures.append(np.asarray(render(env, state, camera=camera, width=SIZE, height=SIZE, halo=False), float))
    assert abs(np.mean(pictures[1]) - np.mean(pictures[0])) < 5.0
    assert np.mean(pictures[1].sum(axis=-1) < 30) <= np.mean(pictures[0].sum(axis=-1) < 30), "it is black without floor"
