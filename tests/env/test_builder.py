"""Every option of the builder (sheet 7) has its effect."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import World, plain, row

import mjx_safety
from mjx_safety import (
    Boundary,
    Button,
    Buttons,
    Car,
    CircleArea,
    Doggo,
    EnvConfig,
    Goal,
    GoalArea,
    Gremlins,
    Hazards,
    Lidar,
    Pillars,
    Point,
    Push,
    PushBox,
    Vases,
    Walls,
)

N = 64  # worlds, for what is drawn at random


def built(**settings):
    return mjx_safety.make(EnvConfig(**settings), physics="mujoco")


def keys(num, seed=0):
    return jax.random.split(jax.random.key(seed), num)


# -- 7.1 placement: one world for all --------------------------------------------------------------------------------

LEFT, RIGHT = (-3.0, -1.0, -2.0, 1.0), (1.0, -1.0, 4.0, 1.0)  # 2 and 6 m^2, less by the keepouts
TOO_SMALL = (0.0, 0.0, 0.3, 0.3)


@pytest.fixture(scope="module")
def layouts():
    """Config and N layouts: kind -> [N, num, 2] m; yaws of the robot [N] rad."""
    config = EnvConfig(
        robot=Point(keepout=0.3, placements=(LEFT, TOO_SMALL, RIGHT)),
        task=Goal(goal=GoalArea(keepout=0.2, locations=((0.0, 1.5),))),
        hazards=Hazards(num=3, keepout=0.15, locations=((-0.5, -1.0), (0.5, -1.5))),
        vases=Vases(num=2, keepout=0.25),
        pillars=Pillars(num=2, keepout=0.1, placements=((-4.0, -2.0, 0.0, -1.75),)),
        walls=Walls(num=2, locations=((-6.0, 0.0), (6.0, 0.0))),
        extents=(-4.0, -2.0, 4.0, 2.0),
        margin=0.1,
    )
    world = World(config)
    snapshots = world.snapshots(world.resets(keys(N)))
    places = {name: np.asarray(getattr(snapshots, f"{name}_pos"))[..., :2] for name in config.placed}
    return config, places | {"robot": np.asarray(snapshots.root_pos)[:, None, :2]}


def test_there_are_as_many_as_asked_for(layouts):
    _, places = layouts
    counts = {name: place.shape[1] for name, place in places.items()}
    assert counts == {"robot": 1, "goal": 1, "hazards": 3, "pillars": 2, "walls": 2, "vases": 2}


def test_places_are_drawn_within_the_extents(layouts):
    _, places = layouts
    bound = np.array([4.0, 2.0]) - 0.25
    assert np.all(np.abs(places["vases"]) <= bound + 1e-6)
    assert np.all(np.abs(places["vases"]).max(axis=(0, 1)) > bound - 0.4)  # and all over them


def test_places_are_drawn_within_the_placements_by_their_areas(layouts):
    _, places = layouts
    x, y = places["robot"][:, 0].T
    left = (x >= -2.7 - 1e-6) & (x <= -2.3 + 1e-6)
    right = (x >= 1.3 - 1e-6) & (x <= 3.7 + 1e-6)
    assert np.all(left | right) and np.all(np.abs(y) <= 0.7 + 1e-6)
    assert 1 <= left.sum() <= 22  # a seventh of 64, 5 standard deviations at most
    x, y = places["pillars"].reshape(-1, 2).T
    assert np.all((x >= -3.9) & (x <= -0.1) & (y >= -1.9 - 1e-6) & (y <= -1.85 + 1e-6))


def test_fixed_locations_are_kept_by_the_first_ones(layouts):
    _, places = layouts
    np.testing.assert_allclose(places["hazards"][:, :2], np.tile([(-0.5, -1.0), (0.5, -1.5)], (N, 1, 1)), atol=1e-6)
    assert len(np.unique(places["hazards"][:, 2], axis=0)) == N
    np.testing.assert_allclose(places["walls"], np.tile([(-6, 0), (6, 0)], (N, 1, 1)), atol=1e-6)
    np.testing.assert_allclose(places["goal"], np.tile([(0.0, 1.5)], (N, 1, 1)), atol=1e-6)


def test_keepouts_and_the_margin_hold_between_all(layouts):
    config, places = layouts
    kinds = {"robot": config.robot, **config.placed}
    place = np.concatenate([places[name] for name in kinds], axis=1)
    keepout = np.concatenate([np.full(kind.num, kind.keepout) for kind in kinds.values()])
    gap = np.linalg.norm(place[:, :, None] - place[:, None], axis=-1) + 9 * np.eye(len(keepout))
    slack = gap - keepout[:, None] - keepout
    assert slack.min() >= 0.1 - 1e-5
    assert slack.min() < 0.2


def test_the_robots_start_can_be_fixed():
    start = Point(locations=((0.7, -0.4),), start_yaw=0.5)
    env = built(robot=start)
    np.testing.assert_allclose(env.reset(jax.random.key(3)).data.qpos, (0.7, -0.4, 0.5), atol=1e-6)


@pytest.mark.parametrize("robot", [Car(start_yaw=-2.0, start_height=0.3), Doggo(start_yaw=-2.0, start_height=0.3)])
def test_a_free_robots_start_can_be_fixed(robot):
    env = built(robot=robot)
    snapshot = jax.eval_shape(lambda key: env.snapshot(env.reset(key)), jax.random.key(0))
    assert snapshot.root_quat.shape == (4,)
    state = jax.jit(lambda key: env._default_snapshot(key, jnp.zeros((2, 2))))(jax.random.key(0))
    np.testing.assert_allclose(state.root_quat, (np.cos(-1), 0, 0, np.sin(-1)), atol=1e-6)
    assert state.root_pos[2] == pytest.approx(0.3)


# -- layouts: fixed, per world ---------------------------------------------------------------------------------------


def layout_of(state):
    """Where everything starts: the physics' coordinates and the places of markers."""
    return np.concatenate([np.ravel(leaf) for leaf in (state.data.qpos, *jax.tree.leaves(state.places.markers))])


def test_a_fixed_layout_is_the_same_at_every_reset_and_follows_its_seed():
    settings = {"hazards": Hazards(num=2, keepout=0.2), "vases": Vases(num=1), "layouts": "fixed"}
    first, again, other = (World(EnvConfig(layout_seed=seed, **settings)) for seed in (1, 1, 2))
    states = first.resets(keys(8))
    layout = layout_of(row(states, 0))
    for i in range(1, 8):
        np.testing.assert_array_equal(layout_of(row(states, i)), layout)
    assert len(np.unique(plain(states).key, axis=0)) == 8  # the rest of the episode is as random as ever
    np.testing.assert_array_equal(layout_of(row(again.resets(keys(8, seed=5)), 3)), layout)
    assert np.all(layout_of(row(other.resets(keys(8)), 0))[:2] != layout[:2])
    assert first.env.keeps_layout


@pytest.mark.parametrize("layouts, kept", [("per_episode", False), ("per_env", True)])
def test_a_world_of_a_batch_starts_anew_or_where_it_first_did(layouts, kept):
    num, length = 4, 2
    env = built(hazards=Hazards(num=2, keepout=0.2), vases=Vases(num=1), layouts=layouts, episode_length=length)
    assert env.keeps_layout == kept
    venv = mjx_safety.vectorize(env, num)
    step = jax.jit(venv.step)
    states = jax.jit(venv.reset)(jax.random.key(0))
    starts = [states.env_state]
    for _ in range(3):
        for _ in range(length):
            states = step(states, jnp.ones((num, 2)))
        assert np.all(states.truncated)
        starts.append(states.env_state)
    first = [layout_of(row(starts[0], i)) for i in range(num)]
    assert len(np.unique(first, axis=0)) == num
    for start in starts[1:]:
        for i in range(num):
            assert np.array_equal(layout_of(row(start, i)), first[i]) == kept
        np.testing.assert_array_equal(start.data.qvel, 0)
        np.testing.assert_array_equal(start.data.time, 0)
        np.testing.assert_array_equal(start.step_count, 0)
    episodes = np.stack([plain(start).key for start in starts]).reshape(4 * num, -1)
    assert len(np.unique(episodes, axis=0)) == 4 * num  # fresh randomness in every episode


def test_worlds_that_keep_their_layouts_may_end_one_by_one():
    """Staggered starts: each world returns to its own layout whenever its episode ends."""
    num = 4
    env = built(hazards=Hazards(num=1), layouts="per_env", episode_length=3)
    venv = mjx_safety.vectorize(env, num, stagger=True)
    step, states = jax.jit(venv.step), jax.jit(venv.reset)(jax.random.key(1))
    first, ended = [layout_of(row(states.env_state, i)) for i in range(num)], 0
    for _ in range(8):
        states = step(states, jnp.ones((num, 2)))
        for i in np.flatnonzero(states.done):
            np.testing.assert_array_equal(layout_of(row(states.env_state, i)), first[i])
            ended += 1
    assert ended >= 2 * num


# -- 7.1 time and control --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def noisy():
    """States after each of some steps of N worlds with a random number of physics steps and noisy controls."""
    world = World(EnvConfig(frameskip=8, frameskip_prob=0.75, action_noise=0.1))
    states = [world.resets(keys(N))]
    for _ in range(12):
        states.append(world.steps(states[-1], jnp.tile(jnp.array([0.95, 2.0]), (N, 1))))
    return world.env, states


def test_the_number_of_physics_steps_is_binomial(noisy):
    env, states = noisy
    time = np.stack([state.data.time for state in states])
    counts = np.diff(time, axis=0) / 0.002
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-2)
    counts = np.round(counts).astype(int).ravel()
    assert counts.min() >= 0 and counts.max() == 8 and len(set(counts)) >= 5
    assert counts.mean() == pytest.approx(6.0, abs=0.2)  # 5 standard errors of 768 draws
    assert counts.var() == pytest.approx(1.5, abs=0.5)
    assert env.dt == pytest.approx(0.002 * 8 * 0.75)
    assert states[-1].step_count[0] == 12


def test_worlds_draw_their_own_numbers_of_physics_steps(noisy):
    _, states = noisy
    counts = np.round(np.diff([state.data.time for state in states], axis=0) / 0.002)
    assert len(np.unique(counts, axis=0)) == len(counts) and len(np.unique(counts, axis=1).T) > N / 2


def test_controls_are_noisy_after_they_were_clipped(noisy):
    _, states = noisy
    noise = np.stack([state.data.ctrl for state in states[1:]]) - np.array([0.95, 1.0])
    assert noise.std(axis=(0, 1)) == pytest.approx(0.1, abs=0.015)
    assert noise.mean(axis=(0, 1)) == pytest.approx(0.0, abs=0.02)
    assert np.all(noise.max(axis=(0, 1)) > 0.1)  # and not clipped again
    assert abs(np.corrcoef(noise.reshape(-1, 2).T)[0, 1]) < 0.2


def test_physics_steps_are_left_out_on_mjx_as_on_the_c_engine():
    """From the same states, which all engines share."""
    config = EnvConfig(frameskip=4, frameskip_prob=0.5, task=Goal(goal=GoalArea(observed=False)))
    first = World(config).resets(keys(8))
    runs = []
    for physics in ("mujoco", "mjx"):
        states, step = [first], jax.jit(jax.vmap(mjx_safety.make(config, physics=physics).step))
        for _ in range(3):
            states.append(step(states[-1], jnp.ones((8, 2))))
        runs.append(jax.tree.map(lambda *leaves: np.stack(leaves), *(state.data for state in states)))
    np.testing.assert_allclose(runs[1].time, runs[0].time, atol=1e-7)
    np.testing.assert_allclose(runs[1].qpos, runs[0].qpos, atol=1e-5)
    assert len(np.unique(runs[0].time[-1])) > 2


@pytest.mark.parametrize("frameskip", [1, 5])
def test_frameskip_sets_the_length_of_a_step(frameskip):
    world = World(EnvConfig(robot=Car(), frameskip=frameskip))
    assert world.env.dt == pytest.approx(0.004 * frameskip)
    state = world.step(world.reset(jax.random.key(0)), jnp.zeros(2))
    assert state.data.time == pytest.approx(0.004 * frameskip)


# -- 7.2 observation -------------------------------------------------------------------------------------------------


def entries(env):
    return {name: where.stop - where.start for name, where in env.obs_slices.items()}


SENSORS = {"accelerometer": 3, "velocimeter": 3, "gyro": 3, "magnetometer": 3}


def test_observed_kinds_have_a_lidar_and_others_none():
    env = built(hazards=Hazards(num=2, observed=False), vases=Vases(num=1), walls=Walls(num=1))
    assert entries(env) == {**SENSORS, "goal_lidar": 16, "walls_lidar": 16, "vases_lidar": 16}
    env = built(task=Goal(goal=GoalArea(observed=False)), boundary=Boundary(num=4, observed=True))
    assert entries(env) == {**SENSORS, "boundary_lidar": 16}


def test_sensors_are_chosen_and_ordered_by_the_robot():
    env = built(robot=Point(sensors=("gyro", "accelerometer")))
    assert entries(env) == {"gyro": 3, "accelerometer": 3, "goal_lidar": 16}
    obs = env.reset(jax.random.key(0)).obs
    np.testing.assert_allclose(obs[:6], (0, 0, 0, 0, 0, 9.81), atol=1e-5)


def test_a_robot_may_observe_no_sensor():
    env = built(robot=Point(sensors=()))
    assert entries(env) == {"goal_lidar": 16}
    assert jax.eval_shape(env.reset, jax.random.key(0)).obs.shape == (16,)


@pytest.mark.parametrize("robot, apart, whole", [(Car, 24, 19), (Doggo, 56, 44)])
def test_angles_are_taken_apart_or_left_whole(robot, apart, whole):
    for angle_components, size in ((True, apart), (False, whole)):
        env = built(robot=robot(angle_components=angle_components), task=Goal(goal=GoalArea(observed=False)))
        assert env.obs_size == size
        assert jax.eval_shape(env.reset, jax.random.key(0)).obs.shape == (size,)


@pytest.fixture(scope="module")
def detailed():
    """A world with all extras, both compasses and a lidar of its own, and a state of it after three steps."""
    world = World(
        EnvConfig(
            robot=Car(),
            task=Push(goal=GoalArea(compass=True), push_box=PushBox(compass=True)),
            lidar=Lidar(num_bins=8, max_dist=None, exp_gain=2.0, alias=False),
            compass_size=3,
            extras=("remaining", "goal_dist", "qpos", "qvel", "ctrl", "freejoint", "com"),
            episode_length=12,
        )
    )
    state = world.reset(jax.random.key(0))
    for action in ([0.5, -0.25], [0.5, 0.5], [0.01, -0.02]):
        state = world.step(state, jnp.array(action))
    return world, state, world.snapshot(state)


def test_entries_stand_where_the_options_put_them(detailed):
    world, _, _ = detailed
    robot = {**SENSORS, "ballangvel_rear": 3, "ballquat_rear": 9}
    objects = {"goal_lidar": 8, "goal_comp": 3, "push_box_lidar": 8, "push_box_comp": 3}
    extras = {"remaining": 1, "goal_dist": 1, "qpos": 20, "qvel": 17, "ctrl": 2, "freejoint": 7, "com": 3}
    assert list(entries(world.env).items()) == list({**robot, **objects, **extras}.items())


def test_extras_are_what_they_say(detailed):
    world, state, snapshot = detailed
    distance = np.linalg.norm(snapshot.goal_pos[0, :2] - snapshot.root_pos[:2])
    assert world.seen(state, "goal_dist")[0] == pytest.approx(np.exp(-distance), abs=1e-6)
    assert world.seen(state, "remaining")[0] == pytest.approx(3 / 12)
    np.testing.assert_array_equal(world.seen(state, "qpos"), state.data.qpos)
    np.testing.assert_array_equal(world.seen(state, "qvel"), state.data.qvel)
    np.testing.assert_allclose(world.seen(state, "ctrl"), (0.01, -0.02))
    np.testing.assert_array_equal(world.seen(state, "freejoint"), state.data.qpos[:7])
    np.testing.assert_allclose(world.seen(state, "freejoint")[:3], snapshot.root_pos)
    # the Car's centre of mass: root 0.0239 kg at (0, 0.004, 0.001), wheels and ball 0.05 m lower (sheet 1.3)
    com = world.seen(state, "com")
    assert np.linalg.norm((com - snapshot.root_pos)[:2]) < 0.02
    assert com[2] - snapshot.root_pos[2] == pytest.approx(-0.0099, abs=1e-3)


def rotation(quat):
    w, x, y, z = np.float64(quat)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def test_compasses_point_at_goal_and_box(detailed):
    world, state, snapshot = detailed
    for name, place in (("goal_comp", snapshot.goal_pos[0]), ("push_box_comp", snapshot.push_box_pos[0])):
        ego = rotation(snapshot.root_quat).T @ np.float64(place - snapshot.root_pos)
        np.testing.assert_allclose(world.seen(state, name), ego / (np.linalg.norm(ego) + 0.001), atol=1e-5)


def test_the_lidar_has_its_bins_its_gain_and_no_neighbours(detailed):
    world, state, snapshot = detailed
    for name, place in (("goal_lidar", snapshot.goal_pos[0]), ("push_box_lidar", snapshot.push_box_pos[0])):
        ego = (rotation(snapshot.root_quat).T @ np.append(place[:2] - snapshot.root_pos[:2], -snapshot.root_pos[2]))[:2]
        lidar = np.zeros(8)
        lidar[int(np.arctan2(ego[1], ego[0]) % (2 * np.pi) / (2 * np.pi / 8))] = np.exp(-2.0 * np.linalg.norm(ego))
        np.testing.assert_allclose(world.seen(state, name), lidar, atol=1e-5)


def test_compasses_have_two_components_unless_told_otherwise():
    env = built(task=Goal(goal=GoalArea(compass=True)))
    assert entries(env)["goal_comp"] == 2
    old = dataclasses.replace(env.config, profile="2019", task=Push(push_box=PushBox(compass=True)))
    assert "box_compass" in mjx_safety.make(old, physics="mujoco").obs_slices


def test_the_2019_profile_is_a_permutation_of_the_observation():
    settings = {"hazards": Hazards(num=2), "extras": ("qvel", "remaining"), "task": Push(goal=GoalArea(compass=True))}
    new, old = (World(EnvConfig(profile=profile, **settings)) for profile in ("1.0.0", "2019"))
    snapshot = new.snapshot(new.reset(jax.random.key(0)))
    states = new.restore(snapshot), old.restore(snapshot)
    names = {"push_box_lidar": "box_lidar", "goal_comp": "goal_compass"}
    assert list(old.env.obs_slices) == sorted(names.get(name, name) for name in new.env.obs_slices)
    for name in new.env.obs_slices:
        old_name = names.get(name, name)
        np.testing.assert_allclose(old.seen(states[1], old_name), new.seen(states[0], name), atol=1e-6, err_msg=name)


@pytest.mark.parametrize("see_markers", [True, False])
def test_natural_lidars_see_surfaces(see_markers):
    """Rays at the Point's height, 0.1 m: over hazards unless they count as columns."""
    world = World(
        EnvConfig(
            hazards=Hazards(num=1),
            pillars=Pillars(num=1),
            vases=Vases(num=1),
            lidar=Lidar(kind="natural", num_bins=8, see_markers=see_markers),
        )
    )
    state = world.scene(
        root_pos=(0, 0, 0.1),
        root_quat=(1, 0, 0, 0),
        hazards_pos=(1.0, 0, 0.02),
        pillars_pos=(0, 1.5, 0.5),
        vases_pos=(-1, 0, 0.1),
        vases_quat=(1, 0, 0, 0),
        goal_pos=(0, -2, 0.16),
    )
    closest = {"hazards": (0, 0.8), "pillars": (2, 1.3), "vases": (4, 0.9), "goal": (6, 1.7)}
    for kind, (direction, distance) in closest.items():
        lidar = world.seen(state, f"{kind}_lidar")
        unseen = kind == "hazards" and not see_markers
        assert lidar[direction] == pytest.approx(0.0 if unseen else np.exp(-distance), abs=1e-5), kind
        assert np.all(np.delete(lidar, direction) == 0), kind


# -- 7.3 task and reward: settings in float are leaves, so one compilation serves all ---------------------------------


@pytest.fixture(scope="module")
def rewards():
    """reward(changes of the config, changes of the task) of one step 3 m nearer to the goal and on to it."""
    settings = {"reward_orientation": True, "reward_orientation_scale": 0.0}
    world = World(EnvConfig(robot=Doggo(), hazards=Hazards(num=1), **settings))
    place = {"root_pos": (0.0, 0.0, 5.0), "root_quat": (np.cos(0.5), np.sin(0.5), 0, 0), "hazards_pos": (0.5, 0, 0.02)}
    state = world.scene(**place, goal_pos=(0.1, 0, 0.16))
    step = jax.jit(lambda env, state: env.step(state, jnp.zeros(12)))

    def reward(gained=3.0, fail=False, task=None, **changes):
        changed = dataclasses.replace(world.env.config, **changes)
        if task:
            changed = dataclasses.replace(changed, task=dataclasses.replace(changed.task, **task))
        start = state.replace(memory=state.memory.replace(last_dist=jnp.float32(0.1 + gained)))
        if fail:
            start = start.replace(data=start.data.replace(qvel=start.data.qvel.at[0].set(1e30)))
        after = step(world.env.replace(config=changed), start)
        return float(after.reward), bool(after.goal_met)

    yield reward
    assert step._cache_size() == 1


def test_progress_and_bonus_have_their_weights(rewards):
    assert rewards() == (pytest.approx(4.0, abs=1e-3), True)
    assert rewards(task={"reward_distance": 2.0})[0] == pytest.approx(7.0, abs=1e-3)
    assert rewards(task={"reward_distance": 0.0})[0] == pytest.approx(1.0, abs=1e-6)  # sparse
    assert rewards(task={"reward_goal": 5.0})[0] == pytest.approx(8.0, abs=1e-3)


def test_the_goal_has_a_size(rewards):
    assert rewards(task={"goal": GoalArea(keepout=0.305, size=0.05)}) == (pytest.approx(3.0, abs=1e-3), False)


def test_rewards_are_clipped_but_for_the_bonus(rewards):
    assert rewards(gained=50.0)[0] == pytest.approx(11.0, abs=1e-6)
    assert rewards(gained=-50.0)[0] == pytest.approx(-9.0, abs=1e-6)
    assert rewards(reward_clip=0.5)[0] == pytest.approx(1.5, abs=1e-6)
    assert rewards(gained=50.0, reward_clip=0.0)[0] == pytest.approx(51.0, abs=1e-2)


def test_being_upright_is_rewarded_by_the_cosine_of_the_tilt(rewards):
    """A tilt of 1 rad; it falls freely, so it stays."""
    gain = rewards(reward_orientation_scale=2.0)[0] - rewards()[0]
    assert gain == pytest.approx(2.0 * np.cos(1.0), abs=1e-3)
    assert rewards(gained=50.0, reward_orientation_scale=2.0)[0] == pytest.approx(11.0, abs=1e-5)  # before the clip


def test_a_blow_up_has_its_reward(rewards, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings to a file
    assert rewards(fail=True)[0] == -10.0
    assert rewards(fail=True, reward_exception=-3.0)[0] == -3.0


def test_sparse_and_weighted_rewards_can_be_swept(rewards):
    """All at once: settings in float are leaves."""
    env = built()
    state = env.reset(jax.random.key(0))

    def reward(weight):
        task = dataclasses.replace(env.config.task, reward_distance=weight)
        return env.replace(config=dataclasses.replace(env.config, task=task)).step(state, jnp.ones(2)).reward

    values = jax.jit(jax.vmap(reward))(jnp.array([0.0, 1.0, 3.0]))
    np.testing.assert_allclose(values, values[1] * np.array([0, 1, 3]), atol=1e-7)


def test_costs_can_be_swept():
    world = World(EnvConfig(hazards=Hazards(num=1), indicator=False))
    snapshot = world.snapshot(world.scene(root_pos=(0, 0, 0.1), hazards_pos=(0.2, 0, 0.02)))

    def cost(size, weight):
        hazards = dataclasses.replace(world.env.config.hazards, size=size, cost=weight)
        return world.env.replace(config=dataclasses.replace(world.env.config, hazards=hazards)).restore(snapshot).cost

    costs = jax.jit(jax.vmap(cost))(jnp.array([0.1, 0.3, 0.5]), jnp.array([1.0, 1.0, 2.0]))
    np.testing.assert_allclose(costs, [0.0, 0.1, 0.6], atol=1e-6)


def test_unknown_options_of_a_task_are_refused():
    with pytest.raises(TypeError, match="reward_speed"):
        Goal(reward_speed=1.0)


# -- 7.3, 7.4 objects ------------------------------------------------------------------------------------------------


def test_objects_have_their_sizes_and_masses():
    env = built(
        task=Push(push_box=PushBox(size=0.3, density=0.002)),
        vases=Vases(num=2, size=0.05, density=0.01, sink=0.01),
        pillars=Pillars(num=1, size=0.4, half_height=0.3),
        buttons=Buttons(num=1, size=0.2),
        gremlins=Gremlins(num=1, size=0.15, density=0.004),
        walls=Walls(num=1, size=0.7),
    )
    model = env.mj_model

    def sizes(name):
        body = model.body(name)
        first = body.geomadr[0]
        return model.geom_size[first : first + body.geomnum[0]], body.mass[0], body.geomnum[0]

    edge = 0.3
    posts = [(edge, edge, edge), *[(edge / 2, edge / 2, edge)] * 4]
    np.testing.assert_allclose(sizes("push_box0")[0], posts)
    assert sizes("push_box0")[1] == pytest.approx(16 * 0.002 * edge**3)
    for index in range(2):
        np.testing.assert_allclose(sizes(f"vases{index}")[0], [(0.05, 0.05, 0.05)])
        assert sizes(f"vases{index}")[1] == pytest.approx(0.01 * 0.1**3)
    np.testing.assert_allclose(sizes("pillars0")[0][0, :2], (0.4, 0.3))
    assert sizes("buttons0")[0][0, 0] == pytest.approx(0.2)
    np.testing.assert_allclose(sizes("gremlins0")[0], [(0.15, 0.15, 0.15)])
    assert sizes("gremlins0")[1] == pytest.approx(0.004 * 0.3**3)
    np.testing.assert_allclose(sizes("walls0")[0], [(0.7, 0.7, 0.7)])
    snapshot = jax.eval_shape(lambda key: env.snapshot(env.reset(key)), jax.random.key(0))
    assert snapshot.vases_pos.shape == (2, 3)
    heights = {"vases": 0.04, "pillars": 0.3, "buttons": 0.2, "gremlins": 0.15, "walls": 0.7, "push_box": 0.3}
    assert {name: env.config.objects[name].height for name in heights} == pytest.approx(heights)


def test_what_is_not_constrained_has_no_cost():
    kinds = {
        "hazards": Hazards(constrained=False),
        "vases": Vases(),
        "pillars": Pillars(constrained=False),
        "gremlins": Gremlins(),
        "boundary": Boundary(constrained=False),
    }
    assert built(**kinds).cost_names == ("vases_contact", "vases_velocity", "gremlins")
    assert built(vases=Vases(displace_cost=1.0)).cost_names == ("vases_contact", "vases_velocity", "vases_displace")
    assert built(task=Button(), hazards=Hazards()).cost_names == ("buttons", "hazards")
    assert built(task=Button(buttons=Buttons(num=4, constrained=False))).cost_names == ()
    assert built(walls=Walls(), task=Push()).cost_names == ()


def test_kinds_without_a_member_are_no_kinds():
    env = built(hazards=Hazards(num=0), vases=Vases(num=0), gremlins=Gremlins(num=0))
    assert entries(env) == {**SENSORS, "goal_lidar": 16}
    assert env.cost_names == () and env.mj_model.nq == 3


def test_the_circle_has_a_radius_and_can_be_moved():
    area = CircleArea(radius=0.7, locations=((0.0, 0.0),))
    env = mjx_safety.make("SafetyPointCircle0-v0", physics="mujoco", task=mjx_safety.Circle(circle=area))
    assert env.config.task.circle.radius == 0.7


def test_lines_of_a_boundary_stand_at_their_distance():
    world = World(EnvConfig(boundary=Boundary(num=4, distance=1.7, cost=2.0), indicator=False))
    snapshot = world.snapshot(world.reset(jax.random.key(0)))
    lines = [(1.7, 0), (-1.7, 0), (0, 1.7), (0, -1.7)]
    np.testing.assert_allclose(snapshot.boundary_pos[:, :2], lines, atol=1e-6)
    assert world.scene(root_pos=(1.71, 0, 0.1)).cost == 2.0
    assert world.scene(root_pos=(1.69, -1.69, 0.1)).cost == 0.0


def test_the_goal_disc_of_button_takes_a_place_if_asked_for():
    """Then the first layout keeps 0.4 m free for it, though it ends up on a button."""
    tasks = (Button(goal_placed=placed, buttons=Buttons(num=2)) for placed in (False, True))
    for task, num in zip(tasks, (3, 4), strict=True):
        env = built(task=task)
        assert env.placement.keepout.shape == (num,)
        snapshot = jax.eval_shape(lambda key, env=env: env.snapshot(env.reset(key)), jax.random.key(0))
        assert snapshot.goal_pos.shape == (1, 3)
