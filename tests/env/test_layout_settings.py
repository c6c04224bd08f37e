"""Settings of the builder for places: extents, keepouts, locations, layouts per world."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import World, built, plain, row

import mjx_safety
from mjx_safety import (
    Car,
    Doggo,
    EnvConfig,
    Goal,
    GoalArea,
    Hazards,
    Pillars,
    Point,
    Vases,
    Walls,
)

N = 64  # worlds, for what is drawn at random


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
    lengths: list[int] = []
    for _ in range(8):
        states = step(states, jnp.ones((num, 2)))
        for i in np.flatnonzero(states.done):
            np.testing.assert_array_equal(layout_of(row(states.env_state, i)), first[i])
            ended += 1
        whole = states.done & ~states.partial
        np.testing.assert_array_equal(states.episode_length[whole], 3)  # only first episodes are shorter
        lengths += states.episode_length[whole].tolist()
    assert ended >= 2 * num
    assert len(lengths) >= num


def test_a_default_snapshot_has_the_fixed_layout():
    env = built(hazards=Hazards(num=2, keepout=0.2), layouts="fixed")
    start = env.reset(jax.random.key(0))
    np.testing.assert_array_equal(layout_of(env.restore(mjx_safety.Snapshot(), jax.random.key(9))), layout_of(start))


def test_a_restarted_world_keeps_its_new_layout():
    env = built(hazards=Hazards(num=1), layouts="per_env", episode_length=2)
    venv = mjx_safety.vectorize(env, 2)
    old, new = (venv.reset(jax.random.key(seed)) for seed in (0, 1))
    states = venv.restart(old, new, np.array([True, False]))
    for _ in range(2):
        states = venv.step(states, jnp.ones((2, 2)))
    for world, origin in enumerate((new, old)):
        np.testing.assert_array_equal(layout_of(row(states.env_state, world)), layout_of(row(origin.env_state, world)))


def test_fixed_places_may_be_as_near_as_their_keepouts_allow():
    """0.4 m apart with keepouts of 0.2 m: in single precision, some of these distances are less."""
    for step in range(4):
        places = ((-1.6 + 0.1 * step, 0.0), (-1.2 + 0.1 * step, 0.0))
        env = built(hazards=Hazards(num=2, keepout=0.2, locations=places), extents=(-2, -2, 2, 2))
        assert not env.reset(jax.random.key(0)).placement_failed
