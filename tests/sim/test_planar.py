"""The planar robot in closed form, held against the C engine in double precision."""

import dataclasses

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import mjx_safety
from mjx_safety import EnvConfig, Pillars, Randomize
from mjx_safety.sim.engines.alone import closed_form
from mjx_safety.sim.planar import Motion, PlanarRobot, why_no_closed_form
from mjx_safety.sim.relevance.slots import Nearby
from mjx_safety.sim.scene import build_scene
from mjx_safety.world.robots.point import POINT

STEPS = 10


def closed_form_of(config):
    return mjx_safety.make(config, physics="mujoco").physics._closed_form


def slow_servo(spec):
    spec.actuators[1].gainprm[0], spec.actuators[1].biasprm[2] = 0.01, -0.01


def model_of(change=lambda spec: None):
    """The Point alone on the floor, with a change to its MJCF."""
    spec = mujoco.MjSpec.from_file(POINT.xml)
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[3, 3, 0.1], condim=6, name="floor")
    spec.option.magnetic = [0.1, -0.5, 0.2]
    change(spec)
    return spec.compile()


def heavy(spec):
    spec.geom("pointarrow").density = 7
    spec.geom("pointarrow").pos = [0.13, 0.04, 0.01]


def far_mass(spec):
    spec.geom("pointarrow").density, spec.geom("pointarrow").pos = 2000, [0.4, 0.3, 0.01]


def damped(spec):
    for joint, damping in zip(spec.joints, (0.03, 0.07, 0.02), strict=True):
        joint.damping[0] = damping


def with_armature(spec):
    for joint, armature in zip(spec.joints, (1e-3, 2e-3, 3e-4), strict=True):
        joint.armature = armature


def other_motors(spec):
    motor, servo = spec.actuators
    motor.gear, motor.forcerange = [0.2, -0.1, 0, 0, 0, 0.05], [-0.03, 0.07]
    servo.gear[0], servo.gainprm[0], servo.biasprm[2] = 0.5, 0.4, -0.4


def position_servo(spec):
    spec.actuators[1].biasprm = [0.01, -0.2, -0.05, *[0] * 7]
    spec.actuators[1].forcerange = [-2, 2]


def motor_on_a_slide(spec):
    spec.add_actuator(
        name="push", target="y", trntype=mujoco.mjtTrn.mjTRN_JOINT, gear=[0.01, 0, 0, 0, 0, 0], ctrlrange=[-1, 1]
    )


def turned_site(spec):
    site = spec.site("robot")
    site.pos, site.quat = [0.05, -0.02, 0.03], [0.9, 0.1, -0.2, 0.3]


def second_body(spec):
    body = spec.body("robot").add_body(name="tail", pos=[-0.12, 0.05, 0.02])
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.03, 0.02, 0.02], density=3)


def more_sensors(spec):
    for kind, joint in (("JOINTPOS", "z"), ("JOINTVEL", "x")):
        spec.add_sensor(
            name=f"{kind}_{joint}",
            type=getattr(mujoco.mjtSensor, f"mjSENS_{kind}"),
            objtype=mujoco.mjtObj.mjOBJ_JOINT,
            objname=joint,
        )
    spec.add_sensor(
        name="com", type=mujoco.mjtSensor.mjSENS_SUBTREECOM, objtype=mujoco.mjtObj.mjOBJ_BODY, objname="robot"
    )
    spec.add_sensor(name="touch", type=mujoco.mjtSensor.mjSENS_TOUCH, objtype=mujoco.mjtObj.mjOBJ_SITE, objname="robot")


def arm(spec):
    body = spec.body("robot").add_body(name="arm", pos=[0, 0, 0.2])
    body.add_joint()
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.03, 0.02, 0.02])


def unclamped(spec):
    spec.option.disableflags = int(mujoco.mjtDisableBit.mjDSBL_CLAMPCTRL)
    spec.actuators[0].forcerange = [-2, 2]


def other_option(**options):
    def change(spec):
        for name, value in options.items():
            setattr(spec.option, name, value)

    return change


CHANGES = {
    "none": lambda spec: None,
    "mass and its place": heavy,
    "damping": damped,
    "armature": with_armature,
    "motors": other_motors,
    "a servo that holds a heading": position_servo,
    "a motor on a slide": motor_on_a_slide,
    "a site elsewhere": turned_site,
    "a second body": second_body,
    "sensors": more_sensors,
    "time step": other_option(timestep=0.0007),
    "explicit damping": other_option(disableflags=int(mujoco.mjtDisableBit.mjDSBL_EULERDAMP)),
    "RK4": other_option(integrator=int(mujoco.mjtIntegrator.mjINT_RK4)),
    "unclamped controls": unclamped,
}


def in_c(model, start, ctrl, steps):
    """Coordinates and sensors of the final state, and the farthest distance from the start."""
    data, farthest = mujoco.MjData(model), 0.0
    data.qpos[:], data.qvel[:], data.ctrl[:] = start[:3], start[3:], ctrl
    for _ in range(steps):
        mujoco.mj_step(model, data)
        farthest = max(farthest, np.linalg.norm(data.qpos[:2] - start[:2]))
    mujoco.mj_forward(model, data)
    return np.concatenate([data.qpos, data.qvel]), data.sensordata.copy(), farthest


@pytest.mark.parametrize("name", CHANGES)
def test_it_moves_and_senses_as_in_c(name):
    model = model_of(CHANGES[name])
    robot, rng = PlanarRobot.derive(model), np.random.default_rng(3)
    for _ in range(10):
        start, ctrl = rng.normal(size=6) * (2, 2, 3, 1, 1, 4), rng.uniform(-1.3, 1.3, model.nu)
        expected, sensors, farthest = in_c(model, start, ctrl, STEPS)
        motion, excursion = robot.advance(Motion(*start), ctrl, STEPS, None, np)
        np.testing.assert_allclose(motion, expected, atol=1e-11, rtol=1e-11)
        np.testing.assert_allclose(robot.read(motion, ctrl, np)[0], sensors, atol=1e-9, rtol=1e-9)
        assert excursion == pytest.approx(farthest, abs=1e-12)


def test_every_change_matters():
    """Else the test above would show nothing."""
    start, ctrl = np.array([0.3, 0.2, 1.0, 0.5, -0.4, 3.0]), np.array([1.2, -0.9])
    plain = in_c(model_of(), start, ctrl, STEPS)
    for name, change in CHANGES.items():
        model = model_of(change)
        found = in_c(model, start, np.append(ctrl, [1.0] * (model.nu - 2)), STEPS)
        if name != "none":
            same = len(found[1]) == len(plain[1]) and np.allclose(found[1], plain[1], atol=1e-9)
            assert not (same and np.allclose(found[0], plain[0], atol=1e-9)), name


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        (lambda spec: spec.joint("z").__setattr__("stiffness", [1.0, 0, 0]), "jnt_stiffness"),
        (lambda spec: spec.joint("x").__setattr__("frictionloss", 0.1), "dof_frictionloss"),
        (
            lambda spec: (spec.joint("x").__setattr__("range", [-1, 1]), spec.joint("x").__setattr__("limited", 1)),
            "limited",
        ),
        (lambda spec: spec.joint("z").__setattr__("pos", [0.1, 0, 0]), "jnt_pos"),
        (lambda spec: spec.joint("z").__setattr__("axis", [0, 0, -1]), "not along"),
        (lambda spec: spec.body("robot").__setattr__("pos", [0.1, 0, 0.1]), "beside"),
        (lambda spec: spec.body("robot").__setattr__("pos", [0, 0, 0.05]), "presses"),
        (lambda spec: spec.option.__setattr__("density", 1.2), "fluid"),
        (lambda spec: spec.option.__setattr__("gravity", [0, 1, -9.81]), "gravity"),
        (other_option(integrator=int(mujoco.mjtIntegrator.mjINT_IMPLICITFAST)), "integrator"),
        (other_option(disableflags=int(mujoco.mjtDisableBit.mjDSBL_ACTUATION)), "switch"),
        (lambda spec: spec.actuators[0].__setattr__("dyntype", mujoco.mjtDyn.mjDYN_FILTER), "na is not zero"),
        (arm, "two slides"),
        (far_mass, "too far off"),
        (lambda spec: spec.sensors[0].__setattr__("cutoff", 1.0), "sensor_cutoff"),
    ],
)
def test_what_is_not_covered_is_refused(change, culprit):
    model = model_of(change)
    with pytest.raises(ValueError, match=f"closed form.*({culprit})"):
        PlanarRobot.derive(model)


def test_equations_that_do_not_fit_the_model_are_noticed(monkeypatch):
    """The last guard, against what a later MuJoCo may add: they are tried on the C engine."""
    monkeypatch.setattr(PlanarRobot, "_drive", lambda self, motion, ctrl, s, c, xp: (0.0, 0.0, 0.0))
    assert why_no_closed_form(model_of()) == ""
    with pytest.raises(ValueError, match="moves otherwise"):
        PlanarRobot.derive(model_of())


def test_in_single_precision_and_with_fewer_steps():
    scene = build_scene(POINT, {}, engine="mujoco")
    form, model = closed_form(Nearby(full=scene, near=scene)), scene.model
    rng = np.random.default_rng(0)
    starts = (rng.normal(size=(64, 6)) * (2, 2, 3, 1, 1, 4)).astype(np.float32)
    ctrls, nums = rng.uniform(-1, 1, (64, 2)).astype(np.float32), rng.integers(0, STEPS + 1, 64)

    def run(start, ctrl, num):
        motion, _ = form.robot.advance(Motion(*start), ctrl, STEPS, num, jnp)
        return jnp.stack(motion)

    found = jax.jit(jax.vmap(run))(starts, ctrls, nums)
    assert found.dtype == jnp.float32
    expected = [in_c(model, *args)[0] for args in zip(starts.astype(float), ctrls.astype(float), nums, strict=True)]
    np.testing.assert_allclose(found[:, :5], np.array(expected)[:, :5], atol=2e-6)
    np.testing.assert_allclose(found[:, 5], np.array(expected)[:, 5], atol=2e-4)  # the servo is unstable on purpose


def test_where_rounding_shows_the_c_engine_steps():
    """Its unstable servo amplifies rounding 1500 times in 20 steps. Far away, single precision resolves too little."""
    config = EnvConfig(hazards=None, vases=None, pillars=Pillars(num=1, locations=((3.0, 3.0),)))

    def gap(frameskip, away, yaw=0.0):
        """Largest difference of the positions of 256 worlds from the reference's, m."""
        envs = [
            mjx_safety.make(dataclasses.replace(config, frameskip=frameskip), physics="mujoco", accuracy=accuracy)
            for accuracy in ("fast", "reference")
        ]
        state = jax.jit(jax.vmap(envs[0].reset))(jax.random.split(jax.random.key(0), 256))
        speed = 2 * jax.random.normal(jax.random.key(1), (256, 3))
        qpos = state.data.qpos.at[:, :3].add(jnp.array([away, away, yaw]))
        state = state.replace(data=state.data.replace(qpos=qpos, qvel=state.data.qvel.at[:, :3].set(speed)))
        actions = jax.random.uniform(jax.random.key(2), (256, 2), minval=-1.0, maxval=1.0)
        fast, reference = (jax.jit(jax.vmap(env.step))(state, actions).data.qpos[:, :2] for env in envs)
        return jnp.abs(fast - reference).max()

    assert 10 <= closed_form_of(config).max_exact_substeps < 20
    assert gap(20, 0.0) == 0.0  # m: the same solver
    assert gap(10, 0.0) < 1e-6
    assert gap(10, 200.0) == 0.0
    assert gap(10, 0.0, yaw=5000.0) == 0.0


def test_worlds_that_are_driven_too_hard_for_single_precision_step_in_c():
    """Three times the gain on a third of the mass: the servo then amplifies rounding far more."""
    randomize = Randomize(gain=(3.0, 3.0), mass=(0.3, 0.3))
    envs = [
        mjx_safety.make(EnvConfig(hazards=None, vases=None, randomize=randomize), physics="mujoco", accuracy=accuracy)
        for accuracy in ("fast", "reference")
    ]
    state = jax.jit(jax.vmap(envs[0].reset))(jax.random.split(jax.random.key(0), 64))
    state = state.replace(data=state.data.replace(qvel=state.data.qvel.at[:, :3].set(jnp.array([1.0, 0.5, 2.0]))))
    actions = jax.random.uniform(jax.random.key(1), (64, 2), minval=-1.0, maxval=1.0)
    fast, reference = (jax.jit(jax.vmap(env.step))(state, actions) for env in envs)
    np.testing.assert_array_equal(fast.data.qpos[:, :3], reference.data.qpos[:, :3])


def test_a_stable_robot_stays_exact():
    assert PlanarRobot.derive(model_of(slow_servo)).max_exact_substeps() == np.inf
