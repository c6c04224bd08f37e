"""What every environment promises, checked for all ids on the C engine."""

import collections
import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

import mjx_safety
from mjx_safety import ENV_IDS, EnvConfig, Hazards, Snapshot, State, Vases

OBS_SIZES = {"SafetyPointGoal0-v0": 28, "SafetyPointGoal1-v0": 60, "SafetyPointGoal2-v0": 60}
COSTS = {
    "SafetyPointGoal0-v0": (),
    "SafetyPointGoal1-v0": ("hazards",),
    "SafetyPointGoal2-v0": ("hazards", "vases_contact", "vases_velocity"),
}
LIDARS = {"SafetyPointGoal0-v0": ["goal"]}  # all others:
ALL_LIDARS = ["goal", "hazards", "vases"]
B, T = 16, 10  # one batch size for all tests, so that each function is compiled once
AHEAD = jnp.array([1.0, 0.0])


class World:
    """One environment with its compiled functions, which count how often they are traced."""

    def __init__(self, env_id, **overrides):
        self.env_id, self.env = env_id, mjx_safety.make(env_id, physics="mujoco", **overrides)
        self.traces = collections.Counter()
        self.reset, self.step = (jax.jit(self.counted(name)) for name in ("reset", "step"))
        self.resets, self.steps, self.snapshots = (
            jax.jit(jax.vmap(getattr(self.env, name))) for name in ("reset", "step", "snapshot")
        )
        self.restore, self.snapshot = jax.jit(self.env.restore), jax.jit(self.env.snapshot)
        size = (T, B, self.env.action_size)
        self.actions = jax.random.uniform(jax.random.key(5), size, minval=-1, maxval=1)

    def counted(self, name):
        function = getattr(self.env, name)

        def traced(*args):
            self.traces[name] += 1
            return function(*args)

        return traced

    def scene(self, **changes):
        """The world of one key, with some things changed."""
        snapshot = self.snapshot(self.reset(jax.random.key(0)))
        arrays = {name: jnp.asarray(value, jnp.float32) for name, value in changes.items()}
        shaped = {name: jnp.broadcast_to(value, getattr(snapshot, name).shape) for name, value in arrays.items()}
        return self.restore(snapshot.replace(**shaped))


world_of = functools.cache(World)


@pytest.fixture(scope="module", params=ENV_IDS)
def world(request):
    return world_of(request.param)


@pytest.fixture(scope="module")
def goal1():
    return world_of("SafetyPointGoal1-v0")


@pytest.fixture(scope="module")
def goal2():
    return world_of("SafetyPointGoal2-v0")


@pytest.fixture(scope="module")
def short():
    """Three steps at most, and the end when the goal is met."""
    return World("SafetyPointGoal1-v0", episode_length=3, continue_goal=False)


def row(tree, i):
    return jax.tree.map(lambda leaf: leaf[i], tree)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, plain(a), plain(b))


def plain(state):
    """The state with its key as numbers."""
    is_key = jax.dtypes.prng_key
    return jax.tree.map(lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, is_key) else x, state)


def test_sizes_are_the_references(world):
    name = world.env_id
    assert world.env.obs_size == OBS_SIZES[name]
    assert world.env.cost_names == COSTS[name]
    assert world.env.action_size == 2
    assert world.env.dt == pytest.approx(0.02)
    assert world.env.episode_length == 1000


def test_slices_cover_the_observation_in_order(world):
    slices = world.env.obs_slices
    sensors = ["accelerometer", "velocimeter", "gyro", "magnetometer"]
    assert list(slices) == sensors + [f"{kind}_lidar" for kind in LIDARS.get(world.env_id, ALL_LIDARS)]
    stops = [0, *(where.stop for where in slices.values())]
    assert [where.start for where in slices.values()] == stops[:-1]
    assert stops[-1] == world.env.obs_size
    assert [where.stop - where.start for where in slices.values()] == [3] * 4 + [16] * (len(slices) - 4)


def assert_types(env, state):
    shapes = {
        "obs": ((env.obs_size,), "float32"),
        "reward": ((), "float32"),
        "cost": ((), "float32"),
        "costs": ((len(env.cost_names),), "float32"),
        "goal_met": ((), "bool"),
        "terminated": ((), "bool"),
        "truncated": ((), "bool"),
        "placement_failed": ((), "bool"),
        "step_count": ((), "int32"),
    }
    for name, (shape, dtype) in shapes.items():
        value = getattr(state, name)
        assert (value.shape, value.dtype.name) == (shape, dtype), name
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        assert not leaf.weak_type, f"{jax.tree_util.keystr(path)} has a weak type"
        assert leaf.dtype.name in ("float32", "bool", "int32") or jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def test_states_have_fixed_shapes_and_strong_types(world, key):
    env = world.env
    first = jax.eval_shape(env.reset, key)
    after = jax.eval_shape(env.step, first, jax.ShapeDtypeStruct((2,), jnp.float32))
    restored = jax.eval_shape(env.restore, jax.eval_shape(env.snapshot, after))
    for state in (first, after, restored):
        assert_types(env, state)
        assert jax.tree.structure(state) == jax.tree.structure(first)


def test_reset_and_step_trace_and_compile_once(world, key):
    state = world.reset(key)
    world.reset(jax.random.key(1))
    for action in world.actions[:3, 0]:
        state = world.step(state, action)
    assert world.traces == {"reset": 1, "step": 1}
    assert world.reset._cache_size() == world.step._cache_size() == 1


def test_actions_may_be_numpy_arrays_without_a_second_trace(world, key):
    state = world.reset(key)
    assert_equal(world.step(state, np.ones(2, np.float32)), world.step(state, jnp.ones(2)))
    assert world.traces["step"] == 1


def test_an_episode_starts_at_rest_without_cost(world):
    states = world.resets(jax.random.split(jax.random.key(2), B))
    assert not np.any(states.placement_failed)
    for name in ("reward", "cost", "costs", "goal_met", "terminated", "truncated", "step_count"):
        np.testing.assert_array_equal(getattr(states, name), 0, err_msg=name)
    np.testing.assert_array_equal(states.data.qvel, 0)
    np.testing.assert_array_equal(states.data.time, 0)
    assert np.all(np.isfinite(states.obs))


def test_the_first_goal_is_clear_of_everything(world):
    env = world.env
    states = world.resets(jax.random.split(jax.random.key(2), B))
    snapshots = world.snapshots(states)
    assert_goal_is_clear(env, snapshots)
    distance = np.linalg.norm(snapshots.root_pos[:, :2] - snapshots.goal_pos[:, 0, :2], axis=-1)
    np.testing.assert_allclose(states.memory.last_dist, distance, atol=1e-6)


def assert_goal_is_clear(env, snapshots):
    """snapshots: [B]."""
    goal = np.asarray(snapshots.goal_pos)[:, :, :2]
    kinds = {"root": env.config.robot, **env.config.objects}
    for name, kind in kinds.items():
        if name == "goal":
            continue
        places = np.asarray(getattr(snapshots, f"{name}_pos")).reshape(len(goal), -1, 3)[..., :2]
        gap = np.linalg.norm(places - goal, axis=-1)
        assert gap.min() >= kind.keepout + env.config.task.goal.keepout - 1e-5, name


@pytest.fixture(scope="module")
def batch_run(world):
    """States after reset and each of T random steps, B worlds side by side."""
    keys = jax.random.split(jax.random.key(0), B)
    states = [world.resets(keys)]
    for actions in world.actions:
        states.append(world.steps(states[-1], actions))
    return keys, states


def assert_same_world(state, expected):
    """Physics, positions and flags bit for bit; what XLA adds up, in another order in a batch, to its last bit."""
    for name in ("data", "scene", "key", "goal_met", "terminated", "truncated", "step_count", "cost"):
        assert_equal(getattr(state, name), getattr(expected, name))
    assert_close(plain(state), plain(expected), 1e-6)


def test_a_batch_equals_a_loop(world, batch_run):
    keys, batch = batch_run
    for i in (0, 1, B - 1):
        state = world.reset(keys[i])
        assert_same_world(state, row(batch[0], i))
        for t in range(T):
            state = world.step(state, world.actions[t, i])
            assert_same_world(state, row(batch[t + 1], i))


def test_the_same_key_gives_the_same_episode(world, batch_run):
    keys, batch = batch_run
    state = world.resets(keys)
    assert_equal(state, batch[0])
    for t in range(T):
        state = world.steps(state, world.actions[t])
    assert_equal(state, batch[-1])


def test_different_keys_give_different_layouts(batch_run):
    _, batch = batch_run
    for leaf in (batch[0].data.qpos[:, :3], batch[0].obs, *batch[0].scene.values()):
        assert len(np.unique(leaf.reshape(B, -1), axis=0)) == B


def test_50_random_steps_stay_finite(world):
    actions = jax.random.uniform(jax.random.key(1), (50, B, 2), minval=-1, maxval=1)
    state, seen = world.resets(jax.random.split(jax.random.key(9), B)), []
    for action in actions:
        state = world.steps(state, action)
        seen.append((state.obs, state.reward, state.cost, state.costs))
    seen = [np.stack(values) for values in zip(*seen, strict=True)]
    for leaf in jax.tree.leaves((seen, state.data, state.scene, state.memory)):
        assert np.all(np.isfinite(leaf))
    np.testing.assert_array_equal(state.step_count, 50)
    np.testing.assert_allclose(state.data.time, 50 * world.env.dt, rtol=1e-5)
    lidars = np.concatenate([seen[0][..., w] for n, w in world.env.obs_slices.items() if n.endswith("lidar")], -1)
    assert np.all((lidars >= 0) & (lidars <= 1))
    assert np.all(seen[3] >= 0)
    np.testing.assert_array_equal(seen[2], (seen[3].sum(-1) > 0).astype(np.float32))


def goal_ahead(world, key, distance):
    """The layout of a key with the goal `distance` m in front of the robot. Keepouts may be violated."""
    snapshot = world.snapshot(world.reset(key))
    forward = jnp.array([1 - 2 * snapshot.root_quat[3] ** 2, 2 * snapshot.root_quat[0] * snapshot.root_quat[3]])
    goal = jnp.append(snapshot.root_pos[:2] + distance * forward, 0.16)[None]
    return world.restore(snapshot.replace(goal_pos=goal, last_dist_goal=jnp.float32(distance)), key)


def test_meeting_the_goal_gives_the_bonus_and_a_new_clear_goal(world):
    env, met = world.env, []
    for seed in range(8):
        before = goal_ahead(world, jax.random.key(seed), 0.3003)
        assert not before.goal_met
        after = world.step(before, AHEAD)
        assert after.goal_met and not after.terminated and not after.placement_failed
        progress = float(after.reward) - env.config.task.reward_goal
        assert 0.0003 < progress < 0.001
        met.append(world.snapshot(after))
        assert np.any(met[-1].goal_pos != world.snapshot(before).goal_pos)
        distance = np.linalg.norm(met[-1].root_pos[:2] - met[-1].goal_pos[0, :2])
        assert after.memory.last_dist == pytest.approx(distance, abs=1e-6)
        assert np.max(after.obs[env.obs_slices["goal_lidar"]]) == pytest.approx(max(0, 1 - distance / 3), abs=1e-5)
        following = world.step(after, AHEAD)
        assert not following.goal_met and abs(following.reward) < 0.01
    assert_goal_is_clear(env, jax.tree.map(lambda *leaves: jnp.stack(leaves), *met))
    assert len({tuple(np.asarray(snapshot.goal_pos).ravel()) for snapshot in met}) == 8


def test_short_of_the_goal_nothing_is_met(world, key):
    before = goal_ahead(world, key, 0.302)
    after = world.step(before, AHEAD)
    assert not after.goal_met and 0 < after.reward < 0.001
    np.testing.assert_array_equal(after.scene["goal"], before.scene["goal"])


def test_episodes_are_truncated_exactly_at_their_length(short, key):
    state = short.reset(key)
    for count in (1, 2, 3):
        state = short.step(state, jnp.zeros(2))
        assert state.step_count == count
        assert bool(state.truncated) == (count == 3)
        assert not state.terminated


def test_without_continuation_the_goal_terminates_and_wins_over_the_time_limit(short, key):
    for steps_before in (0, 2):
        ahead, far = (goal_ahead(short, key, distance) for distance in (0.3003, 0.5))
        after = short.step(ahead.replace(step_count=jnp.int32(steps_before)), AHEAD)
        assert after.goal_met and after.terminated and not after.truncated
        after = short.step(far.replace(step_count=jnp.int32(steps_before)), AHEAD)
        assert not after.goal_met and not after.terminated and bool(after.truncated) == (steps_before == 2)


def test_snapshots_survive_a_restore(world, key):
    state = world.reset(key)
    for action in world.actions[:5, 0]:
        state = world.step(state, action)
    snapshot = world.snapshot(state)
    restored = world.restore(snapshot)
    assert_close(world.snapshot(restored), snapshot, 1e-6)
    np.testing.assert_allclose(restored.obs, state.obs, atol=1e-4)
    np.testing.assert_allclose(restored.costs, state.costs, atol=1e-6)
    assert restored.reward == 0 and restored.step_count == 0 and not restored.terminated


def test_a_restored_world_goes_on_as_the_original(world, key):
    state = world.reset(key)
    for action in world.actions[:5, 0]:
        state = world.step(state, action)
    restored = world.restore(world.snapshot(state))
    for action in world.actions[5:, 0]:
        state, restored = world.step(state, action), world.step(restored, action)
        assert_close(world.snapshot(restored), world.snapshot(state), 1e-4)
        assert restored.reward == pytest.approx(float(state.reward), abs=1e-5)


def assert_close(a, b, tolerance):
    chex.assert_trees_all_close(a, b, atol=tolerance, rtol=0)


def test_a_partial_snapshot_keeps_the_default_for_the_rest(goal1):
    place = jnp.array([0.5, -0.5, 0.1])
    given, default = goal1.restore(Snapshot(root_pos=place)), goal1.restore(Snapshot())
    given, default = goal1.snapshot(given), goal1.snapshot(default)
    np.testing.assert_allclose(given.root_pos, place)
    changed = {"root_pos", "last_dist_goal"}
    for field in dataclasses.fields(Snapshot):
        if field.name not in changed:
            np.testing.assert_array_equal(getattr(given, field.name), getattr(default, field.name), field.name)
    distance = np.linalg.norm(place[:2] - given.goal_pos[0, :2])
    assert given.last_dist_goal == pytest.approx(distance, abs=1e-6)


def test_a_given_memory_of_the_reward_is_used(goal1, key):
    snapshot = goal1.snapshot(goal1.reset(key))
    rewards = [
        float(goal1.step(goal1.restore(snapshot.replace(last_dist_goal=d)), jnp.zeros(2)).reward)
        for d in (snapshot.last_dist_goal, snapshot.last_dist_goal + 2.0)
    ]
    assert rewards[1] - rewards[0] == pytest.approx(2.0, abs=1e-6)


def test_goal_pos_may_have_a_leading_axis(goal1):
    snapshot = goal1.snapshot(goal1.reset(jax.random.key(0)))
    flat = goal1.restore(snapshot.replace(goal_pos=snapshot.goal_pos[0]))
    np.testing.assert_array_equal(flat.scene["goal"], snapshot.goal_pos)
    np.testing.assert_array_equal(flat.obs, goal1.restore(snapshot).obs)


@pytest.mark.parametrize(
    "snapshot, words",
    [
        (Snapshot(hazards_pos=np.zeros((3, 3))), ("snapshot.hazards_pos", "(3, 3)", "(8, 3)")),
        (Snapshot(root_pos=np.zeros(2)), ("snapshot.root_pos", "(2,)", "(3,)")),
        (Snapshot(vases_quat=np.zeros(4)), ("snapshot.vases_quat", "(4,)", "(1, 4)")),
        (Snapshot(goal_pos=np.zeros((2, 3))), ("snapshot.goal_pos", "(2, 3)", "(1, 3)")),
        (Snapshot(ctrl=np.zeros(3)), ("snapshot.ctrl", "(3,)", "(2,)")),
    ],
)
def test_a_snapshot_of_the_wrong_shape_is_refused_by_name(goal1, snapshot, words):
    with pytest.raises(ValueError) as error:
        goal1.env.restore(snapshot)
    for word in words:
        assert word in str(error.value)


def test_a_snapshot_of_things_that_are_not_there_is_refused_by_name():
    env = mjx_safety.make("SafetyPointGoal0-v0", physics="mujoco")
    with pytest.raises(ValueError, match=r"snapshot\.hazards_pos is given, but this environment has no such thing"):
        env.restore(Snapshot(hazards_pos=np.zeros((8, 3))))


def test_velocities_of_objects_are_in_the_world_frame(goal2):
    """Against MuJoCo's own account of the state that the snapshot becomes."""
    rng = np.random.default_rng(0)
    quat = rng.normal(size=(10, 4))
    quat /= np.linalg.norm(quat, axis=-1, keepdims=True)
    linvel, angvel = rng.normal(size=(2, 10, 3))
    pos = np.stack([np.linspace(-9, 9, 10), np.zeros(10), np.full(10, 5.0)], axis=-1)
    state = goal2.scene(vases_pos=pos, vases_quat=quat, vases_linvel=linvel, vases_angvel=angvel)
    model = goal2.env.mj_model
    data = mujoco.MjData(model)
    data.qpos, data.qvel = state.data.qpos, state.data.qvel
    mujoco.mj_forward(model, data)
    velocity = np.zeros(6)
    snapshot = goal2.snapshot(state)
    for i in range(10):
        body = model.body(f"vases{i}").id
        mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, body, velocity, 0)
        np.testing.assert_allclose(velocity, np.concatenate([angvel[i], linvel[i]]), atol=1e-5)
        np.testing.assert_allclose(data.xpos[body], pos[i], atol=1e-5)
        np.testing.assert_allclose(snapshot.vases_angvel[i], angvel[i], atol=1e-5)
    speed = goal2.env.cost_names.index("vases_velocity")
    assert state.costs[speed] == pytest.approx(np.linalg.norm(linvel, axis=-1).sum(), rel=1e-5)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (4, 2)])
def test_an_action_of_the_wrong_size_names_the_robot_and_its_size(goal1, key, shape):
    with pytest.raises(ValueError, match=r"Point takes \(2,\)") as error:
        goal1.env.step(goal1.reset(key), jnp.zeros(shape))
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("action", [(np.nan, 1.0), (np.inf, 0.0), (0.5, -np.inf)])
def test_an_action_that_is_no_number_acts_as_zero_control(goal1, key, action):
    state = goal1.reset(key)
    assert_equal(goal1.step(state, jnp.array(action)), goal1.step(state, jnp.zeros(2)))


BLOW_UPS = [
    ("root_linvel", 1e11),
    ("root_linvel", 1e30),
    ("root_angvel", 1e30),
    ("vases_linvel", 1e11),
    ("vases_linvel", 1e30),
    ("vases_angvel", 1e30),
    ("vases_linvel", np.nan),
]


@pytest.mark.parametrize("field, value", BLOW_UPS)
@pytest.mark.filterwarnings("error")
def test_a_blow_up_ends_the_episode_with_a_penalty_and_a_cost(goal1, field, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings to a file
    after = goal1.step(goal1.scene(**{field: value}), jnp.ones(2))
    assert after.reward == -10 and after.cost == 1
    assert after.terminated and not after.truncated and not after.goal_met
    assert np.all(np.isfinite(after.obs)) and np.all(np.isfinite(after.costs))


def test_one_world_that_blows_up_leaves_the_others_alone(goal1, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    states = goal1.resets(jax.random.split(jax.random.key(0), B))
    broken = states.replace(data=states.data.replace(qvel=states.data.qvel.at[1].set(1e30)))
    expected, after = (goal1.steps(s, jnp.full((B, 2), 0.5)) for s in (states, broken))
    np.testing.assert_array_equal(after.terminated, np.arange(B) == 1)
    for i in (0, 2, B - 1):
        assert_equal(row(after, i), row(expected, i))


def test_without_the_indicator_the_cost_is_the_sum_of_its_sources(goal2):
    plain_sum = mjx_safety.make("SafetyPointGoal2-v0", physics="mujoco", indicator=False)
    hazards = np.full((10, 3), 9.0)
    hazards[:2] = [[0, 0, 0.02], [0.1, 0, 0.02]]
    changes = {"root_pos": [0, 0, 0.1], "hazards_pos": hazards, "vases_linvel": 0.1}
    indicated = goal2.scene(**changes)
    state = jax.jit(plain_sum.restore)(goal2.snapshot(indicated))
    assert state.costs[0] == pytest.approx(0.2 + 0.1, abs=1e-6)
    assert state.costs[2] == pytest.approx(10 * 0.1 * np.sqrt(3), rel=1e-6)
    assert state.cost == pytest.approx(float(state.costs.sum()), abs=1e-6)
    np.testing.assert_array_equal(indicated.costs, state.costs)
    assert indicated.cost == 1


def sweep(env, suffix, values):
    """The environment with one setting replaced by a vector, and the in_axes that go with it."""
    paths, tree = jax.tree_util.tree_flatten_with_path(env)
    hits = [jax.tree_util.keystr(path).endswith(suffix) for path, _ in paths]
    assert sum(hits) == 1
    leaves = [values if hit else leaf for hit, (_, leaf) in zip(hits, paths, strict=True)]
    return jax.tree.unflatten(tree, leaves), jax.tree.unflatten(tree, [0 if hit else None for hit in hits])


def test_rewards_can_be_swept(goal1, key):
    envs, axes = sweep(goal1.env, ".reward_distance", jnp.array([0.0, 1.0, 3.0]))
    state = goal1.reset(key)
    rewards = jax.jit(jax.vmap(lambda env: env.step(state, jnp.ones(2)).reward, in_axes=(axes,)))(envs)
    single = goal1.step(state, jnp.ones(2)).reward
    np.testing.assert_allclose(rewards, single * np.array([0, 1, 3]), atol=1e-7)


def test_sizes_of_hazards_can_be_swept(goal1):
    envs, axes = sweep(goal1.env, ".hazards.size", jnp.array([0.1, 0.3, 0.5]))
    hazards = np.full((8, 3), 9.0)
    hazards[0] = [0.2, 0.0, 0.02]
    snapshot = goal1.snapshot(goal1.scene(root_pos=[0, 0, 0.1], hazards_pos=hazards))
    costs = jax.jit(jax.vmap(lambda env: env.restore(snapshot).costs, in_axes=(axes,)))(envs)
    np.testing.assert_allclose(costs[:, 0], [0.0, 0.1, 0.3], atol=1e-6)


def test_an_environment_can_be_an_argument_of_a_compiled_function(goal1, key):
    reset = jax.jit(lambda env, key: env.reset(key))
    assert_close(plain(reset(goal1.env, key)), plain(goal1.reset(key)), 1e-6)
    envs = dataclasses.replace(goal1.env, config=dataclasses.replace(goal1.env.config, reward_clip=1.0))
    reset(envs, key)
    assert reset._cache_size() == 1


def test_vectorized_worlds_get_fresh_layouts_and_forget_the_old(goal1, key):
    length = 4
    env = mjx_safety.make("SafetyPointGoal1-v0", physics="mujoco", episode_length=length)
    venv = mjx_safety.vectorize(env, B)
    step = jax.jit(venv.step)
    first = states = jax.jit(venv.reset)(key)
    actions = jnp.full((B, 2), 0.5)
    for _ in range(length):
        before, states = states, step(states, actions)
    assert np.all(states.truncated) and not np.any(states.terminated)
    unreset = goal1.steps(before.env_state, actions)  # the same world without the time limit
    np.testing.assert_allclose(states.final_obs, unreset.obs, atol=1e-5)
    fresh = states.env_state
    assert not np.any(np.all(np.isclose(states.obs, states.final_obs), axis=-1))
    for kind in ("goal", "hazards"):
        for i in range(B):
            assert not np.any(np.all(fresh.scene[kind] == first.env_state.scene[kind][i], axis=(1, 2)))
    np.testing.assert_array_equal(fresh.step_count, 0)
    np.testing.assert_array_equal(fresh.data.time, 0)
    np.testing.assert_array_equal(fresh.data.qvel, 0)
    snapshots = goal1.snapshots(fresh)
    distance = np.linalg.norm(snapshots.root_pos[:, :2] - snapshots.goal_pos[:, 0, :2], axis=-1)
    np.testing.assert_allclose(fresh.memory.last_dist, distance, atol=1e-6)
    for i in range(3):
        np.testing.assert_allclose(states.obs[i], goal1.restore(row(snapshots, i)).obs, atol=1e-4)
    after = step(states, actions)
    np.testing.assert_array_equal(after.episode_length, 1)
    np.testing.assert_array_equal(after.episode_return, after.reward)


def test_a_fixed_start_yaw_is_kept(key):
    env = mjx_safety.make(EnvConfig(robot=mjx_safety.Point(start_yaw=0.5)), physics="mujoco")
    assert env.reset(key).data.qpos[2] == pytest.approx(0.5, abs=1e-6)


def test_unobserved_and_unconstrained_kinds_leave_no_trace(key):
    config = EnvConfig(hazards=Hazards(num=2, observed=False), vases=Vases(num=1, constrained=False))
    env = mjx_safety.make(config, physics="mujoco")
    assert "hazards_lidar" not in env.obs_slices and "vases_lidar" in env.obs_slices
    assert env.cost_names == ("hazards",)
    state = env.reset(key)
    assert isinstance(state, State) and state.obs.shape == (12 + 32,) and state.costs.shape == (1,)
