"""Physics steps in closed form for a planar robot without inner joints, alone on the floor.

Two slides and a hinge carry one rigid body. There are three equations of motion, and the mass matrix has an explicit
inverse. The constants come from the compiled model. `why_no_closed_form` names features of a model that this module
does not cover. A robot with such features keeps its engine.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from typing import Any, NamedTuple

import jax
import mujoco
import numpy as np

from mjx_safety.sim.quiet import no_warnings
from mjx_safety.world.model_parts import have_affine_forces

_JOINT, _TRN, _GAIN, _BIAS = mujoco.mjtJoint, mujoco.mjtTrn, mujoco.mjtGain, mujoco.mjtBias
_SENSOR, _DISABLE, _INTEGRATOR = mujoco.mjtSensor, mujoco.mjtDisableBit, mujoco.mjtIntegrator
_AT_SITE = (_SENSOR.mjSENS_ACCELEROMETER, _SENSOR.mjSENS_VELOCIMETER, _SENSOR.mjSENS_GYRO, _SENSOR.mjSENS_MAGNETOMETER)
_OF_JOINT = (_SENSOR.mjSENS_JOINTPOS, _SENSOR.mjSENS_JOINTVEL)
_SENSORS = (*_AT_SITE, *_OF_JOINT, _SENSOR.mjSENS_TOUCH, _SENSOR.mjSENS_SUBTREECOM)
_HARMLESS_SWITCHES = (  # switches without effect here, or that this module supports
    *(_DISABLE.mjDSBL_AUTORESET, _DISABLE.mjDSBL_NATIVECCD, _DISABLE.mjDSBL_MULTICCD, _DISABLE.mjDSBL_MIDPHASE),
    *(_DISABLE.mjDSBL_WARMSTART, _DISABLE.mjDSBL_EULERDAMP, _DISABLE.mjDSBL_CLAMPCTRL, _DISABLE.mjDSBL_CONTACT),
)
_HARMLESS = functools.reduce(operator.or_, map(int, _HARMLESS_SWITCHES))
_MUST_BE_ZERO = (  # fields of the model that the equations below ignore
    *("jnt_stiffness", "jnt_stiffnesspoly", "jnt_limited", "jnt_actfrclimited", "jnt_pos", "qpos0"),
    *("dof_frictionloss", "dof_dampingpoly", "actuator_damping", "actuator_dampingpoly", "actuator_armature"),
    *("actuator_delay", "actuator_actlimited", "sensor_cutoff", "sensor_delay", "sensor_interval"),
)
_MUST_BE_ABSENT = ("na", "neq", "ntendon", "nplugin", "nflex", "nmocap", "nhistory", "nplastic")
HEADINGS = 16  # headings at which a robot must touch nothing
CHECK_TRIALS, CHECK_STEPS, CHECK_TOLERANCE = 8, 10, 1e-9  # against the C engine; m and m/s
ROUNDING_TRIALS, ROUNDING_MAX_SUBSTEPS, ROUNDING_MAX_ERROR = 4096, 100, 3e-7  # of `max_exact_substeps`; m
MAX_LEVER = 4.0  # inertia about the joints, as a multiple of that about the centre of mass
FACTORS = (5.0, 3.0, 2.0, 1.5, 1.25, 1.0)  # on the force of all actuators
SCALE = np.array([3.0, 3.0, 3.0, 2.0, 2.0, 5.0])  # of coordinates and speeds in trials


class Motion(NamedTuple):
    """Planar coordinates. Fields: [...]."""

    x: Any  # m, world frame
    y: Any
    yaw: Any  # rad
    vx: Any  # m/s, world frame
    vy: Any
    rate: Any  # rad/s

    def plus(self, slope: Motion, seconds: Any) -> Motion:
        """Move along a slope."""
        return Motion(*(value + seconds * change for value, change in zip(self, slope, strict=True)))


@dataclasses.dataclass(frozen=True, eq=False)
class _Actuator:
    """Force = gain * ctrl + bias, both affine in length and velocity, applied along a moment."""

    in_body: np.ndarray  # [3] moment: force along the body's x and y, torque about z
    in_world: np.ndarray  # [2] moment: force along the world's x and y
    lengths: np.ndarray  # [3] length per x, y and yaw
    gain: Any  # [3] constant, per length, per velocity
    bias: Any  # [3]
    ctrl_range: tuple[float, float] | None
    force_range: tuple[Any, Any] | None

    def scaled(self, factor: Any) -> _Actuator:
        """Return an actuator with a factor on its force, limits included."""
        limits = None if self.force_range is None else (self.force_range[0] * factor, self.force_range[1] * factor)
        return dataclasses.replace(self, gain=self.gain * factor, bias=self.bias * factor, force_range=limits)


class _Sensor(NamedTuple):
    """A sensor of the model, body frame."""

    kind: mujoco.mjtSensor
    joint: int  # index of the joint that it reads: x, y, yaw; -1 if it reads none
    pos: np.ndarray  # [3] m, from the joints
    axes: np.ndarray  # [3, 3], its own frame to the body's


@dataclasses.dataclass(frozen=True, eq=False)
class PlanarRobot:
    """The equations of motion of one model: Newton-Euler for a body with its centre of mass off its joints.

    Mass to damping, and gains and biases of the actuators, are JAX's arrays for a world with dynamics of its own.
    """

    mass: Any  # kg
    com: Any  # [3] m, centre of mass from the joints, body frame
    inertia: Any  # [3] kg, kg, kg m^2: diagonal of the mass matrix, with armature
    damping: Any  # [3] N s/m, N s/m, N m s/rad
    timestep: float  # s
    damps_implicitly: bool  # MuJoCo's default with Euler
    is_rk4: bool
    gravity: float  # m/s^2, downwards
    height: float  # m, of the joints
    actuators: tuple[_Actuator, ...]
    sensors: tuple[_Sensor, ...]
    magnetic: np.ndarray  # [3] world frame

    @classmethod
    def derive(cls, model: mujoco.MjModel) -> PlanarRobot:
        """Read the constants from the model of a robot alone on the floor. Raises ValueError without a closed form."""
        reason = why_no_closed_form(model)
        if reason:
            raise ValueError(f"the robot cannot be stepped in closed form: {reason}")
        robot = _constants(model)
        if _largest_error(robot, model) > CHECK_TOLERANCE:
            raise ValueError("the robot cannot be stepped in closed form: it moves otherwise than its constants say")
        return robot

    def advance(self, start: Motion, ctrl: Any, max_steps: int, num_steps: Any, xp: Any) -> tuple[Motion, Any]:
        """Take physics steps under controls [A].

        num_steps: [], at most max_steps; None: all. xp: numpy or jax.numpy. Returns the final motion and the
        farthest distance [] m from the start on the way.
        """
        zero = start.x * 0
        now, farthest = Motion(zero, zero, zero, *start[3:]), zero  # relative positions keep digits far from the origin
        for index in range(max_steps):
            after = self._step(start, now, ctrl, xp)
            if num_steps is not None:
                after = Motion(*(xp.where(index < num_steps, new, old) for new, old in zip(after, now, strict=True)))
            now, farthest = after, xp.maximum(farthest, after.x**2 + after.y**2)
            if xp is not np:
                now, farthest = jax.lax.optimization_barrier((now, farthest))
        moved = Motion(start.x + now.x, start.y + now.y, start.yaw + now.yaw, *now[3:])
        return moved, xp.sqrt(farthest)

    def max_exact_substeps(self) -> float:
        """Largest number of substeps in which rounding of the start's speeds moves the robot by at most 3e-7 m.

        Rounding is that to single precision. A servo that is unstable at its timestep amplifies it. The number
        holds for 99.9 % of random starts. Returns infinity if 100 substeps stay that exact.
        """
        rng = np.random.default_rng(0)
        exact = rng.normal(size=(ROUNDING_TRIALS, 6)) * SCALE
        ctrl = np.tile(rng.uniform(-1.5, 1.5, (ROUNDING_TRIALS, len(self.actuators))), (2, 1)).T
        rounded = exact * np.where(np.arange(6) < 3, 1.0, 1.0 + np.finfo(np.float32).eps)
        x, y, yaw, vx, vy, rate = np.concatenate([exact, rounded]).T
        start, zero = Motion(x, y, yaw, vx, vy, rate), np.zeros(2 * ROUNDING_TRIALS)
        now = Motion(zero, zero, zero, vx, vy, rate)
        with np.errstate(all="ignore"):  # of a robot that blows up
            for step in range(ROUNDING_MAX_SUBSTEPS):
                now = self._step(start, now, ctrl, np)
                gap = np.hypot(*(value[:ROUNDING_TRIALS] - value[ROUNDING_TRIALS:] for value in now[:2]))
                if not np.quantile(gap, 0.999) <= ROUNDING_MAX_ERROR:
                    return step
        return math.inf

    def max_exact_factor(self, num_substeps: int) -> float:
        """Largest of some factors on the actuators' force, or on 1 / mass, with which so many substeps stay exact."""
        for factor in FACTORS:
            stronger = dataclasses.replace(self, actuators=tuple(each.scaled(factor) for each in self.actuators))
            if stronger.max_exact_substeps() >= num_substeps:
                return factor
        return 0.0

    def read(self, motion: Motion, ctrl: Any, xp: Any) -> tuple[Any, Any]:
        """Sensors [S] in the model's order, and the acceleration [3] for the engine's warm start."""
        acceleration = self._accelerate(motion, ctrl, 0.0, xp)
        s, c = xp.sin(motion.yaw), xp.cos(motion.yaw)
        parts = [part for sensor in self.sensors for part in self._sense(sensor, motion, acceleration, s, c)]
        return xp.stack([value + motion.x * 0 for value in parts]), xp.stack(acceleration)

    def _step(self, start: Motion, now: Motion, ctrl: Any, xp: Any) -> Motion:
        """Take one physics step from `now`, whose position is relative to that of `start`."""
        h = self.timestep

        def slope(at: Motion, implicit: float) -> Motion:
            there = Motion(start.x + at.x, start.y + at.y, start.yaw + at.yaw, *at[3:])
            return Motion(*at[3:], *self._accelerate(there, ctrl, implicit, xp))

        if not self.is_rk4:
            change = slope(now, h if self.damps_implicitly else 0.0)
            velocity = [v + h * a for v, a in zip(now[3:], change[3:], strict=True)]
            return Motion(*(q + h * v for q, v in zip(now[:3], velocity, strict=True)), *velocity)
        first = slope(now, 0.0)
        second = slope(now.plus(first, h / 2), 0.0)
        third = slope(now.plus(second, h / 2), 0.0)
        fourth = slope(now.plus(third, h), 0.0)
        mean = Motion(*((a + 2 * b + 2 * c + d) / 6 for a, b, c, d in zip(first, second, third, fourth, strict=True)))
        return now.plus(mean, h)

    def _accelerate(self, motion: Motion, ctrl: Any, implicit: float, xp: Any) -> tuple[Any, Any, Any]:
        """Accelerations of x, y and yaw by Newton-Euler. implicit: s, over which damping is implicit."""
        s, c = xp.sin(motion.yaw), xp.cos(motion.yaw)
        # kg m, mass times the offset of its centre from the joints, world frame
        px, py = (self.mass * (self.com[0] * c - self.com[1] * s), self.mass * (self.com[0] * s + self.com[1] * c))
        force_x, force_y, torque = self._drive(motion, ctrl, s, c, xp)
        fx = force_x - self.damping[0] * motion.vx + px * motion.rate**2
        fy = force_y - self.damping[1] * motion.vy + py * motion.rate**2
        tz = torque - self.damping[2] * motion.rate
        diagonal = self.inertia + implicit * self.damping
        mx, my, iz = diagonal if isinstance(diagonal, jax.Array) else map(float, diagonal)
        turning = (tz + py * fx / mx - px * fy / my) / (iz - py**2 / mx - px**2 / my)
        return (fx + py * turning) / mx, (fy - px * turning) / my, turning

    def _drive(self, motion: Motion, ctrl: Any, s: Any, c: Any, xp: Any) -> tuple[Any, Any, Any]:
        """Force along the world's x and y, and torque, of all actuators."""
        total_x = total_y = total_z = motion.x * 0
        along, across = motion.vx * c + motion.vy * s, motion.vy * c - motion.vx * s
        for index, actuator in enumerate(self.actuators):
            (bx, by, bz), (wx, wy), (lx, ly, lz) = actuator.in_body, actuator.in_world, actuator.lengths
            velocity = bx * along + by * across + bz * motion.rate + wx * motion.vx + wy * motion.vy
            length = lx * motion.x + ly * motion.y + lz * motion.yaw
            signal = ctrl[index] if actuator.ctrl_range is None else xp.clip(ctrl[index], *actuator.ctrl_range)
            gain, bias = actuator.gain, actuator.bias
            factor = gain[0] + gain[1] * length + gain[2] * velocity
            force = factor * signal + bias[0] + bias[1] * length + bias[2] * velocity
            if actuator.force_range is not None:
                force = xp.clip(force, *actuator.force_range)
            total_x = total_x + force * (bx * c - by * s + wx)
            total_y = total_y + force * (bx * s + by * c + wy)
            total_z = total_z + force * bz
        return total_x, total_y, total_z

    def _sense(self, sensor: _Sensor, motion: Motion, acceleration: tuple, s: Any, c: Any) -> list[Any]:
        """Entries of one sensor. acceleration: of x, y and yaw; s, c: sine and cosine of the heading."""
        kind, joint, pos, axes = sensor
        if kind in _OF_JOINT:
            return [(motion[:3] if kind == _SENSOR.mjSENS_JOINTPOS else motion[3:])[joint]]
        if kind == _SENSOR.mjSENS_TOUCH:
            return [0.0]
        if kind == _SENSOR.mjSENS_SUBTREECOM:
            dx, dy = self.com[0] * c - self.com[1] * s, self.com[0] * s + self.com[1] * c
            return [motion.x + dx, motion.y + dy, self.height + self.com[2]]
        if kind == _SENSOR.mjSENS_GYRO:
            return [axes[2, i] * motion.rate for i in range(3)]
        if kind == _SENSOR.mjSENS_MAGNETOMETER:
            vector = _turn_back(self.magnetic, s, c)
        elif kind == _SENSOR.mjSENS_VELOCIMETER:
            along, across, _ = _turn_back((motion.vx, motion.vy, 0.0), s, c)
            vector = (along - motion.rate * pos[1], across + motion.rate * pos[0], 0.0)
        else:
            along, across, _ = _turn_back((acceleration[0], acceleration[1], 0.0), s, c)
            turning, spin = acceleration[2], motion.rate**2
            vector = (
                along - turning * pos[1] - spin * pos[0],
                across + turning * pos[0] - spin * pos[1],
                self.gravity,
            )
        return [axes[0, i] * vector[0] + axes[1, i] * vector[1] + axes[2, i] * vector[2] for i in range(3)]


def why_no_closed_form(model: mujoco.MjModel) -> str:
    """Return why the robot of a model has no closed form, or an empty text."""
    if model.nv != 3 or [_JOINT(kind) for kind in model.jnt_type] != [_JOINT.mjJNT_SLIDE] * 2 + [_JOINT.mjJNT_HINGE]:
        return "its joints are not two slides and a hinge"
    if not np.array_equal(model.jnt_axis, np.eye(3)):
        return "its joints are not along x, y and about z"
    root = model.body("robot").id
    if np.any(model.body_pos[root, :2]) or not np.array_equal(model.body_quat[root], [1, 0, 0, 0]):
        return "its body is placed beside or turned against its joints"
    for field in _MUST_BE_ZERO:
        if np.any(getattr(model, field)):
            return f"{field} is not zero"
    for field in _MUST_BE_ABSENT:
        if getattr(model, field):
            return f"{field} is not zero"
    if model.opt.density or model.opt.viscosity or np.any(model.opt.wind) or np.any(model.opt.gravity[:2]):
        return "it moves in a fluid, or gravity is not vertical"
    if _INTEGRATOR(model.opt.integrator) not in (_INTEGRATOR.mjINT_EULER, _INTEGRATOR.mjINT_RK4):
        return "its integrator is neither Euler nor RK4"
    switched = model.opt.enableflags or model.opt.disableactuator
    if switched or model.opt.disableflags & ~_HARMLESS:
        return "its options switch something on or off"
    return _odd_actuator(model) or _odd_sensor(model) or _contact(model) or _far_mass(model)


def _odd_actuator(model: mujoco.MjModel) -> str:
    """Return what is wrong with an actuator that the equations do not cover, or an empty text."""
    is_affine = have_affine_forces(model)
    for index in range(model.nactuator):
        transmission = _TRN(model.actuator_trntype[index])
        on_joint = transmission in (_TRN.mjTRN_JOINT, _TRN.mjTRN_JOINTINPARENT)
        on_site = transmission == _TRN.mjTRN_SITE and model.actuator_trnid[index, 1] < 0
        is_single = model.actuator_ctrlnum[index] == 1 and model.actuator_outnum[index] == 1
        if not (is_affine[index] and is_single and (on_joint or on_site)):
            return f"its actuator {model.actuator(index).name!r} is neither a motor nor a servo at a joint or site"
    return ""


def _odd_sensor(model: mujoco.MjModel) -> str:
    """Return what is wrong with a sensor that the equations do not cover, or an empty text."""
    for index, kind in enumerate(map(_SENSOR, model.sensor_type)):
        of_robot = kind != _SENSOR.mjSENS_SUBTREECOM or model.sensor_objid[index] == model.body("robot").id
        if kind not in _SENSORS or not of_robot:
            return f"its sensor {model.sensor(index).name!r} is of another kind"
    return ""


def _contact(model: mujoco.MjModel) -> str:
    """Find a contact of the robot with the floor or itself at any heading. In the plane, distances stay the same."""
    data = mujoco.MjData(model)
    for yaw in np.linspace(0, 2 * np.pi, HEADINGS, endpoint=False):
        data.qpos[:] = 0.3, -0.7, yaw
        mujoco.mj_forward(model, data)
        if data.nefc:
            return "it presses on the floor or on itself"
    return ""


def _far_mass(model: mujoco.MjModel) -> str:
    """Find a mass so far off the joints that single precision loses what inertia it has about its own centre."""
    data, matrix = mujoco.MjData(model), np.zeros((3, 3))
    mujoco.mj_forward(model, data)
    mujoco.mj_fullM(model, data, matrix)
    inertia = matrix[2, 2] - (matrix[0, 2] ** 2 + matrix[1, 2] ** 2) / min(matrix[0, 0], matrix[1, 1])
    return "its centre of mass is too far off its joints" if matrix[2, 2] > MAX_LEVER * inertia else ""


def _constants(model: mujoco.MjModel) -> PlanarRobot:
    """Read the constants of a model that has passed `why_no_closed_form`."""
    data, root, mass_matrix = mujoco.MjData(model), model.body("robot").id, np.zeros((3, 3))
    mujoco.mj_forward(model, data)
    mujoco.mj_fullM(model, data, mass_matrix)
    clamps = not model.opt.disableflags & _DISABLE.mjDSBL_CLAMPCTRL
    sensors = []
    for index, kind in enumerate(map(_SENSOR, model.sensor_type)):
        joint, pos, axes, obj = -1, np.zeros(3), np.eye(3), int(model.sensor_objid[index])
        if kind in _AT_SITE:
            pos, axes = data.site_xpos[obj] - data.xpos[root], data.site_xmat[obj].reshape(3, 3).copy()
        elif kind in _OF_JOINT:
            joint = obj
        sensors.append(_Sensor(kind, joint, pos, axes))
    return PlanarRobot(
        mass=float(model.body_subtreemass[root]),
        com=data.subtree_com[root] - data.xpos[root],
        inertia=np.diag(mass_matrix).copy(),
        damping=model.dof_damping.reshape(3).copy(),
        timestep=float(model.opt.timestep),
        damps_implicitly=not model.opt.disableflags & _DISABLE.mjDSBL_EULERDAMP,
        is_rk4=_INTEGRATOR(model.opt.integrator) == _INTEGRATOR.mjINT_RK4,
        gravity=-float(model.opt.gravity[2]),
        height=float(data.xpos[root, 2]),
        actuators=tuple(_actuator(model, data, index, clamps) for index in range(model.nactuator)),
        sensors=tuple(sensors),
        magnetic=np.array(model.opt.magnetic),
    )


def _actuator(model: mujoco.MjModel, data: mujoco.MjData, index: int, clamps: bool) -> _Actuator:
    gear, target = model.actuator_gear[index], model.actuator_trnid[index, 0]
    in_body, in_world, lengths = np.zeros(3), np.zeros(2), np.zeros(3)
    if _TRN(model.actuator_trntype[index]) == _TRN.mjTRN_SITE:
        axes, root = data.site_xmat[target].reshape(3, 3), model.body("robot").id
        force, place = axes @ gear[:3], data.site_xpos[target] - data.xpos[root]
        in_body[:2], in_body[2] = force[:2], (axes @ gear[3:])[2] + place[0] * force[1] - place[1] * force[0]
    else:
        lengths[target] = gear[0]
        (in_world if target < 2 else in_body)[target] = gear[0]
    gain, bias = model.actuator_gainprm[index, :3].copy(), model.actuator_biasprm[index, :3].copy()
    if _GAIN(model.actuator_gaintype[index]) == _GAIN.mjGAIN_FIXED:
        gain[1:] = 0
    if _BIAS(model.actuator_biastype[index]) == _BIAS.mjBIAS_NONE:
        bias[:] = 0
    limits = {"ctrl": model.actuator_ctrllimited[index] and clamps, "force": model.actuator_forcelimited[index]}
    ranges = {name: getattr(model, f"actuator_{name}range")[index] for name in limits}
    ctrl_range, force_range = (
        (float(ranges[name][0]), float(ranges[name][1])) if limited else None for name, limited in limits.items()
    )
    return _Actuator(in_body, in_world, lengths, gain, bias, ctrl_range, force_range)


def _largest_error(robot: PlanarRobot, model: mujoco.MjModel) -> float:
    """Compare the equations with the C engine: largest error of coordinates, relative for large ones."""
    rng, data, worst = np.random.default_rng(0), mujoco.MjData(model), 0.0
    for _ in range(CHECK_TRIALS):
        start, ctrl = rng.normal(size=6) * SCALE, rng.uniform(-1.5, 1.5, model.nu)
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:], data.ctrl[:] = start[:3], start[3:], ctrl
        with no_warnings(), np.errstate(all="ignore"):  # of a robot that blows up, which the engine may have
            mujoco.mj_step(model, data, CHECK_STEPS)
            motion, _ = robot.advance(Motion(*start), ctrl, CHECK_STEPS, None, np)
            expected = np.concatenate([data.qpos, data.qvel])
            worst = max(worst, float(np.max(np.abs(np.array(motion) - expected) / (1 + np.abs(expected)))))
    return worst if np.isfinite(worst) else np.inf


def _turn_back(vector: Any, s: Any, c: Any) -> tuple[Any, Any, Any]:
    """Rotate a vector from world frame to body frame."""
    x, y, z = vector
    return x * c + y * s, y * c - x * s, z
