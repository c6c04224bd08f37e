"""When objects need the solver at all."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mjx_safety
from mjx_safety import EnvConfig, Goal, GoalArea, Gremlins, Pillars, Point, PushBox, Robot, Snapshot, Vases, Walls
from mjx_safety.core.shapes import Shape
from mjx_safety.sim.relevance.bounds import lies_flat, settle

SLOW = (
    *("SafetyCarPush2-v0", "SafetyPointPush1-v0", "SafetyDoggoGoal2-v0", "SafetyCarButton1-v0"),
    "SafetyPointButton1-v0",
)


def nearby_of(env_id):
    return mjx_safety.make(env_id, physics="mjx").physics.nearby


@pytest.fixture(scope="module")
def goal():
    """PointGoal1: its world at rest, the vase 1 m ahead of the robot."""
    nearby = nearby_of("SafetyPointGoal1-v0")
    env = mjx_safety.make("SafetyPointGoal1-v0", physics="mujoco")
    start = Snapshot(time=jnp.float32(1.0), root_pos=jnp.array([0, 0, 0.1]), vases_pos=jnp.array([[1.0, 0.0, 0.09996]]))
    return nearby, jax.jit(env.restore)(start).data


def test_nothing_is_needed_far_from_an_object_at_rest(goal):
    nearby, data = goal
    assert not nearby.needs_objects(data, 0.02, 0.0)


def test_objects_within_reach_are_needed(goal):
    """The robot reaches 0.187 m (its arrow's far corner), the vase 0.141 m (its corner)."""
    nearby, data = goal
    for gap, needed in ((0.34, False), (0.325, True)):
        assert bool(nearby.needs_objects(data.replace(qpos=data.qpos.at[0].set(1.0 - gap)), 0.02, 0.0)) is needed


def test_objects_that_the_robot_gets_to_within_the_step_are_needed(goal):
    nearby, data = goal
    data = data.replace(qpos=data.qpos.at[0].set(0.6))  # 0.4 m from the vase, which it reaches from 0.328 m
    assert not nearby.needs_objects(data, 0.02, 0.07)
    assert nearby.needs_objects(data, 0.02, 0.075)


def test_an_object_that_moves_or_leans_is_needed(goal):
    nearby, data = goal
    assert nearby.needs_objects(data.replace(qvel=data.qvel.at[3].set(0.01)), 0.02, 0.0)
    assert nearby.needs_objects(data.replace(qpos=data.qpos.at[5].add(0.01)), 0.02, 0.0)


@pytest.mark.parametrize(("env_id", "at_rest_on_mjx"), [("SafetyPointGoal1-v0", True), ("SafetyPointPush1-v0", False)])
def test_an_object_that_sinks_after_a_reset_is_needed_at_first(env_id, at_rest_on_mjx):
    """A vase sinks by 4e-6 m, less than single precision regards. A push box sinks by 1.4e-4 m."""
    env = mjx_safety.make(env_id, physics="mujoco")
    data = jax.jit(env.reset)(jax.random.key(0)).data
    assert data.time == 0.0
    data = data.replace(qpos=data.qpos.at[:2].set(50.0))
    assert env.physics.nearby.needs_objects(data, 0.02, 0.0)
    assert bool(nearby_of(env_id).needs_objects(data, 0.02, 0.0)) is not at_rest_on_mjx


def test_a_gremlin_that_was_turned_is_needed_until_it_is_back():
    env = mjx_safety.make("SafetyPointButton1-v0", physics="mujoco")
    nearby = nearby_of("SafetyPointButton1-v0")
    state = jax.jit(env.reset)(jax.random.key(0))
    assert nearby.needs_objects(state.data, 0.02, 0.0)  # it still touches the floor
    snapshot = env.snapshot(state).replace(time=jnp.float32(1.0))
    assert not nearby.needs_objects(env.scene.to_physics(snapshot), 0.02, 0.0)
    turned = snapshot.replace(gremlins_angvel=snapshot.gremlins_angvel.at[0, 2].set(0.1))
    assert nearby.needs_objects(env.scene.to_physics(turned), 0.02, 0.0)


@pytest.mark.parametrize("env_id", ["SafetyPointGoal2-v0", pytest.param("SafetyCarPush2-v0", marks=pytest.mark.slow)])
def test_nothing_is_touched_in_a_step_without_need(env_id):
    """On the C engine, whose solver always has all objects."""
    env, nearby = mjx_safety.make(env_id, physics="mujoco"), nearby_of(env_id)
    nearby = dataclasses.replace(nearby, full=env.scene)
    key, num = jax.random.key(1), 64
    states = jax.jit(lambda key: env.reset_many(key, num))(key)

    @jax.jit
    def advance(states, key):
        needed = jax.vmap(lambda data: nearby.needs_objects(data, env.dt, nearby.guess_excursion(data, env.dt)))(
            states.data
        )
        actions = jax.random.uniform(key, (num, env.action_size), minval=-1, maxval=1)
        after = jax.vmap(env.step)(states, actions.at[:, 0].add(0.7))
        start = env.scene.robot_nq
        moved = (
            jnp.abs(after.data.qpos - states.data.qpos)[:, start:].max(axis=-1) > 1e-4
        )  # m; at rest they sag a little
        return after, needed, moved

    needs, moves = [], []
    for index in range(150):
        states, needed, moved = advance(states, jax.random.fold_in(key, index))
        if index:  # in its first step a push box sinks in by 0.2 mm
            needs.append(needed)
            moves.append(moved)
    needs, moves = np.array(needs), np.array(moves)
    assert not np.any(moves & ~needs)
    assert moves.any()  # something was pushed
    assert needs.mean() < 0.5


def test_a_gremlin_beside_a_resting_vase_is_needed():
    """However far the robot is: it would push the vase. Two metres away it would not."""
    config = EnvConfig(robot=Point(), gremlins=Gremlins(num=1, keepout=0.1), vases=Vases(num=1))
    env = mjx_safety.make(config, physics="mujoco")
    for gap, needed in ((0.25, True), (2.0, False)):
        places = {"gremlins_pos": jnp.array([[5.0, 5.0, 0.2]]), "vases_pos": jnp.array([[5.0 + gap, 5.0, 0.09996]])}
        data = env.restore(Snapshot(time=jnp.float32(1.0), root_pos=jnp.array([0, 0, 0.1]), **places)).data
        data = data.replace(qacc_warmstart=jnp.zeros_like(data.qacc_warmstart))  # at rest for all that is asked here
        assert bool(env.physics.nearby.needs_objects(data, env.dt, 0.0)) is needed


@pytest.mark.thorough
@pytest.mark.parametrize(
    "env_id",
    ["SafetyPointGoal2-v0", *(pytest.param(i, marks=pytest.mark.slow) for i in SLOW)],
)
def test_the_robot_alone_makes_no_difference_in_c(env_id):
    """From the same states, step by step; a push box is laid into a pillar in some layouts, which push it out."""
    fast, whole = (mjx_safety.make(env_id, physics="mujoco", accuracy=name) for name in ("fast", "reference"))
    key, num = jax.random.key(2), 64
    states = jax.jit(lambda key: fast.reset_many(key, num))(key)

    @jax.jit
    def advance(states, key):
        actions = jax.random.uniform(key, (num, fast.action_size), minval=-1, maxval=1).at[:, 0].add(0.7)
        return tuple(jax.vmap(env.step)(states, actions) for env in (fast, whole))

    alone = 0
    for index in range(100):
        alone += num - int(jnp.sum(jax.vmap(lambda d: fast.physics.nearby.needs_objects(d, fast.dt, 0.0))(states.data)))
        states, expected = advance(states, jax.random.fold_in(key, index))
        # The unstable servo that turns the Point multiplies rounding by five in a physics step, C's as well.
        np.testing.assert_allclose(states.data.qpos, expected.data.qpos, atol=1e-4)
        assert np.quantile(np.abs(states.data.qpos - expected.data.qpos), 0.99) < 2e-6
        np.testing.assert_allclose(states.obs, expected.obs, atol=0.3)  # accelerations, m/s^2
        assert np.quantile(np.abs(states.obs - expected.obs), 0.99) < 1e-4
        np.testing.assert_array_equal(states.costs > 0, expected.costs > 0)
    assert 0 < alone < 100 * num


def run(env, start, action, num_steps):
    """States after each step."""
    step, states = jax.jit(env.step), []
    for _ in range(num_steps):
        start = step(start, jnp.asarray(action, jnp.float32))
        states.append(start)
    return states


def corner(**objects):
    """A Point at rest in a corner, far from some objects."""
    return EnvConfig(
        robot=Point(locations=((3.5, 3.5),), start_yaw=0.0),
        task=Goal(goal=GoalArea(keepout=0.1, locations=((-3.5, 3.5),))),
        extents=(-4, -4, 4, 4),
        **objects,
    )


def gremlin_and_wall(physics, accuracy="fast"):
    """A gremlin on its round, far from the robot, with a wall in the way."""
    gremlins = Gremlins(num=1, locations=((0.0, 0.0),), keepout=0.0)
    config = corner(gremlins=gremlins, walls=Walls(num=1, size=0.2, locations=((0.5, 0.0),)))
    return mjx_safety.make(config, physics=physics, accuracy=accuracy)


def gremlin_path(env, num_steps):
    states = run(env, env.reset(jax.random.key(0)), (0.0, 0.0), num_steps)
    return np.array([np.asarray(env.snapshot(state).gremlins_pos)[0] for state in states])


def test_a_gremlin_meets_a_wall_wherever_the_robot_is():
    fast, whole = (gremlin_path(gremlin_and_wall("mujoco", name), 150) for name in ("fast", "reference"))
    np.testing.assert_allclose(fast, whole, atol=1e-5)
    assert whole[:, 0].max() < 0.25  # stopped by the wall at 0.3 m, short of its circle's radius


@pytest.mark.slow
def test_a_gremlin_meets_a_wall_on_mjx():
    mjx, whole = (gremlin_path(gremlin_and_wall(name), 120) for name in ("mjx", "mujoco"))
    np.testing.assert_allclose(mjx, whole, atol=1e-3)


def test_driven_pairs_are_unmasked_on_mjx_only_where_places_do_not_keep_them_apart():
    preset = mjx_safety.make("SafetyPointButton2-v0", physics="mjx").mj_model
    for model, meets in ((preset, False), (gremlin_and_wall("mjx").mj_model, True)):
        gremlin = model.geom(model.body("gremlins0").geomadr[0])
        other = model.geom(model.body("buttons0" if model is preset else "walls0").geomadr[0])
        assert bool((gremlin.contype & other.conaffinity) | (other.contype & gremlin.conaffinity)) is meets


def sliding_vases(physics, accuracy="fast", num=6):
    """Vases that slide beside each other at 0.5 m/s, far from the robot: more than there are slots."""
    places = tuple((-2.0 + 0.5 * index, -1.5) for index in range(num))
    env = mjx_safety.make(corner(vases=Vases(num=num)), physics=physics, accuracy=accuracy)
    pos = jnp.array([[x, y, 0.09996] for x, y in places])
    start = Snapshot(time=jnp.float32(1.0), vases_pos=pos, vases_linvel=jnp.zeros((num, 3)).at[:, 1].set(0.5))
    states = run(env, env.restore(start), (0.0, 0.0), 3)
    return np.array([env.snapshot(state).vases_pos for state in states]), np.array([state.costs for state in states])


def test_more_movers_than_slots_keep_moving():
    fast, whole = (sliding_vases("mujoco", name) for name in ("fast", "reference"))
    np.testing.assert_allclose(fast[0], whole[0], atol=1e-6)
    np.testing.assert_allclose(fast[1], whole[1], atol=1e-5)
    assert np.all(np.diff(whole[0][:, :, 1], axis=0) > 1e-4)


@pytest.mark.slow
def test_more_movers_than_slots_keep_moving_on_mjx():
    found, expected = (sliding_vases(name) for name in ("mjx", "mujoco"))
    np.testing.assert_allclose(found[0], expected[0], atol=1e-4)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-2)


def contact_cost(physics):
    """Raw cost of a step in which a vase touches the robot, and more vases than there are slots slide elsewhere."""
    env = mjx_safety.make(corner(vases=Vases(num=6)), physics=physics)
    places = [(3.69, 3.5), *((-2.0 + 0.5 * index, -1.5) for index in range(5))]
    pos = jnp.array([(x, y, 0.09996) for x, y in places])
    start = Snapshot(time=jnp.float32(1.0), vases_pos=pos, vases_linvel=jnp.zeros((6, 3)).at[:, 1].set(0.5))
    return float(env.step(env.restore(start), jnp.zeros(2)).costs[env.cost_names.index("vases_contact")])


def test_a_contact_counts_once_though_its_vase_fills_a_slot_of_a_later_pass():
    assert contact_cost("mjx") == contact_cost("mujoco") > 0


@pytest.mark.parametrize(("acceleration", "frameskip", "share"), [(15, 10, 0.95), (100, 10, 1.5), (100, 50, 0.8)])
def test_a_robot_of_any_speed_meets_what_is_in_its_way(tmp_path, acceleration, frameskip, share):
    """The first step decides alone: the start is at rest, the pillar may be hit within the step."""
    path = tmp_path / "rocket.xml"
    path.write_text(ROCKET.replace("GEAR", str(0.00418879 * acceleration)))
    robot = {"name": "Rocket", "xml": str(path), "root_joint": "planar", "touches_floor": False, "keepout": 0.05}
    seconds = 0.002 * frameskip
    # share: how far off the pillar is, of the way that the robot would make in the first step
    gap = share * acceleration * seconds**2 / 2
    config = EnvConfig(
        robot=Robot(**robot, locations=((0.0, 0.0),), start_yaw=0.0),
        task=Goal(goal=GoalArea(keepout=0.1, locations=((-3.5, 3.5),))),
        pillars=Pillars(num=1, locations=((0.3 + gap, 0.0),), keepout=0.05),
        extents=(-4, -4, 4, 4),
        frameskip=frameskip,
    )
    envs = [mjx_safety.make(config, physics="mujoco", accuracy=name) for name in ("fast", "reference")]
    fast, whole = (run(env, env.reset(jax.random.key(0)), (1.0, 0.0), 4) for env in envs)
    for one, other in zip(fast, whole, strict=True):
        np.testing.assert_allclose(one.data.qpos, other.data.qpos, atol=1e-5)
        assert float(one.cost) == float(other.cost)
    assert any(float(state.cost) for state in whole)


@pytest.mark.thorough
@pytest.mark.parametrize("place", [0.78, 0.82])
def test_what_a_fast_object_may_hit_matters_too(tmp_path, place):
    """Within one long step the robot pushes a vase into another, which it cannot reach itself. Three are nearer."""
    path = tmp_path / "rocket.xml"
    path.write_text(ROCKET.replace("GEAR", "0.418879"))  # 100 m/s^2
    robot = {"name": "Rocket", "xml": str(path), "root_joint": "planar", "touches_floor": False, "keepout": 0.05}
    others = ((0.0, 0.4), (0.0, -0.4), (-0.4, 0.0), (3.0, 3.0), (-3.0, 0.0))
    config = EnvConfig(
        robot=Robot(**robot, locations=((0.0, 0.0),), start_yaw=0.0),
        task=Goal(goal=GoalArea(keepout=0.1, locations=((-3.5, 3.5),))),
        vases=Vases(num=7, locations=((0.5, 0.0), (1.5, 0.0), *others), keepout=0.05),
        extents=(-4, -4, 4, 4),
        frameskip=50,
    )
    height = 0.09996
    places = jnp.array([(x, y, height) for x, y in ((0.22, 0.0), (place, 0.0), *others)], jnp.float32)
    start = mjx_safety.Snapshot(
        time=jnp.float32(1.0),
        root_pos=jnp.array([0.0, 0.0, 0.1]),
        root_quat=jnp.array([1.0, 0.0, 0.0, 0.0]),
        vases_pos=places,
        vases_quat=jnp.tile(jnp.array([1.0, 0.0, 0.0, 0.0]), (7, 1)),
    )
    after = []
    for accuracy in ("fast", "reference"):
        env = mjx_safety.make(config, physics="mujoco", accuracy=accuracy)
        state = run(env, env.restore(start), (0.0, 0.0), 4)[-1]
        after.append(env.snapshot(env.step(state, jnp.array([1.0, 0.0]))))
    assert float(after[1].vases_pos[1, 0]) > place + 0.01  # it is hit
    np.testing.assert_allclose(after[0].vases_pos, after[1].vases_pos, atol=1e-4)  # hard impacts amplify rounding


ROCKET = """<mujoco><option timestep="0.002"/><worldbody><body name="robot" pos="0 0 0.1">
<joint name="x" type="slide" axis="1 0 0" damping="0.01"/><joint name="y" type="slide" axis="0 1 0" damping="0.01"/>
<joint name="z" type="hinge" axis="0 0 1" damping="0.005"/>
<geom name="robot" type="sphere" size="0.1" density="1"/><site name="s" size="0.03"/></body></worldbody><sensor>
<accelerometer name="accelerometer" site="s"/><velocimeter name="velocimeter" site="s"/><gyro name="gyro" site="s"/>
<magnetometer name="magnetometer" site="s"/></sensor><actuator>
<motor name="forward" site="s" gear="GEAR 0 0 0 0 0" ctrlrange="-1 1" ctrllimited="true"/>
<motor name="turn" joint="z" gear="0.01" ctrlrange="-1 1" ctrllimited="true"/></actuator></mujoco>"""


# -- what lies on the floor --------------------------------------------------------------------------------------------


def turned_about_x(angle):
    return (np.cos(angle / 2), np.sin(angle / 2), 0.0, 0.0)


@pytest.mark.parametrize(
    ("lift", "quat", "needed"),
    [
        (0.0, turned_about_x(0.0), False),
        (0.0, turned_about_x(np.pi / 2), False),  # on another side
        (0.0, (0.7, 0.0, 0.0, 0.7), False),
        (1e-5, turned_about_x(0.0), False),
        (8e-4, turned_about_x(0.0), True),
        (-1e-4, turned_about_x(0.0), True),
        (0.0, turned_about_x(0.5), True),
        (0.0, turned_about_x(1e-3), True),
    ],
)
def test_a_vase_in_the_air_or_on_an_edge_is_needed(goal, lift, quat, needed):
    """However slow it is. lift: m above its height at reset."""
    nearby, data = goal
    quat = np.array(quat) / np.linalg.norm(quat)
    data = data.replace(qpos=data.qpos.at[5].add(lift).at[6:10].set(jnp.asarray(quat, jnp.float32)))
    assert bool(nearby.needs_objects(data, 0.02, 0.0)) is needed


QUATS = {
    "upright": (1, 0, 0, 0),
    "headlong": (0, 1, 0, 0),
    "aside": (0.70710678, 0.70710678, 0, 0),
    "oblique": (0.9, 0.3, 0.3, 0.1),
}


@pytest.mark.parametrize(
    ("shape", "flat"),
    [
        (Shape("box", (0.1, 0.1, 0.1)), {"upright", "headlong", "aside"}),
        (Shape("box", (0.1, 0.1, 0.2)), {"upright", "headlong"}),
        (Shape("cylinder", (0.1, 0.2)), {"upright", "headlong"}),
        (Shape("sphere", (0.1,)), set(QUATS)),
    ],
)
def test_which_orientations_are_flat(shape, flat):
    quats = jnp.array(list(QUATS.values()), jnp.float32)
    quats = quats / jnp.linalg.norm(quats, axis=-1, keepdims=True)
    found = lies_flat(types.SimpleNamespace(shapes=(shape,)), quats)  # pyright: ignore[reportArgumentType]
    assert {name for name, is_flat in zip(QUATS, found, strict=True) if is_flat} == flat


def test_a_push_box_is_flat_on_its_own_bottom_alone():
    found = lies_flat(PushBox(), jnp.array(list(QUATS.values()), jnp.float32)[:3])
    np.testing.assert_array_equal(found, [True, True, False])


@pytest.mark.parametrize("sink", [4e-5, 0.0, 1e-3])
def test_vases_of_any_sink_come_to_rest_at_one_height(sink):
    """0.1 m less 43.6 um, where the floor carries them."""
    scene = mjx_safety.make(EnvConfig(vases=Vases(num=2, sink=sink)), physics="mujoco").scene
    assert settle(scene)["vases"].height == pytest.approx(0.1 - 43.6e-6, abs=1e-6)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("quat", "lift"), [(turned_about_x(0.5), 0.0), (turned_about_x(0.0), 8e-4)], ids=["tilted", "lifted"]
)
def test_on_mjx_a_vase_that_hangs_falls(quat, lift):
    """As on the C engine, where it costs by its speed."""
    start = Snapshot(
        root_pos=jnp.array([3.0, 3.0, 0.1]),
        vases_pos=jnp.array([[1.5, 1.5, 0.1 + lift]]),
        vases_quat=jnp.array([quat], jnp.float32),
    )
    env = mjx_safety.make(EnvConfig(vases=Vases(num=1)), physics="mjx")
    state = env.step(env.restore(start), jnp.zeros(2))
    assert state.costs[env.cost_names.index("vases_velocity")] > 0
