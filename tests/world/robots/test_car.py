"""The Car's model against the numbers and recordings of safety-gymnasium 1.0.0."""

import itertools

import mujoco
import numpy as np
import pytest

from mjx_safety.world.robots.car import CAR, Car

from .bare_robot import BareRobot, Recording, worst_errors

# body: mass (kg), principal inertia (kg m^2)
BODIES = {
    "robot": (0.0239, (2.2844207e-4, 1.7390058e-4, 9.4811844e-5)),
    "left": (0.00196349541, (1.6362462e-6, 1.6362462e-6, 2.4543693e-6)),  # last: about the wheel's axis
    "right": (0.00196349541, (1.6362462e-6, 1.6362462e-6, 2.4543693e-6)),
    "rear": (0.00261799388, (2.6179939e-6,) * 3),
}

# action, step -> values from rest at yaw 0
CHECK_VALUES = {
    ((1, 1), 1): {"pos": (-0.00022121921, -0.0067322805, 0.099702229), "wheels": (0.52124081, 0.51896466)},
    ((1, 1), 5): {"pos": (-0.00046760536, -0.10438068, 0.099744386), "wheel_rates": (18.080418, 16.959026)},
    ((0.01, -0.005), 1): {"pos": (0.0010078017, -0.00079099472, 0.099866996), "yaw_rate": 0.72318332},
    ((0.01, -0.005), 5): {"pos": (0.0092760453, -0.0045568731, 0.099867351)},
    ((0.01, -0.005), 20): {
        "pos": (0.040199014, -0.0028628142, 0.099824293),
        "quat": (0.96066409, -1.1258e-5, -1.0229e-4, 0.27771299),
    },
}
START_ACCELERATIONS = (0.0, 4.289, 9.529)  # m/s^2, upwards: rounding decides which contacts count


@pytest.fixture(scope="module")
def car():
    return BareRobot(CAR)


@pytest.fixture(scope="module")
def recording():
    return Recording("CarGoal0")


@pytest.mark.parametrize("body", BODIES)
def test_masses_and_inertias(car, body):
    mass, inertia = BODIES[body]
    assert car.model.body(body).mass == pytest.approx(mass, rel=2e-9)
    np.testing.assert_allclose(car.model.body(body).inertia, inertia, rtol=3e-8)


def test_the_root_body_is_balanced_as_the_references(car):
    root = car.model.body("robot")
    assert root.subtreemass == pytest.approx(0.0304449847, rel=2e-9)
    np.testing.assert_allclose(root.ipos, [0, 0.0039539749, 0.0010041841], atol=1e-10)
    np.testing.assert_allclose(root.iquat, [0.50598051, 0.49394708, -0.49394708, 0.50598051], atol=1e-8)
    assert root.pos[2] == CAR.start_height == 0.1


def test_sizes_and_order_of_the_coordinates(car):
    model = car.model
    assert (model.nq, model.nv, model.nu) == (13, 11, 2)
    assert [model.joint(name).qposadr[0] for name in ("left", "right", "rear")] == [7, 8, 9]
    np.testing.assert_array_equal(model.dof_damping, [0] * 6 + [0.001] * 5)
    for free in (model.jnt_stiffness, model.dof_armature, model.dof_frictionloss, model.jnt_limited):
        np.testing.assert_array_equal(free, 0)


def test_settings_of_the_physics(car):
    model = car.model
    assert model.opt.timestep == 0.004 and model.opt.integrator == mujoco.mjtIntegrator.mjINT_EULER
    np.testing.assert_array_equal(model.geom_condim, 6)
    np.testing.assert_array_equal(model.geom_friction, np.tile([1, 0.005, 0.0001], (model.ngeom, 1)))
    assert (model.geom_contype == 1).all() and (model.geom_conaffinity == 1).all()


@pytest.mark.parametrize("command, torque", [(0.01, 0.01), (-0.005, -0.005), (0.5, 0.02), (-9.0, -0.02)])
@pytest.mark.parametrize("action, wheel", [(0, "left"), (1, "right")])
def test_actions_are_torques_of_the_wheels_up_to_a_limit(car, action, wheel, command, torque):
    car.restart()
    car.data.ctrl[action] = command
    mujoco.mj_forward(car.model, car.data)
    expected = np.zeros(car.model.nv)
    expected[car.model.joint(wheel).dofadr[0]] = torque
    np.testing.assert_allclose(car.data.qfrc_actuator, expected, atol=1e-15)
    np.testing.assert_array_equal(car.model.actuator(action).ctrlrange, [-1, 1])


def test_observed_sensors_are_the_references(car, recording):
    sizes = [car.model.sensor(name).dim[0] for name in CAR.sensors]
    assert sizes == [3, 3, 3, 3, 3, 4]
    assert [*CAR.sensors, "goal_lidar"] == list(recording.obs_slices)
    car.restart()
    where = [car.observe(name).size for name in CAR.sensors]
    assert where == [span.stop - span.start for span in recording.obs_slices.values()][:-1]


def test_a_car_is_a_car_with_other_settings():
    assert Car(keepout=0.5).keepout == 0.5 and Car(keepout=0.5).xml == CAR.xml


@pytest.mark.parametrize("action, step", CHECK_VALUES)
def test_check_values_of_the_reference(car, action, step):
    car.restart()
    car.step(action, step)
    expected = CHECK_VALUES[action, step]
    np.testing.assert_allclose(car.data.qpos[:3], expected["pos"], atol=5e-7)
    for name, actual in (("quat", car.data.qpos[3:7]), ("wheels", car.data.qpos[7:9])):
        np.testing.assert_allclose(actual, expected.get(name, actual), atol=5e-7, err_msg=name)
    for name, actual in (("wheel_rates", car.data.qvel[6:8]), ("yaw_rate", car.data.qvel[5])):
        np.testing.assert_allclose(actual, expected.get(name, actual), rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("yaw", np.linspace(0, 2 * np.pi, 7)[:-1])
def test_at_rest_it_sinks_in_a_little(car, yaw):
    car.restart(yaw)
    car.step((0, 0), 10)
    assert car.data.qpos[2] == pytest.approx(0.0998861, abs=6e-8)
    np.testing.assert_allclose(car.sensor("accelerometer"), [0, 0.0039, 9.81], atol=6e-5)
    np.testing.assert_allclose(car.sensor("velocimeter"), 0, atol=1e-5)
    np.testing.assert_allclose(car.sensor("ballquat_rear")[0], 1, atol=1e-5)


def test_rounding_decides_what_the_accelerometer_reads_at_the_start(car):
    seen = set()
    for yaw in np.linspace(0, 2 * np.pi, 30):
        car.restart(yaw)
        distance = np.abs(np.subtract(START_ACCELERATIONS, car.sensor("accelerometer")[2]))
        assert distance.min() < 1e-3
        seen.add(int(distance.argmin()))
        assert np.abs(car.data.contact.dist).max(initial=0) < 1e-16
    assert len(seen) > 1
    car.restart()
    assert car.sensor("accelerometer")[2] == pytest.approx(4.289, abs=1e-3)


def test_equal_torques_drive_it_towards_minus_y(car):
    car.restart()
    speeds = []
    for _ in range(200):
        car.step((1, 1))
        speeds.append(-car.sensor("velocimeter")[1])
    assert np.mean(speeds[100:]) == pytest.approx(0.78, abs=0.02)
    assert np.min(speeds[20:]) > 0.6


def test_sensors_of_posed_worlds_are_the_references(car, recording):
    errors = worst_errors(car, recording, recording.static, lambda row: car.pose(recording.static, row))
    assert len(errors["gyro"]) == 48
    for name in set(CAR.sensors) - {"accelerometer"}:  # the wheels stand on the floor at zero distance: see below
        assert errors[name].max() <= 1e-6, name


def test_accelerations_of_posed_worlds_are_those_of_some_of_the_contacts(car, recording):
    """Every row is explained to 1e-4 by one choice of which of the five tangent contacts press."""
    for row, obs in enumerate(recording.static["obs"]):
        car.pose(recording.static, row)
        errors = np.abs(_accelerations(car) - obs[recording.obs_slices["accelerometer"]]).max(axis=-1)
        assert errors.min() <= 1e-4, row


def _accelerations(car):
    """The accelerometer for every choice of the contacts that press, [32, 3] m/s^2. The car stands at 0.1 m."""
    model, data = car.model, car.data
    whole, data.qpos[2] = model.opt.disableflags, 0.1 - 1e-8
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_ISLAND
    rows = []
    for chosen in itertools.product((False, True), repeat=5):
        mujoco.mj_fwdPosition(model, data)
        assert data.ncon == 5
        for contact, presses in zip(data.contact, chosen, strict=True):
            contact.exclude = 0 if presses else 1
        for stage in ("makeConstraint", "projectConstraint", "fwdVelocity", "fwdActuation", "fwdAcceleration"):
            getattr(mujoco, f"mj_{stage}")(model, data)
        for stage in ("fwdConstraint", "rnePostConstraint", "sensorAcc"):
            getattr(mujoco, f"mj_{stage}")(model, data)
        rows.append(car.sensor("accelerometer"))
    model.opt.disableflags = whole
    return np.array(rows)


def test_steps_are_the_references(car, recording):
    started = recording.before["time"] == 0
    assert started.sum() == 4 and (~started).sum() == 116
    moved = []

    def step(row):
        car.pose(recording.before, row)
        car.step(recording.action[row])
        parts = {"root_pos": car.data.qpos[:3], "root_quat": car.data.qpos[3:7], "joint_qpos": car.data.qpos[7:]}
        moved.append({name: np.abs(part - recording.after[name][row]).max() for name, part in parts.items()})

    errors = worst_errors(car, recording, recording.after, step)
    position = np.array([row["root_pos"] for row in moved])
    assert position[~started].max() <= 1e-6
    assert position[started].max() <= 2e-3  # rounding decides which contacts press at first
    for name in ("root_quat", "joint_qpos"):
        assert np.array([row[name] for row in moved])[~started].max() <= 1e-5, name
    for name, rows in errors.items():
        assert rows[~started].max() <= (1e-3 if name == "accelerometer" else 1e-4), name
