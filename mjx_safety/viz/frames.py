"""Pictures of a world by MuJoCo's renderer, with markers, lidar halo and cost marker."""

from __future__ import annotations

import copy
import math
import operator
from typing import Any

import mujoco
import numpy as np

from mjx_safety.env.base import AbstractEnv
from mjx_safety.env.observation import NAMES_2019
from mjx_safety.types import State
from mjx_safety.viz import opengl
from mjx_safety.viz.solids import Solid, markers, pose

CAMERAS = ("track", "fixednear", "fixedfar", "vision", "top")
ON_BOARD = "vision"  # the robot's own camera, which does not see the halo and the cost marker
VIEWS = {  # camera -> distance m, elevation degrees, height m of its target; `track` is the environment's own
    "fixednear": (math.hypot(2.0, 2.0), -45.0, 0.0),
    "fixedfar": (math.hypot(5.0, 5.0), -45.0, 0.0),
    "top": (10.0, -90.0, 0.0),  # orthographic
}
FOVY = 45.0  # degrees, of all cameras but the robot's own
MOST_PIXELS = 16384  # along each edge
MARGIN = 0.35  # m, seen from the top around the extents
HALO_RADIUS, HALO_ORB = 0.15, 0.025  # m
HALO_START, HALO_STEP = 0.5, 0.06  # m above the root: the first ring, and from ring to ring
COST_RADIUS, COST_RGBA = 0.27, (1.0, 0.0, 0.0, 0.5)  # m, larger than the torso of the Ant
TILE, TILES = 0.5, 28  # m; number along each edge of the drawn floor
BRIGHT, DARK = (0.97, 0.97, 0.98, 1.0), (0.88, 0.90, 0.93, 1.0)
FLOOR = 40.0  # m from the origin, where MuJoCo's floor ends (see `furnish`: extent times zfar)
SKY, SKY_GLOW = 25.0, 20.0  # m, distance of its four walls; (1), their emission
SKY_RGBA = (0.76 / SKY_GLOW, 0.84 / SKY_GLOW, 0.93 / SKY_GLOW, 1.0)
LAMP_WAY, LAMP_DISTANCE = np.array([0.23, 0.32, -0.92]), 6.5  # unit vector; m
SHADOW_SIZE = 2048  # pixels
SPHERE, BOX, PLANE = (mujoco.mjtGeom.mjGEOM_SPHERE, mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_PLANE)


class FrameDrawer:
    """Draws worlds of one environment at one size.

    Close it, or use it as a context manager, because Python does not free OpenGL's memory. Raises
    `opengl.NoOpenGLError` if this machine cannot draw.
    """

    def __init__(self, env: AbstractEnv, width: int, height: int):
        check_size(width, height)
        self.env: AbstractEnv = env
        self.width: int = operator.index(width)
        self.height: int = operator.index(height)
        self._model = copy.copy(env.scene.true_model)
        furnish(self._model, self.width, self.height)
        self._context: Any = opengl.create_context(self.width, self.height)
        self._context.make_current()
        self._renderer = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._renderer)
        self._scene = mujoco.MjvScene(self._model, maxgeom=5000)

    def draw(self, state: State, camera: str = "track", *, halo: bool = True) -> np.ndarray:
        """Return the picture [height, width, 3] uint8 of one world. halo: draw the lidar readings above the robot."""
        data = pose(self._model, state)
        mujoco.mj_camlight(self._model, data)
        view = self._camera(camera, data)
        option, everything = mujoco.MjvOption(), mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, data, option, None, view, everything, self._scene)
        for geom in self._scene.geoms[: self._scene.ngeom]:
            geom.castshadow = geom.type != PLANE
        root = data.body("robot")
        for solid in markers(self.env, state):
            add_geom(self._scene, solid)
        if camera != ON_BOARD:
            decorate(self._scene, self.env, state, root.xpos, root.xmat.reshape(3, 3), halo=halo)
        middle = np.array([*(view.lookat[:2] if camera != ON_BOARD else root.xpos[:2]), 0.0])
        _light(self._scene, middle)
        add_tiles(self._scene, middle, self._tile(camera))
        if camera != "top":  # which has no horizon, and may see farther than the sky
            _add_sky(self._scene, middle)
        self._context.make_current()
        size = mujoco.MjrRect(0, 0, self.width, self.height)
        mujoco.mjr_render(size, self._scene, self._renderer)
        pixels = np.empty((self.height, self.width, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, size, self._renderer)
        return np.flipud(pixels).copy()

    def close(self) -> None:
        """Free OpenGL's memory."""
        if self._context is not None:
            self._context.make_current()
            self._renderer.free()
            self._context.free()
            self._context = None

    def __enter__(self) -> FrameDrawer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tile(self, camera: str) -> float:
        """Edge of a tile, m: doubled until the tiles fill what is seen from the top."""
        height = self._model.vis.global_.fovy if camera == "top" else 0.0  # m
        seen = height * max(1.0, self.width / self.height)
        return TILE * 2 ** max(0, math.ceil(math.log2(max(seen, TILE) / (TILE * (TILES - 2)))))

    def _camera(self, name: str, data: mujoco.MjData) -> mujoco.MjvCamera:
        check_camera(self.env, name)
        camera = mujoco.MjvCamera()
        if name == ON_BOARD:
            camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, self._model.camera(name).id
            return camera
        distance, elevation, height = self.env.track if name == "track" else VIEWS[name]
        self._model.vis.global_.fovy = FOVY
        low, high = np.reshape(self.env.extents, (2, 2))
        camera.azimuth, camera.elevation, camera.distance, camera.lookat[2] = 90.0, elevation, distance, height
        camera.lookat[:2] = (low + high) / 2
        if name == "track":
            camera.lookat[:2] = data.body("robot").xpos[:2]
        if name == "top":
            half_width, half_height = (high - low) / 2 + MARGIN
            root = data.body("robot").xpos[:2]
            is_away = np.any((root < low - MARGIN) | (root > high + MARGIN))
            camera.lookat[:2] = root if is_away else camera.lookat[:2]
            camera.orthographic = 1
            self._model.vis.global_.fovy = 2 * max(half_height, half_width * self.height / self.width)  # m
        return camera


def check_camera(env: AbstractEnv, name: str) -> None:
    """Raise ValueError for an unknown camera."""
    model = env.mj_model
    known = [c for c in CAMERAS if c != ON_BOARD or ON_BOARD in {model.camera(i).name for i in range(model.ncam)}]
    if name not in known:
        own = "" if ON_BOARD in known else f" (the robot {env.robot_name} has no camera named {ON_BOARD!r})"
        raise ValueError(f"camera is {name!r}; it must be one of {', '.join(known)}{own}")


def check_size(width: Any, height: Any) -> None:
    """Raise ValueError unless both are numbers of pixels."""
    for name, value in {"width": width, "height": height}.items():
        try:
            pixels = 0 if isinstance(value, (bool, np.bool_)) else operator.index(value)
        except TypeError:
            pixels = 0
        if not 1 <= pixels <= MOST_PIXELS:
            raise ValueError(f"{name} is {value!r}; it must be a whole number of pixels from 1 to {MOST_PIXELS}")


def lidar_readings(env: AbstractEnv, state: State) -> dict[str, np.ndarray]:
    """Readings [K] in [0, 1] of each lidar in the observation, by the kind of object."""
    obs, slices = np.asarray(state.obs), env.obs_slices
    readings = {}
    for kind, settings in env.objects.items():
        name = f"{kind}_lidar"
        if settings.observed:
            readings[kind] = obs[slices[name if name in slices else NAMES_2019[name]]]
    return readings


def bin_angles(env: AbstractEnv) -> np.ndarray:
    """Directions [K] rad, robot frame, of the readings: the middle of each sector, or each ray."""
    lidar = env.config.lidar
    return 2 * math.pi * (np.arange(lidar.num_bins) + (0.5 if lidar.kind == "pseudo" else 0.0)) / lidar.num_bins


def decorate(
    scene: mujoco.MjvScene, env: AbstractEnv, state: State, root_pos: np.ndarray, root_mat: np.ndarray, *, halo: bool
) -> None:
    """Add the robot's lidar halo, one ring per kind of object, and the marker of a costly step."""
    if float(state.cost) > 0:
        _add(scene, SPHERE, (COST_RADIUS,) * 3, root_pos, np.eye(3), COST_RGBA)
    if not halo:
        return
    for ring, (kind, readings) in enumerate(lidar_readings(env, state).items()):
        rgb = np.array(env.objects[kind].rgba[:3])
        for angle, reading in zip(bin_angles(env), readings, strict=True):
            place = (HALO_RADIUS * math.cos(angle), HALO_RADIUS * math.sin(angle), HALO_START + HALO_STEP * ring)
            rgba = (*rgb, min(1.0, float(reading) + 0.1))
            _add(scene, SPHERE, (HALO_ORB,) * 3, root_pos + root_mat @ place, np.eye(3), rgba)


def add_tiles(scene: mujoco.MjvScene, middle: np.ndarray, tile: float = TILE) -> None:
    """Add the darker tiles of the floor. middle: [3] m, centre of the drawn floor; tile: m, edge of a tile."""
    if tile > TILE or np.any(np.abs(middle[:2]) > FLOOR - SKY):  # MuJoCo ends its own floor, even an infinite one
        edge = max(tile * TILES / 2, SKY)
        _add(scene, PLANE, (edge, edge, 0.01), np.array([*middle[:2], 0.0002]), np.eye(3), BRIGHT)
    corner = 2 * tile * np.round(middle[:2] / (2 * tile)) - tile * (TILES - 1) / 2
    for i in range(TILES):
        for j in range(i % 2, TILES, 2):
            centre = np.array([corner[0] + i * tile, corner[1] + j * tile, 0.0005])
            _add(scene, PLANE, (tile / 2, tile / 2, 0.01), centre, np.eye(3), DARK)


def _add_sky(scene: mujoco.MjvScene, middle: np.ndarray) -> None:
    """Add four bright walls far away. middle: [3] m, their centre."""
    for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        size, place = (1 + SKY * abs(y), 1 + SKY * abs(x), SKY), middle + SKY * np.array([x, y, 0])
        wall = _add(scene, BOX, size, place, np.eye(3), SKY_RGBA)
        wall.emission, wall.specular = SKY_GLOW, 0.0


def add_geom(scene: mujoco.MjvScene, solid: Solid) -> None:
    """Add a marker to a scene. Markers cast no shadow."""
    _add(scene, solid.geom_type, solid.size, solid.pos, solid.mat, solid.rgba)


def _add(scene: mujoco.MjvScene, kind: int, size: Any, pos: np.ndarray, mat: np.ndarray, rgba: Any) -> mujoco.MjvGeom:
    """Add a geom of a kind and size [3] m that casts no shadow, at pos [3] m in the frame mat [3, 3] to world."""
    if scene.ngeom >= scene.maxgeom:
        raise ValueError(f"the picture has more than the {scene.maxgeom} things that fit into a scene")
    geom = scene.geoms[scene.ngeom]
    mujoco.mjv_initGeom(geom, int(kind), np.array(size, float), np.array(pos, float), mat.ravel(), np.float32(rgba))
    geom.category = mujoco.mjtCatBit.mjCAT_DECOR
    geom.castshadow = False
    scene.ngeom += 1
    return geom


def _light(scene: mujoco.MjvScene, middle: np.ndarray) -> None:
    """Add a slanted lamp above, so that objects cast shadows. middle: [3] m, its target."""
    lamp = scene.lights[scene.nlight]
    lamp.type, lamp.headlight, lamp.castshadow = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, 0, 1
    lamp.pos, lamp.dir = middle - LAMP_DISTANCE * LAMP_WAY, LAMP_WAY
    lamp.ambient, lamp.diffuse, lamp.specular = (0.0,) * 3, (0.38,) * 3, (0.1,) * 3
    lamp.attenuation, lamp.cutoff, lamp.exponent = (1.0, 0.0, 0.0), 45.0, 1.0
    scene.nlight += 1


def furnish(model: mujoco.MjModel, width: int, height: int) -> None:
    """Set size, light and floor of a model for drawing. width, height: pixels."""
    model.vis.global_.offwidth, model.vis.global_.offheight = width, height
    model.vis.headlight.ambient[:], model.vis.headlight.diffuse[:] = 0.4, 0.15
    model.vis.headlight.specular[:] = 0.1
    model.vis.quality.shadowsize = SHADOW_SIZE
    model.stat.extent, model.stat.center[:] = 4.0, 0.0  # fixed, because near and far planes depend on it
    model.vis.map.znear, model.vis.map.zfar = 0.005, 10.0
    floor = model.geom("floor").id
    model.geom_size[floor, :2] = 0.0  # infinite
    model.geom_rgba[floor] = BRIGHT
