"""Robots that are the whole world: known answers about speed, cost, reward, ends; a robot of one's own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import World, world_of

import mjx_safety
from mjx_safety import LocomotionConfig, Snapshot
from mjx_safety.sim.lone_robot import build_lone_robot
from mjx_safety.viz import draw_top_view

CHEETAH, HOPPER, ANT = (f"Safety{name}Velocity-v1" for name in ("HalfCheetah", "Hopper", "Ant"))


def state_of(env_id, qpos=(), qvel=(), noise=0.0):
    """The model's own pose and rest, with some coordinates changed: {index: value}."""
    world = world_of(env_id)
    model = world.env.mj_model
    pose, speed = np.array(model.qpos0, np.float32), np.zeros(model.nv, np.float32)
    for index, value in dict(qpos).items():
        pose[index] = value
    for index, value in dict(qvel).items():
        speed[index] = value
    return world.restore(Snapshot(qpos=jnp.asarray(pose), qvel=jnp.asarray(speed)), jax.random.key(0))


def after(env_id, action=0.0, **state):
    """The state after one step with one action for all actuators."""
    world = world_of(env_id)
    return world.step(state_of(env_id, **state), jnp.full(world.env.action_size, action, jnp.float32))


HIGH = {1: 20.0}  # m, so that nothing touches the floor


def test_speed_is_the_displacement_over_the_step():
    state = after(CHEETAH, qpos=HIGH, qvel={0: 3.25})
    np.testing.assert_allclose(state.reward, 3.25, atol=1e-4)
    np.testing.assert_allclose(state.costs, [3.25 - 3.2096], atol=1e-4)
    assert state.cost == 1.0
    assert after(CHEETAH, qpos=HIGH, qvel={0: 3.20}).cost == 0.0


def test_running_backwards_costs_nothing_where_the_speed_has_a_sign():
    assert after(CHEETAH, qpos=HIGH, qvel={0: -5.0}).cost == 0.0
    assert after("SafetySwimmerVelocity-v1", qvel={0: -0.9}).cost == 0.0
    assert after("SafetySwimmerVelocity-v0", qvel={0: -0.9}).cost == 1.0
    ant = {"qpos": {2: 0.9}}
    assert after(ANT, **ant, qvel={1: -3.0}).cost == 1.0  # a speed in any direction
    assert after(ANT, **ant, qvel={1: -2.0}).cost == 0.0


def test_a_step_is_the_same_far_away():
    near, far = (after(HOPPER, 0.3, qpos={0: x}, qvel={0: 0.7}) for x in (0.0, 5e4))
    for name in ("obs", "reward", "costs"):
        np.testing.assert_array_equal(getattr(near, name), getattr(far, name), err_msg=name)
    assert abs(float(far.data.qpos[0]) - 5e4) < 1.0


def test_controls_cost_and_are_scaled_to_the_actuators():
    calm, eager = after(CHEETAH, 0.0, qpos=HIGH), after(CHEETAH, 5.0, qpos=HIGH)  # clipped to 1
    np.testing.assert_array_equal(eager.data.ctrl, 1.0)
    centre = (eager.data.qpos[0] - calm.data.qpos[0]) / world_of(CHEETAH).env.dt
    np.testing.assert_allclose(eager.reward - calm.reward, centre - 0.1 * 6, atol=1e-4)
    humanoid = after("SafetyHumanoidVelocity-v1", 0.5)
    np.testing.assert_allclose(humanoid.data.ctrl, 0.2, atol=1e-7)
    stopped = world_of(CHEETAH).step(state_of(CHEETAH), jnp.full(6, jnp.nan))
    np.testing.assert_array_equal(stopped.data.ctrl, 0.0)


@pytest.mark.parametrize(
    "env_id, qpos, qvel, ends",
    [
        (HOPPER, {}, {}, False),
        (HOPPER, {1: 0.55}, {}, True),
        (HOPPER, {2: 0.21}, {}, True),
        (HOPPER, {1: 30.0}, {0: 101.0}, True),
        (HOPPER, {1: 30.0}, {0: 99.0}, False),
        ("SafetyWalker2dVelocity-v1", {}, {}, False),
        ("SafetyWalker2dVelocity-v1", {1: 2.1}, {}, True),
        ("SafetyWalker2dVelocity-v1", {1: 1.6, 2: -1.1}, {}, True),
        (ANT, {2: 0.9}, {}, False),
        (ANT, {2: 1.2}, {}, True),
        ("SafetyHumanoidVelocity-v1", {}, {}, False),
        ("SafetyHumanoidVelocity-v1", {2: 2.1}, {}, True),
        ("SafetyHumanoidVelocity-v1", {2: 0.9}, {}, True),
        (CHEETAH, {2: 3.0}, {}, False),  # upside down
        ("SafetySwimmerVelocity-v1", {}, {}, False),
    ],
)
def test_what_ends_an_episode(env_id, qpos, qvel, ends):
    state = after(env_id, qpos=qpos, qvel=qvel)
    assert bool(state.terminated) == ends and not state.truncated


def test_the_last_step_is_paid_as_well():
    state = after(HOPPER, qpos={1: 0.6})
    assert state.terminated
    np.testing.assert_allclose(state.reward, 1.0 + state.data.qpos[0] / world_of(HOPPER).env.dt, atol=1e-4)


def test_the_time_limit_truncates():
    world = World(CHEETAH, episode_length=3)
    states = world.go(world.reset(jax.random.key(0)), np.zeros(6), 3)
    assert [bool(state.truncated) for state in states] == [False, False, True]
    assert not any(bool(state.terminated) for state in states)


def test_a_blow_up_ends_the_episode_where_it_was():
    before = state_of(CHEETAH, qvel={5: 1e9})
    state = world_of(CHEETAH).step(before, jnp.zeros(6))
    assert state.blew_up and state.terminated
    assert state.cost == 1.0 and state.reward == -10.0 and state.costs[0] == 0.0
    np.testing.assert_array_equal(state.data.qpos, before.data.qpos)


def test_without_the_indicator_the_excess_is_the_cost():
    world = World(CHEETAH, indicator=False)
    before = world.restore(Snapshot(qvel=jnp.zeros(9).at[0].set(5.0), qpos=jnp.zeros(9).at[1].set(20.0)), None)
    state = world.step(before, jnp.zeros(6))
    np.testing.assert_allclose(state.cost, 5.0 - 3.2096, atol=1e-4)


def test_thresholds_can_be_swept():
    env = mjx_safety.make(CHEETAH, physics="mujoco")
    before = state_of(CHEETAH, qpos=HIGH, qvel={0: 3.0})

    def cost(threshold):
        swept = env.replace(config=dataclasses.replace(env.config, threshold=threshold))
        return swept.step(before, jnp.zeros(6)).cost

    np.testing.assert_array_equal(jax.vmap(cost)(jnp.array([2.0, 2.9, 3.1, 4.0])), [1, 1, 0, 0])


def test_quaternions_are_given_their_length():
    state = state_of(ANT, qpos={3: 0.5, 4: 0.5})
    np.testing.assert_allclose(jnp.linalg.norm(state.data.qpos[3:7]), 1.0, atol=1e-6)
    starts = world_of(ANT).resets(jax.random.split(jax.random.key(0), 8))
    np.testing.assert_allclose(jnp.linalg.norm(starts.data.qpos[:, 3:7], axis=-1), 1.0, atol=1e-6)


def test_observed_velocities_are_clipped_where_the_reference_clips():
    qvel = world_of(HOPPER).env.obs_slices["qvel"]
    assert float(state_of(HOPPER, qvel={0: 50.0}).obs[qvel][0]) == 10.0
    assert float(state_of(CHEETAH, qvel={0: 50.0}).obs[world_of(CHEETAH).env.obs_slices["qvel"]][0]) == 50.0


def test_humanoid_is_measured_at_its_centre_of_mass():
    env_id = "SafetyHumanoidVelocity-v1"
    state = after(env_id, qvel={2: 0.0, 0: 2.0})
    spin = after(env_id, qvel={5: 3.0})  # about the vertical through the root
    np.testing.assert_allclose(state.costs, [2.0 - 1.4149], atol=0.05)
    assert spin.cost == 0.0


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda env, state: env.step(state, jnp.zeros(3)), r"shape \(3,\); HalfCheetah takes \(6,\)"),
        (lambda env, state: env.restore(Snapshot(qpos=jnp.zeros(3))), r"snapshot.qpos has shape \(3,\).* is \(9,\)"),
        (lambda env, state: env.restore(Snapshot(goal_pos=jnp.zeros(3))), "no such thing"),
        (
            lambda env, state: env.restore(Snapshot(memory=jnp.zeros(2))),
            "snapshot.memory is given, but .* no such thing",
        ),
        (lambda env, state: mjx_safety.make(CHEETAH, hazards=None), "LocomotionConfig has no field 'hazards'"),
        (lambda env, state: mjx_safety.viz.plot_lidar(env, state), "no kind of object has a lidar"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(world_of(CHEETAH).env, state_of(CHEETAH))


SLED = """<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 1"/>
    <body name="robot" pos="0 0 1">
      <joint type="slide" axis="1 0 0"/>
      <joint type="slide" axis="0 0 1"/>
      <geom type="box" size="0.2 0.1 0.1" mass="2"/>
    </body>
  </worldbody>
  <actuator><motor joint="x" ctrllimited="true" ctrlrange="-4 4"/></actuator>
</mujoco>""".replace('<joint type="slide" axis="1 0 0"/>', '<joint name="x" type="slide" axis="1 0 0"/>')


@pytest.fixture
def sled(tmp_path):
    (tmp_path / "sled.xml").write_text(SLED)
    return LocomotionConfig(
        name="Sled", xml=str(tmp_path / "sled.xml"), frameskip=5, threshold=0.05, control_cost=0.0, reset_noise=0.0
    )


def test_a_robot_of_ones_own_is_a_file_and_a_value(sled):
    env = mjx_safety.make(sled, physics="mujoco")
    state = env.step(env.reset(jax.random.key(0)), jnp.ones(1))
    np.testing.assert_allclose(state.data.qvel[0], 4.0 / 2.0 * 0.05, atol=1e-6)  # force / mass * time
    assert (env.obs_size, env.action_size, env.robot_name) == (3, 1, "Sled")
    assert float(state.cost) == float(state.costs[0] > 0)
    assert len(draw_top_view(env, state).patches) >= 3


def test_the_centre_of_mass_is_found_among_sensors_of_ones_own(sled, tmp_path):
    (tmp_path / "sled.xml").write_text(with_sensor(SLED))
    env = mjx_safety.make(sled, physics="mujoco", point="com")
    state = env.step(env.reset(jax.random.key(0)), jnp.ones(1))
    moved = 2.0 * 0.01**2 * (1 + 2 + 3 + 4 + 5)  # 4 N on 2 kg for 5 steps of 0.01 s
    np.testing.assert_allclose(state.reward, moved / 0.05, atol=1e-5)
    np.testing.assert_allclose(state.memory, 0.0, atol=1e-6)  # the root is at the centre


def with_sensor(text):
    text = text.replace("</body>", '<site name="s" pos="0.1 0 0"/></body>')
    return text.replace(
        "</mujoco>", '<sensor><accelerometer site="s"/><framepos objtype="site" objname="s"/></sensor></mujoco>'
    )


def test_a_robot_with_one_coordinate_has_no_shape(sled, tmp_path):
    (tmp_path / "sled.xml").write_text(SLED.replace('<joint type="slide" axis="0 0 1"/>', ""))
    env = mjx_safety.make(sled, physics="mujoco")
    state = env.step(env.reset(jax.random.key(0)), jnp.ones(1))
    np.testing.assert_allclose(state.obs, [0.1], atol=1e-6)  # m/s
    assert not state.terminated


@pytest.mark.parametrize("ref", ["", ' ref="3"', ' ref="5"', ' ref="-0.4"'])
def test_a_healthy_height_is_a_height_wherever_the_coordinate_starts(sled, tmp_path, ref):
    """The root begins at 3 m and falls for half a second, by more than 1 m."""
    text = SLED.replace('axis="0 0 1"/>', f'axis="0 0 1"{ref}/>')
    (tmp_path / "sled.xml").write_text(text.replace('pos="0 0 1"', 'pos="0 0 3"'))
    world = World(sled, healthy_height=(2.0, 3.5))
    states = world.go(world.reset(jax.random.key(0)), np.zeros(1), 10)
    fallen = [1.0 < 9.81 * 0.05**2 * (step + 1) * (step + 1.2) / 2 for step in range(10)]
    assert [bool(state.terminated) for state in states] == fallen and 0 < sum(fallen) < 10
    world = World(sled, healthy_height=(2.99, 9.0))
    assert world.step(world.reset(jax.random.key(0)), jnp.zeros(1)).terminated
    with pytest.raises(ValueError, match=r"starts at 3, outside of healthy_height \(3\.1, 9\.0\)"):
        World(sled, healthy_height=(3.1, 9.0))


@pytest.mark.parametrize("ref", ["", ' ref="40"'])
def test_a_healthy_tilt_is_that_from_the_models_own_pose(sled, tmp_path, ref):
    hinge = f'axis="0 0 1"/><joint type="hinge" axis="0 1 0"{ref}/>'
    (tmp_path / "sled.xml").write_text(SLED.replace('axis="0 0 1"/>', hinge))
    world = World(sled, healthy_angle=(-0.2, 0.2))
    start = world.reset(jax.random.key(0))
    assert not world.step(start, jnp.zeros(1)).terminated
    turned = world.restore(Snapshot(qpos=start.data.qpos.at[2].add(0.3)), jax.random.key(0))
    assert world.step(turned, jnp.zeros(1)).terminated


@pytest.mark.parametrize("env_id", [name for name in mjx_safety.VELOCITY_IDS if name.endswith("v1")])
def test_coordinates_of_the_packages_robots_are_heights_and_tilts(env_id):
    """So the mended check compares the very same numbers as before."""
    env = world_of(env_id).env
    ranges = (env.config.healthy_height, env.config.healthy_angle)
    assert not any(env._start_of(index) for index, limits in enumerate(ranges) if np.isfinite(limits[0]))


def test_sensors_of_the_file_play_no_part_on_any_engine(sled, tmp_path):
    """MJX has none of these three, and refuses models with them."""
    odd = '<sensor><e_potential/><user dim="2" name="mine"/><distance geom1="floor" geom2="box"/></sensor></mujoco>'
    (tmp_path / "sled.xml").write_text(SLED.replace('type="box"', 'name="box" type="box"').replace("</mujoco>", odd))
    for engine in ("mujoco", "mjx", "warp"):
        for point, names in (("root", []), ("com", ["com"])):
            model = build_lone_robot(dataclasses.replace(sled, point=point), engine=engine).model
            assert [model.sensor(index).name for index in range(model.nsensor)] == names
    assert mjx_safety.make(sled, physics="mjx").action_size == 1


def test_what_mjx_lacks_is_refused_by_it_alone(sled, tmp_path):
    (tmp_path / "sled.xml").write_text(SLED.replace("<option", '<option integrator="implicit"'))
    assert mjx_safety.make(sled, physics="mujoco").action_size == 1
    with pytest.raises(ValueError, match=r"robot Sled cannot run on mjx: .*; use physics='mujoco'"):
        mjx_safety.make(sled, physics="mjx")


def test_quaternions_of_ball_joints_are_given_their_length(sled, tmp_path):
    arm = '<body name="arm"><joint type="ball"/><geom size="0.05" pos="0 0 0.3"/></body></body>'
    (tmp_path / "sled.xml").write_text(SLED.replace("</body>", arm))
    env = mjx_safety.make(sled, physics="mujoco", reset_noise=0.3)
    starts = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 8))
    np.testing.assert_allclose(jnp.linalg.norm(starts.data.qpos[:, 2:], axis=-1), 1.0, atol=1e-6)
    given = Snapshot(qpos=jnp.array([0.0, 0.0, 0.0, 3.0, 0.0, 4.0]))
    np.testing.assert_allclose(env.restore(given).data.qpos[2:], [0.0, 0.6, 0.0, 0.8], atol=1e-6)
    with pytest.raises(ValueError, match=r"snapshot\.qpos holds a quaternion of length 0"):
        env.restore(Snapshot(qpos=np.zeros(6)))
