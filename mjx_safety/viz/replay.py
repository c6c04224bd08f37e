"""Writes a recording as one HTML file. Any browser with WebGL plays it offline."""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path
from string import Template
from typing import Any

import mujoco
import numpy as np

from mjx_safety.core import files
from mjx_safety.viz.episodes import Recording
from mjx_safety.viz.frames import (
    COST_RADIUS,
    COST_RGBA,
    HALO_ORB,
    HALO_RADIUS,
    HALO_START,
    HALO_STEP,
    bin_angles,
    lidar_readings,
)
from mjx_safety.viz.solids import PRIMITIVES, Solid, geoms, markers, pose

PARTS = Path(__file__)  # replay.html, replay.css and replay.js beside it become one file
ROOM = 32767  # the largest number in 16 bits
STILL = 2e-4  # m, (1): an object that moves less in total is written once


def write_replay(recording: Recording, path: Path) -> None:
    """Write the file, or nothing if it is interrupted."""
    files.write(path, replay_page(recording))


def replay_page(recording: Recording) -> str:
    """Return the page's text."""
    page, style, script = (PARTS.with_suffix(kind).read_text(encoding="utf-8") for kind in (".html", ".css", ".js"))
    data = json.dumps(_data(recording), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return Template(page).substitute(title=html.escape(recording.title), style=style, script=script, data=data)


def _data(recording: Recording) -> dict[str, Any]:
    env = recording.env
    lidars = list(lidar_readings(env, recording.at(0, 0)))
    limit = recording.shown_limit
    return {
        "num_steps": recording.num_steps,
        "dt": env.dt,
        "cost_limit": limit if np.isfinite(limit) else None,
        "note": f"{recording.num_worlds} world{'s' * (recording.num_worlds > 1)}, {env.dt:g} s per step",
        "extents": [float(x) for x in env.extents],
        "track": [float(x) for x in env.track],
        "halo": {"radius": HALO_RADIUS, "orb": HALO_ORB, "start": HALO_START, "rise": HALO_STEP},
        "cost_marker": {"radius": COST_RADIUS, "rgba": COST_RGBA},
        "lidars": [
            {
                "name": kind.replace("_", " "),
                "rgb": list(env.objects[kind].rgba[:3]),
                "angles": [round(float(angle), 4) for angle in bin_angles(env)],
            }
            for kind in lidars
        ],
        "worlds": [_world(recording, world) for world in range(recording.num_worlds)],
    }


def _world(recording: Recording, world: int) -> dict[str, Any]:
    """One world: its solids, and their poses at each step. Arrays are little-endian bytes as base64."""
    model = recording.env.scene.true_model
    states = [recording.at(step, world) for step in range(recording.num_steps + 1)]
    rows, solids = [], []
    for state in states:
        data = pose(model, state)
        solids = [*markers(recording.env, state), *geoms(model, data)]
        root = data.body("robot")
        poses = [_pose(root.xpos, root.xmat.reshape(3, 3)), *(_pose(solid.pos, solid.mat) for solid in solids)]
        rows.append(np.stack(poses))
    poses = _continued(np.stack(rows))  # [T + 1, 1 + things, 7]; the root comes first
    moves = np.ptp(poses, axis=0).max(axis=-1) > STILL
    moves[0] = True
    metres = max(float(np.abs(poses[..., :3]).max()), 1e-3) / ROOM
    scale = np.array([1 / metres] * 3 + [ROOM] * 4)
    numbers = np.cumsum(moves) - 1
    things = [_shape(model, solid) for solid in solids]
    for index, thing in enumerate(things, 1):
        thing |= {"row": int(numbers[index])} if moves[index] else {"pose": poses[0, index].round(5).tolist()}
    return {
        "length": int(recording.lengths[world]),
        "things": things,
        "root": {"row": 0},
        "num_moving": int(moves.sum()),
        "metres": metres,
        "poses": _text(np.round(poses[:, moves] * scale), "<i2"),
        "returns": _text(recording.cumulative_return[:, world], "<f4"),
        "costs": _text(recording.cumulative_cost[:, world], "<f4"),
        "costly": _text(np.asarray(recording.states.cost[:, world]) > 0, "u1"),
        "goals": np.flatnonzero(recording.states.goal_met[:, world]).tolist(),
        "lidar": _text(np.round(255 * np.array([_readings(recording, state) for state in states])), "u1"),
    }


def _readings(recording: Recording, state: Any) -> np.ndarray:
    return np.concatenate([np.zeros(0), *lidar_readings(recording.env, state).values()]).clip(0.0, 1.0)


def _shape(model: mujoco.MjModel, solid: Solid) -> dict[str, Any]:
    """The look of a solid."""
    look = {"rgba": [round(float(x), 4) for x in solid.rgba]}
    if solid.geom_type in PRIMITIVES:
        return look | {"kind": PRIMITIVES[solid.geom_type], "size": [round(float(x), 5) for x in solid.size]}
    if solid.geom_type == mujoco.mjtGeom.mjGEOM_MESH and solid.vertices is not None:
        mesh = int(model.geom_dataid[solid.geom])
        start = model.mesh_faceadr[mesh]
        faces = model.mesh_face[start : start + model.mesh_facenum[mesh]]
        corners = solid.vertices.round(5).tolist()
        return look | {
            "kind": "mesh",
            "size": [],
            "mesh_name": f"mesh {mesh}",
            "corners": corners,
            "faces": faces.tolist(),
        }
    half = np.ptp(solid.vertices, axis=0) / 2 if solid.vertices is not None else solid.size
    return look | {"kind": "box", "size": [round(float(x), 5) for x in half]}


def _pose(pos: np.ndarray, mat: np.ndarray) -> np.ndarray:
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.ascontiguousarray(mat, float).ravel())
    return np.concatenate([pos, quat])


def _continued(poses: np.ndarray) -> np.ndarray:
    """Choose the signs of quaternions [T + 1, solids, 7] so that they do not jump."""
    flips = np.cumprod(np.where(np.sum(poses[1:, :, 3:] * poses[:-1, :, 3:], axis=-1) < 0, -1.0, 1.0), axis=0)
    poses[1:, :, 3:] *= flips[..., None]
    return poses


def _text(values: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values).astype(kind).tobytes()).decode()
