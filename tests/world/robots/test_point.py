"""The Point on the C engine against check values of safety-gymnasium 1.0.0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mjx_safety
from mjx_safety import EnvConfig, Hazards, Snapshot

GOAL = 0.16  # m, height of the goal's centre

# action, step -> qpos, qvel, accelerometer xy, velocimeter xy, magnetometer xy
CHECK_VALUES = {
    ((1.0, 1.0), 1): (
        (0.00064321957, -0.00083996764, 0.044726759),
        (0.058724133, -0.052800898, 2.8761136),
        (2.9417565, -0.33609762),
        (0.056304579, -0.055373758),
        (-0.022355924, -0.49949996),
    ),
    ((1.0, 1.0), 10): (
        (0.052805809, 0.00078227435, 0.58341535),
        (0.47693702, 0.10844099, 2.9936751),
        (2.1813142, 0.33306894),
        (0.45778271, -0.17223055),
        (-0.27543877, -0.41729304),
    ),
    ((1.0, 1.0), 50): (
        (0.30816428, 0.56443444, 2.9658622),
        (-0.39989921, 0.89322711, 2.9689419),
        (2.0009388, 1.560735),
        (0.549901, -0.80955724),
        (-0.087413715, 0.49229955),
    ),
    ((1.0, 0.0), 1): ((0.00062630238, 0, 0), (0.056609916, 0, 0), (2.7817469, 0), (0.056609916, 0), (0, -0.5)),
    ((1.0, 0.0), 10): ((0.051444874, 0, 0), (0.47902327, 0, 0), (1.9676585, 0), (0.47902327, 0), (0, -0.5)),
    ((1.0, 0.0), 50): ((0.83538666, 0, 0), (1.2808638, 0, 0), (0.42232624, 0), (1.2808638, 0), (0, -0.5)),
    ((0.02, -0.03), 1): (  # the turn servo flips its rate at every physics step
        (0.00025043489, 1.7437295e-6, -0.0001183442),
        (0.022634335, -0.0091757821, 0.47527001),
        (1.1170685, 12.658617),
        (0.022635421, -0.0091731034),
        (5.9172099e-5, -0.5),
    ),
    ((0.02, -0.03), 50): (
        (0.33415263, -0.00020717293, -0.00012368876),
        (0.51233922, -0.0094710551, 0.4762175),
        (0.173311, 12.662548),
        (0.51234039, -0.0094076844),
        (6.1844379e-5, -0.5),
    ),
}
ACTIONS = sorted({action for action, _ in CHECK_VALUES})


def rollout(env, state, action, num_steps):
    """States after 0, 1, ..., num_steps steps of one action, stacked."""

    def step(state, _):
        after = env.step(state, action)
        return after, after

    _, after = jax.lax.scan(step, state, length=num_steps)
    return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), state, after)


@pytest.fixture(scope="module")
def env():
    return mjx_safety.make("SafetyPointGoal0-v0", physics="mujoco")


@pytest.fixture(scope="module")
def drive(env):
    """action -> 300 steps from the origin, heading +x, the goal out of reach."""
    start = Snapshot(
        root_pos=jnp.array([0.0, 0.0, 0.1]), root_quat=jnp.array([1.0, 0, 0, 0]), goal_pos=jnp.array([0.0, 100.0, GOAL])
    )
    return jax.jit(lambda action: rollout(env, env.restore(start), action, 300))


@pytest.fixture(scope="module")
def drives(drive):
    return {action: drive(jnp.array(action)) for action in ACTIONS}


@pytest.mark.parametrize("action, step", CHECK_VALUES)
def test_check_values_of_the_reference(env, drives, action, step):
    states = drives[action]
    qpos, qvel, *sensors = CHECK_VALUES[action, step]
    obs = states.obs[step]
    np.testing.assert_allclose(states.data.qpos[step], qpos, rtol=2e-6, atol=3e-7)  # in single precision
    np.testing.assert_allclose(states.data.qvel[step], qvel, rtol=2e-6, atol=3e-7)
    for name, expected in zip(("accelerometer", "velocimeter", "magnetometer"), sensors, strict=True):
        np.testing.assert_allclose(obs[env.obs_slices[name]][:2], expected, rtol=5e-6, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(obs[env.obs_slices["gyro"]], [0, 0, qvel[2]], rtol=2e-6, atol=3e-7)


@pytest.mark.parametrize("action", ACTIONS)
def test_the_vertical_entries_are_constant_in_the_plane(env, drives, action):
    obs = np.asarray(drives[action].obs)
    np.testing.assert_allclose(obs[:, env.obs_slices["accelerometer"]][:, 2], 9.81, rtol=1e-6)
    for name in ("velocimeter", "magnetometer"):
        np.testing.assert_allclose(obs[:, env.obs_slices[name]][:, 2], 0, atol=1e-12)
    np.testing.assert_allclose(obs[:, env.obs_slices["gyro"]][:, :2], 0, atol=1e-12)


def test_the_top_speed_is_one_and_a_half(env, drives):
    speed = np.asarray(drives[1.0, 0.0].obs)[:, env.obs_slices["velocimeter"]][:, 0]
    assert np.all(np.diff(speed) >= 0) and speed[-1] < 1.5
    time = 0.02 * np.arange(301)
    assert speed[-1] == pytest.approx(1.5 * (1 - np.exp(-0.01 / 0.0051887902 * time[-1])), rel=1e-3)


def test_commands_saturate_where_the_force_does(drive):
    few, many = (drive(jnp.array([u, 0.0])).data.qpos[50] for u in (0.05, 1.0))
    np.testing.assert_allclose(few, many, rtol=1e-6)
    half = drive(jnp.array([0.025, 0.0])).data.qpos[50]
    np.testing.assert_allclose(half[0], many[0] / 2, rtol=1e-5)


def test_commands_beyond_the_range_are_clipped(env, drive):
    beyond, at = drive(jnp.array([7.0, 7.0])), drive(jnp.array([1.0, 1.0]))
    np.testing.assert_array_equal(beyond.data.qpos, at.data.qpos)
    np.testing.assert_array_equal(beyond.data.ctrl[-1], [1, 1])


@pytest.mark.parametrize("command, rate", [(0.2, 0.477), (0.5, 1.41), (0.9, 2.81), (1.0, 3.0), (-0.5, -1.41)])
def test_mean_turn_rates(drive, command, rate):
    yaw = np.asarray(drive(jnp.array([0.0, command])).data.qpos)[:, 2]
    assert (yaw[300] - yaw[150]) / 3.0 == pytest.approx(rate, rel=0.05)


def test_small_turn_commands_do_not_turn(drive):
    yaw = np.asarray(drive(jnp.array([0.0, 0.05])).data.qpos)[:, 2]
    assert abs(yaw[300] - yaw[150]) < 1e-3


@pytest.fixture(scope="module")
def hazard_run():
    """Through the edge of one hazard to the goal, with raw costs: 89 steps, then the goal moves."""
    env = mjx_safety.make(EnvConfig(hazards=Hazards(num=1), indicator=False), physics="mujoco")
    start = Snapshot(
        root_pos=jnp.array([-1.0, 0.0, 0.1]),
        root_quat=jnp.array([1.0, 0, 0, 0]),
        hazards_pos=jnp.array([[0.0, 0.1, 0.02]]),
        goal_pos=jnp.array([1.2, 0.0, GOAL]),
    )
    states = jax.jit(lambda: rollout(env, env.restore(start), jnp.array([1.0, 0.0]), 90))()
    return env, states


@pytest.mark.parametrize(
    "step, x, cost, reward",
    [
        (50, -0.164613, 0.0073927531, 0.025540),
        (53, -0.087007, 0.0674471158, 0.026027),
        (56, -0.008050, 0.0996764887, 0.026460),
        (59, 0.072110, 0.0767120725, 0.026846),
        (62, 0.153344, 0.0169309869, 0.027189),
    ],
)
def test_hazard_costs_are_the_references(hazard_run, step, x, cost, reward):
    _, states = hazard_run
    assert states.data.qpos[step, 0] == pytest.approx(x, abs=1e-6)
    assert states.costs[step, 0] == pytest.approx(cost, abs=1e-6)
    assert states.cost[step] == states.costs[step, 0]
    assert states.reward[step] == pytest.approx(reward, abs=1e-6)


def test_hazards_cost_only_inside(hazard_run):
    env, states = hazard_run
    assert env.cost_names == ("hazards",)
    costs = np.asarray(states.costs)[:, 0]
    assert np.flatnonzero(costs).tolist() == list(range(50, 63))
    distance = np.hypot(*(np.asarray(states.data.qpos)[:, :2] - [0, 0.1]).T)
    np.testing.assert_allclose(costs, np.maximum(0.2 - distance, 0), atol=1e-6)


def test_the_goal_is_met_at_step_89(hazard_run):
    _, states = hazard_run
    met = np.asarray(states.goal_met)
    assert np.flatnonzero(met[:90]).tolist() == [89]
    assert states.reward[89] == pytest.approx(1.029005, abs=2e-6)
    assert states.data.qpos[89, 0] == pytest.approx(0.917044, abs=1e-6)
    assert np.all(np.asarray(states.places.markers["goal"])[:89, 0, :2] == np.float32([1.2, 0.0]))


def test_the_goal_then_moves_without_being_rewarded(hazard_run):
    env, states = hazard_run
    goal, robot = states.places.markers["goal"][89, 0, :2], states.data.qpos[89, :2]
    assert np.linalg.norm(goal - robot) >= 0.705 - 1e-6
    assert states.memory.last_dist[89] == pytest.approx(float(np.linalg.norm(goal - robot)), abs=1e-6)
    assert abs(states.reward[90]) < 0.04
    lidar = np.asarray(states.obs)[89, env.obs_slices["goal_lidar"]]
    assert lidar.max() == pytest.approx(1 - float(np.hypot(np.linalg.norm(goal - robot), 0)) / 3, abs=1e-5)


@pytest.fixture(scope="module")
def idle_goal2():
    env = mjx_safety.make("SafetyPointGoal2-v0", physics="mujoco")
    keys = jax.random.split(jax.random.key(3), 4)
    rest = jax.jit(jax.vmap(lambda key: rollout(env, env.reset(key), jnp.zeros(2), 300)))
    return env, rest(keys)


def test_untouched_vases_settle(idle_goal2):
    env, states = idle_goal2
    last = jax.tree.map(lambda leaf: leaf[:, -1], states)
    heights = jax.vmap(env.snapshot)(last).vases_pos[..., 2]
    assert heights.shape == (4, 10)
    np.testing.assert_allclose(heights, 0.0999563805, atol=2e-8)


def test_idle_steps_cost_nothing(idle_goal2):
    env, states = idle_goal2
    assert env.cost_names == ("hazards", "vases_contact", "vases_velocity")
    np.testing.assert_array_equal(states.cost, 0)
    np.testing.assert_array_equal(states.costs, 0)
    assert not np.any(states.terminated) and not np.any(states.goal_met)


def test_a_vase_that_is_driven_into_costs_contact_and_then_speed():
    env = mjx_safety.make("SafetyPointGoal2-v0", physics="mujoco", indicator=False)
    grid = jnp.stack([jnp.linspace(-1.8, 1.8, 10), jnp.full(10, 1.7), jnp.full(10, 0.09996)], axis=-1)
    still = jnp.concatenate([grid[:, :1], jnp.full((10, 1), -1.7), jnp.full((10, 1), 0.02)], axis=-1)
    start = Snapshot(
        root_pos=jnp.array([0.0, 0.0, 0.1]),
        root_quat=jnp.array([1.0, 0, 0, 0]),
        goal_pos=jnp.array([-1.9, 0.0, GOAL]),
        hazards_pos=still,
        vases_pos=grid.at[0].set(jnp.array([0.4, 0.0, 0.09996])),
        vases_quat=jnp.tile(jnp.array([1.0, 0, 0, 0]), (10, 1)),
    )
    states = jax.jit(lambda: rollout(env, env.restore(start), jnp.array([1.0, 0.0]), 40))()
    contact, speed = (
        np.asarray(states.costs)[:, env.cost_names.index(f"vases_{name}")] for name in ("contact", "velocity")
    )
    nose = np.asarray(states.data.qpos)[:, 0] + 0.15
    first = int(np.flatnonzero(contact)[0])
    assert 0.29 < nose[first] < 0.33, "the nose meets the vase's face at x = 0.3"
    np.testing.assert_array_equal(contact[:first], 0)
    np.testing.assert_array_equal(speed[:first], 0)
    np.testing.assert_array_equal(contact, np.round(contact))
    assert speed[first:].max() > 0.1
    np.testing.assert_allclose(states.cost, np.asarray(states.costs).sum(axis=-1), rtol=1e-6)
