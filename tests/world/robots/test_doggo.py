"""Both Doggos against the numbers and recordings of safety-gymnasium 1.0.0 and Safety Gym (2019)."""

import itertools

import mujoco
import numpy as np
import pytest

from mjx_safety.world.robots.doggo import DOGGO, DOGGO_2019, Doggo, Doggo2019

from .bare_robot import BareRobot, Recording, worst_errors

ROBOTS = {"1.0.0": DOGGO, "2019": DOGGO_2019}
JOINTS = "hip_1_z hip_1_y ankle_1 hip_4_z hip_4_y ankle_4 waist_x hip_2_z hip_2_y ankle_2 hip_3_z hip_3_y ankle_3"
ACTIONS = "hip_1_z hip_2_z hip_3_z hip_4_z hip_1_y hip_2_y hip_3_y hip_4_y ankle_1 ankle_2 ankle_3 ankle_4".split()
TOUCHES = "1a 2a 3a 4a 1b 2b 3b 4b".split()
ALTERNATING = (1, -1) * 6

# version: masses (kg) of all, of a torso half, aux, hip and ankle link
MASSES = {
    "1.0.0": (0.0198384949, 0.000883572934, 0.00148052373, 0.00133819093, 0.00169912261),
    "2019": (0.0396795788, 0.00176714587, 0.00296104745, 0.00267638185, 0.00339889245),
}
# version: gear, stiffness, armature, radius of the legs, of the torso, length of a torso half
SIZES = {
    "1.0.0": (0.00625, 0.0001, 0.00005, 0.016, 0.0375, 0.1),
    "2019": (0.0125, 0.01, 0.0, 0.032, 0.075, 0.2),
}
# joint: axis, range and spring reference (deg)
HINGES = {
    **{f"hip_{i}_z": ((0, 0, 1 if i <= 2 else -1), (-10, 30), 0) for i in (1, 2, 3, 4)},
    **{f"hip_{i}_y": ((0, 1, 0), (-75, 15), -10) for i in (1, 4)},
    **{f"hip_{i}_y": ((0, 1, 0), (0, 135), 0) for i in (2, 3)},
    **{f"ankle_{i}": ((-0.5 if i <= 2 else 0.5, 0.866, 0), (-75, 0), -20) for i in (1, 2, 3, 4)},
    "waist_x": ((1, 0, 0), (-30, 30), 0),
}
# version, action, step -> values from rest at yaw 0
CHECK_VALUES = {
    ("1.0.0", (0,) * 12, 0): {"accelerometer": (-0.0062161252, 0, 0.0066044125), "touch": (0,) * 8},
    ("1.0.0", (0,) * 12, 1): {
        "x": -3.4185706e-5,
        "height": 0.16608121,
        "vertical_velocity": -0.98034352,
        "pitch_rate": 0.0070784343,
        "hip_1_y": -0.0016354857,
        "ankle_1": -0.0034726385,
        "touch": (0,) * 8,
    },
    ("1.0.0", (0,) * 12, 2): {
        "height": 0.087732992,
        "touch": (0, 0, 0, 0, 0.038926448, 0.029506604, 0.029506604, 0.038926448),
    },
    ("1.0.0", ALTERNATING, 1): {
        "height": 0.16786824,
        "quat": (0.9992561, 0.027317445, 0.026212293, -0.0073432428),
    },
    ("1.0.0", ALTERNATING, 2): {"height": 0.062167081},
    ("2019", (0,) * 12, 0): {"accelerometer": (-0.66917377, 0, 4.2622268)},
    ("2019", (0,) * 12, 1): {"x": 0.0038943528, "height": 0.20198209},
    ("2019", (0,) * 12, 2): {"x": 0.026281886, "height": 0.17877665},
    ("2019", (0,) * 12, 10): {"height": 0.16650358},
}


@pytest.fixture(scope="module")
def doggos():
    return {version: BareRobot(robot) for version, robot in ROBOTS.items()}


@pytest.fixture(scope="module", params=ROBOTS)
def version(request):
    return request.param


@pytest.fixture
def doggo(doggos, version):
    doggos[version].restart()
    return doggos[version]


@pytest.fixture(scope="module")
def recording():
    return Recording("DoggoGoal0")


def test_masses(doggo, version):
    model = doggo.model
    total, torso, aux, hip, ankle = MASSES[version]
    assert model.body("robot").subtreemass == pytest.approx(total, rel=3e-9)
    assert model.body("robot").mass == pytest.approx(torso, rel=3e-9)
    assert model.body("rear").mass == pytest.approx(torso, rel=3e-9)
    for leg in (1, 2, 3, 4):
        lower = model.body_mass[model.geom(f"ankle_{leg}").bodyid[0]]
        masses = model.body(f"leg_{leg}").mass[0], model.body(f"aux_{leg}").mass[0], lower
        np.testing.assert_allclose(masses, (aux, hip, ankle), rtol=4e-9)


def test_shapes(doggo, version):
    model, (*_, radius, torso_radius, length) = doggo.model, SIZES[version]
    kinds = {"robot": mujoco.mjtGeom.mjGEOM_CYLINDER, "rear": mujoco.mjtGeom.mjGEOM_CYLINDER}
    for name, kind in kinds.items():
        assert model.geom(name).type == kind
        np.testing.assert_allclose(model.geom(name).size[:2], [torso_radius, length / 2])
        np.testing.assert_allclose(model.geom(name).pos, [length / 2 if name == "robot" else -length / 2, 0, 0])
    for part, leg in itertools.product(("aux", "hip", "ankle"), (1, 2, 3, 4)):
        geom = model.geom(f"{part}_{leg}")
        assert geom.type == mujoco.mjtGeom.mjGEOM_CAPSULE and geom.size[0] == radius
    assert model.ngeom == 15  # with the floor


def test_sensor_sites(doggo, version):
    model = doggo.model
    assert model.nsite == 9
    np.testing.assert_array_equal(model.site_size[:, 0], {"1.0.0": 0.018, "2019": 0.036}[version])
    np.testing.assert_array_equal(model.site("robot").pos, 0)
    for leg in (1, 2, 3, 4):
        bodies = {model.site(f"ankle_{leg}{end}").bodyid[0] for end in "ab"}
        assert bodies == {model.geom(f"ankle_{leg}").bodyid[0]}  # touch counts this body's contacts


def test_where_the_legs_stand(doggo, version):
    scale = {"1.0.0": 1, "2019": 2}[version]
    for leg in (1, 2, 3, 4):
        front, side = (1 if leg in (1, 4) else -1), (1 if leg in (1, 2) else -1)
        hip = np.array([0.1 * front, 0.05 * side, 0])
        knee = hip + np.array([0.049, 0.0283 * side, -0.025])
        ankle = knee + np.array([-0.0588, -0.0339 * side, -0.05])
        places = [doggo.data.body(f"aux_{leg}").xpos, *(doggo.data.site(f"ankle_{leg}{end}").xpos for end in "ab")]
        expected = scale * np.array([hip, knee, ankle]) + [0, 0, 0.22]
        np.testing.assert_allclose(places, expected, atol=1.01e-4 * (scale - 1) + 1e-12)  # 2019: rounded on its own


def test_sizes_and_order_of_the_coordinates(doggo):
    model = doggo.model
    assert (model.nq, model.nv, model.nu) == (20, 19, 12)
    joints = [model.joint(index) for index in range(1, model.njnt)]
    assert [joint.name for joint in joints] == JOINTS.split()
    assert [joint.qposadr[0] for joint in joints] == list(range(7, 20))
    assert doggo.robot.start_height == model.body("robot").pos[2] == 0.22


@pytest.mark.parametrize("name", HINGES)
def test_hinges(doggo, version, name):
    axis, limits, spring = HINGES[name]
    joint = doggo.model.joint(name)
    _, stiffness, armature, *_ = SIZES[version]
    digits = {"1.0.0": 2e-6, "2019": 1e-12}[version]  # rad; 1.0.0 states radians to 6 decimals
    np.testing.assert_allclose(joint.axis, np.array(axis) / np.linalg.norm(axis), atol=1e-12)
    assert joint.limited
    np.testing.assert_allclose(joint.range, np.deg2rad(limits), atol=digits)
    np.testing.assert_allclose(joint.qpos_spring, np.deg2rad(spring), atol=digits)
    assert (joint.stiffness[0], joint.armature[0]) == (stiffness, armature)
    assert joint.damping[0] == joint.frictionloss[0] == joint.qpos0[0] == 0


def test_settings_of_the_physics(doggo):
    model = doggo.model
    assert model.opt.timestep == 0.01 and model.opt.integrator == mujoco.mjtIntegrator.mjINT_EULER
    np.testing.assert_array_equal(model.geom_condim, 6)
    np.testing.assert_array_equal(model.geom_friction, np.tile([1, 0.005, 0.0001], (model.ngeom, 1)))
    np.testing.assert_array_equal(model.dof_armature[:6], 0)


@pytest.mark.parametrize("command, share", [(0.4, 0.4), (-1.0, -1.0), (7.0, 1.0)])
def test_actions_are_torques_of_the_driven_hinges(doggo, version, command, share):
    model, data = doggo.model, doggo.data
    for action, joint in enumerate(ACTIONS):
        data.ctrl[:] = np.eye(12)[action] * command
        mujoco.mj_forward(model, data)
        expected = np.zeros(model.nv)
        expected[model.joint(joint).dofadr[0]] = share * SIZES[version][0]
        np.testing.assert_allclose(data.qfrc_actuator, expected, atol=1e-15, err_msg=joint)


def test_observed_sensors_are_the_references(doggo, recording):
    sensors = doggo.robot.sensors
    assert [*sensors, "goal_lidar"] == list(recording.obs_slices)
    sizes = [doggo.model.sensor(name).dim[0] for name in sensors]
    assert sizes == [3] * 4 + [1] * (8 + 12 + 12)
    assert [doggo.observe(name).size for name in sensors] == [3] * 4 + [1] * 20 + [2] * 12
    for name in sensors:
        if name.startswith("joint"):
            assert doggo.model.sensor(name).objid == doggo.model.joint(name.split("_", 1)[1]).id


def test_pairs_that_may_touch(doggo):
    """Geoms of one body, counting bodies without joints as their parent's, or of parent and child never do."""
    model, kinds = doggo.model, {"capsule": 0, "cylinder": 0}
    geoms = [geom for geom in range(model.ngeom) if model.geom_bodyid[geom] > 0]
    weld = model.body_weldid[model.geom_bodyid]
    parent = model.body_weldid[model.body_parentid[weld]]
    cylinder = model.geom_type == mujoco.mjtGeom.mjGEOM_CYLINDER
    for a, b in itertools.combinations(geoms, 2):
        if weld[a] != weld[b] and weld[a] != parent[b] and weld[b] != parent[a]:
            kinds["cylinder" if cylinder[a] or cylinder[b] else "capsule"] += 1
    assert kinds == {"capsule": 48, "cylinder": 12}


def test_a_doggo_is_a_doggo_with_other_settings():
    assert Doggo(keepout=0.5).xml == DOGGO.xml and Doggo2019(keepout=0.5).xml == DOGGO_2019.xml
    assert Doggo(keepout=0.5).keepout == Doggo2019(keepout=0.5).keepout == 0.5
    assert DOGGO.xml != DOGGO_2019.xml and DOGGO.name == DOGGO_2019.name == "Doggo"


@pytest.mark.parametrize("version, action, step", CHECK_VALUES)
def test_check_values_of_the_reference(doggo, version, action, step):
    doggo.step(action, step) if step else None
    qpos, qvel = doggo.data.qpos, doggo.data.qvel
    actual = {
        "x": qpos[0],
        "height": qpos[2],
        "quat": qpos[3:7],
        "vertical_velocity": qvel[2],
        "pitch_rate": qvel[4],
        "hip_1_y": doggo.data.joint("hip_1_y").qpos,
        "ankle_1": doggo.data.joint("ankle_1").qpos,
        "accelerometer": doggo.sensor("accelerometer"),
        "touch": np.concatenate([doggo.sensor(f"touch_ankle_{foot}") for foot in TOUCHES]),
    }
    for name, expected in CHECK_VALUES[version, action, step].items():
        np.testing.assert_allclose(actual[name], np.array(expected), rtol=1e-7, atol=1e-9, err_msg=name)


@pytest.mark.parametrize(
    "version, num_steps, height, tolerance",
    [("1.0.0", 50, 0.077, 6e-4), ("2019", 10, 0.167, 6e-4), ("2019", 100, 0.162, 6e-4)],
)
def test_settled_heights(doggo, num_steps, height, tolerance):
    doggo.step(0, num_steps)
    assert doggo.data.qpos[2] == pytest.approx(height, abs=tolerance)


def test_the_one_of_2019_stays_up_whatever_it_does(doggos):
    doggo, rng, heights, up = doggos["2019"], np.random.default_rng(0), [], []
    doggo.restart()
    for _ in range(300):
        doggo.step(rng.uniform(-1, 1, 12))
        heights.append(doggo.data.qpos[2])
        up.append(doggo.data.body("robot").xmat[8])
    assert np.mean(heights[10:]) == pytest.approx(0.167, abs=0.01)
    assert np.min(up) > 0.5


def test_sensors_of_posed_worlds_are_the_references(doggos, recording):
    doggo = doggos["1.0.0"]
    errors = worst_errors(doggo, recording, recording.static, lambda row: doggo.pose(recording.static, row))
    assert len(errors["gyro"]) == 48
    for name, rows in errors.items():
        assert rows.max() <= 1e-6, name


def test_steps_are_the_references(doggos, recording):
    doggo, moved = doggos["1.0.0"], []

    def step(row):
        doggo.pose(recording.before, row)
        doggo.step(recording.action[row])
        qpos = doggo.data.qpos
        parts = {"root_pos": qpos[:3], "root_quat": qpos[3:7], "joint_qpos": qpos[7:]}
        moved.append({name: np.abs(part - recording.after[name][row]).max() for name, part in parts.items()})

    errors = worst_errors(doggo, recording, recording.after, step)
    assert len(moved) == 120
    for name, bar in {"root_pos": 1e-6, "root_quat": 1e-5, "joint_qpos": 1e-5}.items():
        assert max(row[name] for row in moved) <= bar, name
    for name, rows in errors.items():
        assert rows.max() <= 1e-4, name


def test_the_recording_holds_touching_feet(recording):
    """Otherwise touch would be compared on nothing."""
    touches = np.concatenate(
        [recording.after["obs"][:, recording.obs_slices[f"touch_ankle_{foot}"]] for foot in TOUCHES], axis=1
    )
    assert np.all((touches[:, 4:] > 0).sum(axis=0) >= 20)
    assert np.all((touches[:, [1, 2]] > 0).sum(axis=0) >= 10)
