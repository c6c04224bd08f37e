"""Finds recorded worlds that another MuJoCo or single precision cannot reproduce, from the state alone."""

from __future__ import annotations

import copy

import jax
import mujoco
import numpy as np

from mjx_safety.env.env import Env
from mjx_safety.sim.state import PhysicsState

SPHERE, CAPSULE, CYLINDER, BOX, PLANE = (
    int(getattr(mujoco.mjtGeom, f"mjGEOM_{name}")) for name in ("SPHERE", "CAPSULE", "CYLINDER", "BOX", "PLANE")
)
CHANGED = ("cylinder", "box_box", "capsule_box", "sphere_in_box")  # pairs that MuJoCo collides differently from 2.3.3


class Contacts:
    """Finds worlds that cannot reproduce, from the contacts of the robot in the C model.

    It takes the contacts of the robot and of all bodies that it touches, directly or through others:

    - tangent: the distance is 0 within rounding, and the force jumps there. The Car's wheels and the push box start
      like this. A rolling wheel sometimes lifts or lands like this.
    - cylinder, box_box, capsule_box, sphere_in_box: pairs of shapes that MuJoCo collides differently from 2.3.3, which
      used MPR for cylinders against everything but the floor. A sphere in a box counts only if its centre is inside.
    - convex: a cylinder against a capsule, a cylinder or a box, for which Warp uses GJK and EPA.
    - object: the robot touches anything but the floor and itself, or the push box does, where it counts.
    """

    names = ("object", "tangent", *CHANGED, "convex")

    def __init__(self, env: Env, reach: float):
        self.env, self.model, self.reach = env, env.mj_model, reach  # env: on the engine mujoco
        self.near = copy.copy(env.mj_model)  # also shows nearly closed contacts; never steps
        self.near.geom_margin[:] = reach
        self.data, self.near_data = mujoco.MjData(self.model), mujoco.MjData(self.near)
        roots = self.model.body_rootid[self.model.geom_bodyid]
        self.group = np.where(self.model.body_dofnum[roots] > 0, roots, 0)  # [ngeom] 0: never moves
        self.robot = self.model.body("robot").id
        self.flies = env.scene.robot.root_joint == "planar"  # its height is no coordinate: no floor can push it
        boxes = [name for name in env.scene.solid_bodies if name.startswith("push_box")]
        self.rewarded = {self.robot, *(self.model.body(name).id for name in boxes)}

    def of_worlds(self, worlds: PhysicsState) -> dict[str, np.ndarray]:
        """Find contacts of the robot in worlds [W]. Returns name -> [W] bool."""
        found = []
        for index in range(len(worlds.time)):
            self._enter(jax.tree.map(lambda x, row=index: x[row], worlds))
            found.append(self._names({self.robot}))
        return self._as_arrays(found)

    def of_steps(self, worlds: PhysicsState, actions: np.ndarray) -> tuple[dict, dict]:
        """Find contacts at any moment of steps [T]: those of the robot, and those of robot and push box together."""
        of_robot, of_rewarded = [], []
        for index, action in enumerate(actions):
            world = jax.tree.map(lambda x, row=index: x[row], worlds)
            self._enter(world)
            self.data.ctrl[:] = np.clip(action, *self.model.actuator_ctrlrange.T)
            names: tuple[set, set] = (set(), set())
            for _ in range(self.env.config.frameskip):
                if self.model.nmocap:
                    self.data.mocap_pos[:] = self.env.scene.mocap_pos(world, np.float64(self.data.time))
                of_now = self._names({self.robot})
                names[0].update(of_now)
                names[1].update(of_now if self.rewarded == {self.robot} else self._names(self.rewarded))
                mujoco.mj_step(self.model, self.data)
            of_robot.append(names[0])
            of_rewarded.append(names[1])
        return self._as_arrays(of_robot), self._as_arrays(of_rewarded)

    def _enter(self, world: PhysicsState) -> None:
        mujoco.mj_resetData(self.model, self.data)
        for name in ("qpos", "qvel", "ctrl", "mocap_pos", "mocap_quat"):
            getattr(self.data, name)[:] = getattr(world, name)
        self.data.time = float(world.time)

    def _names(self, bodies: set[int]) -> set[str]:
        """Name the contacts, in the state of `self.data`, of some bodies and of all that they touch."""
        model, data = self.near, self.near_data
        data.qpos[:], data.mocap_pos[:], data.mocap_quat[:] = self.data.qpos, self.data.mocap_pos, self.data.mocap_quat
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_collision(model, data)
        geoms, distance = data.contact.geom, data.contact.dist
        types = model.geom_type[geoms]
        keep = distance < self.reach
        if self.flies:
            keep &= ~((types == PLANE).any(axis=1) & (self.group[geoms] == self.robot).any(axis=1))
        geoms, distance, types = geoms[keep], distance[keep], types[keep]
        groups, members = self.group[geoms], bodies
        while True:
            touching = np.isin(groups, list(members)).any(axis=1)
            more = set(groups[touching].ravel().tolist()) - {0}
            if more <= members:
                break
            members = members | more
        geoms, distance, types, groups = geoms[touching], distance[touching], types[touching], groups[touching]
        own = np.isin(groups, list(bodies)).any(axis=1) & ~(groups == self.robot).all(axis=1)
        found = {
            "object": own & ~(types == PLANE).any(axis=1),
            "tangent": np.abs(distance) < self.reach,
            **self._changed(geoms, types),
        }
        return {name for name, of_contact in found.items() if of_contact.any()}

    def _changed(self, geoms: np.ndarray, types: np.ndarray) -> dict[str, np.ndarray]:
        """Find contacts [n] of shape pairs that MuJoCo collides differently from 2.3.3."""
        low, high = np.sort(types, axis=1).T
        cylinder = ((low == CYLINDER) | (high == CYLINDER)) & (low != PLANE)
        convex = cylinder & (low != SPHERE)
        if self.model.opt.disableflags & int(mujoco.mjtDisableBit.mjDSBL_NATIVECCD):
            cylinder &= low == SPHERE  # all others use MPR again
        inside = (low == SPHERE) & (high == BOX)
        for index in np.flatnonzero(inside):
            sphere, box = geoms[index][np.argsort(types[index])]
            turn = self.near_data.geom_xmat[box].reshape(3, 3)
            offset = (self.near_data.geom_xpos[sphere] - self.near_data.geom_xpos[box]) @ turn
            inside[index] = np.all(np.abs(offset) < self.near.geom_size[box])
        return {
            "cylinder": cylinder,
            "convex": convex,
            "box_box": (low == BOX) & (high == BOX),
            "capsule_box": (low == CAPSULE) & (high == BOX),
            "sphere_in_box": inside,
        }

    def _as_arrays(self, found: list[set[str]]) -> dict[str, np.ndarray]:
        return {name: np.array([name in names for names in found]) for name in self.names}
