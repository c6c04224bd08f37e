"""Layouts: keepouts hold, and positions follow the reference's sequential law, which is written out below in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mjx_safety
from mjx_safety.world.objects import GoalArea, Hazards, Vases
from mjx_safety.world.placement import layout
from mjx_safety.world.placement.layout import redraw, sample_layout
from mjx_safety.world.placement.table import placement_table
from mjx_safety.world.robots.point import POINT

NUM_LAYOUTS = 3000
SIGMAS = 5.0  # two means of the same law differ more than this once in a million
UNIT = (-1.0, -1.0, 1.0, 1.0)


def sequential_law(rng, table, tries_per_object=100):
    """One layout: thing after thing, up to 100 candidates each, from the start when one finds no place."""
    rectangles, probs = np.asarray(table.rectangles, float), np.asarray(table.probs, float)
    keepout, margin = np.asarray(table.keepout, float), float(table.margin)
    while True:
        layout = []
        for i in range(len(keepout)):
            for _ in range(tries_per_object):
                low_x, low_y, high_x, high_y = rectangles[i, rng.choice(len(probs[i]), p=probs[i] / probs[i].sum())]
                x, y = rng.uniform(low_x, high_x), rng.uniform(low_y, high_y)
                far = (np.hypot(x - a, y - b) >= keepout[i] + keepout[j] + margin for j, (a, b) in enumerate(layout))
                if all(far):
                    layout.append((x, y))
                    break
            else:
                break
        if len(layout) == len(keepout):
            return np.array(layout)


def sample(table, num=NUM_LAYOUTS, seed=0):
    """Layouts [num, N, 2] and failures [num]."""
    keys = jax.random.split(jax.random.key(seed), num)
    xy, failed = jax.jit(jax.vmap(sample_layout, in_axes=(0, None)))(keys, table)
    return np.asarray(xy), np.asarray(failed)


def gaps(xy):
    """Distances [..., N, N] between all things, infinite on the diagonal."""
    distance = np.linalg.norm(xy[..., :, None, :] - xy[..., None, :, :], axis=-1)
    return distance + np.diag(np.full(xy.shape[-2], np.inf))


def required(table):
    keepout = np.asarray(table.keepout)
    return keepout[:, None] + keepout + np.asarray(table.margin)


def moments(xy):
    """Radius of each thing, its coordinates, and the distances of all pairs: [num, K]."""
    radius = np.linalg.norm(xy, axis=-1)
    upper = np.triu_indices(xy.shape[1], 1)
    return np.concatenate([radius, radius**2, xy[..., 0], xy[..., 1], gaps(xy)[:, upper[0], upper[1]]], axis=-1)


def assert_same_law(xy, expected):
    a, b = moments(xy), moments(expected)
    error = np.sqrt(a.var(axis=0) / len(a) + b.var(axis=0) / len(b))
    z = (a.mean(axis=0) - b.mean(axis=0)) / np.maximum(error, 1e-6)
    assert np.abs(z).max() < SIGMAS, f"worst deviation {np.abs(z).max():.1f} sigma at moment {np.abs(z).argmax()}"
    assert np.mean(z**2) < 1.6, "the moments deviate together"


def goal2_table():
    return mjx_safety.make("SafetyPointGoal2-v0", physics="mujoco").placement


@pytest.fixture(scope="module")
def goal2():
    table = goal2_table()
    return table, *sample(table)


@pytest.fixture(scope="module")
def crowded():
    """The last thing has room only when the first two leave the middle: most layouts are given up."""
    return placement_table(
        {"robot": POINT, "goal": GoalArea(keepout=0.4), "hazards": Hazards(num=2, keepout=0.3)}, UNIT, 0.0
    )


def test_keepouts_hold_in_2000_goal2_layouts(goal2):
    table, xy, failed = goal2
    assert not failed.any()
    assert np.all(gaps(xy[:2000]) >= required(table) - 1e-6)


def test_everything_stays_in_the_extents_shrunk_by_its_keepout(goal2):
    table, xy, _ = goal2
    room = 2.0 - np.asarray(table.keepout)
    assert np.all(np.abs(xy) <= room[:, None] + 1e-6)
    assert np.all(np.abs(xy).max(axis=(0, 2)) > room - 0.05), "the edges of the room are never used"


def test_goal2_layouts_follow_the_sequential_law(goal2):
    table, xy, _ = goal2
    rng = np.random.default_rng(0)
    assert_same_law(xy, np.stack([sequential_law(rng, table) for _ in range(2000)]))


def test_restarts_follow_the_sequential_law(crowded, monkeypatch):
    monkeypatch.setattr(layout, "TRIES_PER_OBJECT", 10)
    rng = np.random.default_rng(1)
    expected = np.stack([sequential_law(rng, crowded, tries_per_object=10) for _ in range(2000)])
    xy, failed = sample(crowded)
    assert not failed.any()
    assert_same_law(xy, expected)
    plain = jax.random.uniform(jax.random.key(0), (NUM_LAYOUTS, 2), minval=-0.6, maxval=0.6)
    radius = np.linalg.norm(plain, axis=-1).mean()
    assert np.linalg.norm(xy[:, 0], axis=-1).mean() > radius + 0.05, "restarts are too rare for this test to see them"


def test_the_margin_widens_every_gap():
    table = placement_table({"robot": POINT, "hazards": Hazards(num=2, keepout=0.1)}, UNIT, 0.2)
    xy, failed = sample(table, 200)
    assert not failed.any()
    least = gaps(xy).min(axis=0)
    assert np.all(least >= required(table) - 1e-6)
    assert least[1, 2] >= 0.4 - 1e-6


def test_an_impossible_crowd_is_flagged(monkeypatch):
    monkeypatch.setattr(layout, "MAX_LAYOUTS", 20)
    table = placement_table({"robot": POINT, "hazards": Hazards(num=5, keepout=0.6)}, UNIT, 0.0)
    _, failed = sample(table, 20)
    assert failed.all()


def test_a_layout_that_is_not_flagged_keeps_its_distances(crowded, monkeypatch):
    monkeypatch.setattr(layout, "TRIES_PER_OBJECT", 10)
    monkeypatch.setattr(layout, "MAX_LAYOUTS", 2)
    xy, failed = sample(crowded, 500)
    assert 0 < failed.sum() < 500
    apart = np.all(gaps(xy) >= required(crowded) - 1e-6, axis=(1, 2))
    np.testing.assert_array_equal(apart | failed, True)


def test_a_failed_layout_ends_the_world_it_belongs_to(key, monkeypatch):
    monkeypatch.setattr(layout, "MAX_LAYOUTS", 2)
    monkeypatch.setattr("mjx_safety.env.env.require_room", lambda table: None)  # `make` would refuse the crowd
    crowd = Hazards(num=8, keepout=0.5)
    env = mjx_safety.make("SafetyPointGoal1-v0", physics="mujoco", hazards=crowd)
    state = jax.jit(env.reset)(key)
    assert state.placement_failed and state.terminated
    after = jax.jit(env.step)(state, jnp.zeros(2))
    assert after.placement_failed and after.terminated and not after.truncated


def test_fixed_locations_are_kept_and_respected():
    locations = ((0.5, -0.25), (-0.5, 0.0))
    table = placement_table(
        {"robot": POINT, "hazards": Hazards(num=3, keepout=0.2, locations=locations)}, (-2.0, -2.0, 2.0, 2.0), 0.0
    )
    xy, failed = sample(table, 300)
    assert not failed.any()
    np.testing.assert_allclose(xy[:, 1:3], np.broadcast_to(locations, (300, 2, 2)), atol=1e-6)
    assert np.all(gaps(xy) >= required(table) - 1e-6)
    assert np.unique(xy[:, 3], axis=0).shape[0] == 300


def test_a_fixed_location_may_lie_outside_the_extents():
    table = placement_table({"robot": POINT, "goal": GoalArea(locations=((5.0, 0.0),))}, UNIT, 0.0)
    xy, failed = sample(table, 10)
    assert not failed.any()
    np.testing.assert_allclose(xy[:, 1], np.tile([5.0, 0.0], (10, 1)))


def test_rectangles_are_chosen_by_their_shrunk_area():
    small, large, too_narrow = (-2.0, -1.0, -1.4, -0.4), (0.0, 0.0, 1.1, 1.1), (0.0, -2.0, 0.15, 2.0)
    hazards = Hazards(num=1, keepout=0.1, placements=(small, large, too_narrow))
    table = placement_table({"hazards": hazards}, UNIT, 0.0)
    xy, _ = sample(table)
    in_small, in_large = (
        np.all((xy[:, 0] >= np.array(r[:2]) + 0.1 - 1e-6) & (xy[:, 0] <= np.array(r[2:]) - 0.1 + 1e-6), axis=-1)
        for r in (small, large)
    )
    assert np.all(in_small ^ in_large)
    chance = 0.4**2 / (0.4**2 + 0.9**2)
    assert in_small.mean() == pytest.approx(chance, abs=SIGMAS * np.sqrt(chance * (1 - chance) / NUM_LAYOUTS))
    for inside, (left, bottom, right, top) in ((in_small, small), (in_large, large)):
        spot, middle = xy[inside, 0], np.array([(left + right) / 2, (bottom + top) / 2])
        half = (right - left) / 2 - 0.1
        error = half / np.sqrt(3 * len(spot))
        assert np.all(np.abs(spot.mean(axis=0) - middle) < SIGMAS * error)


def test_overlapping_rectangles_weigh_double():
    square = (0.0, 0.0, 1.0, 1.0)
    table = placement_table({"goal": GoalArea(keepout=0.0, placements=(square, square, (2.0, 0.0, 3.0, 1.0)))}, UNIT, 0)
    xy, _ = sample(table)
    assert (xy[:, 0, 0] <= 1).mean() == pytest.approx(2 / 3, abs=SIGMAS * np.sqrt(2 / 9 / NUM_LAYOUTS))


def test_rows_name_the_things_in_the_order_of_placement():
    table = goal2_table()
    assert [name for name, _, _ in table.slices] == ["robot", "goal", "hazards", "vases"]
    rows = [table.rows(name) for name in ("robot", "goal", "hazards", "vases")]
    assert rows == [slice(0, 1), slice(1, 2), slice(2, 12), slice(12, 22)]


@pytest.mark.parametrize(
    "hazards, words",
    [
        (Hazards(num=1, keepout=1.1), ("hazards", "1.1", "extents")),
        (Hazards(num=1, keepout=0.6, placements=((0.0, 0.0, 1.0, 1.0),)), ("hazards", "0.6", "placements")),
    ],
)
def test_a_kind_without_any_room_is_named(hazards, words):
    with pytest.raises(ValueError, match="no room to place") as error:
        placement_table({"robot": POINT, "hazards": hazards}, UNIT, 0.0)
    for word in words:
        assert word in str(error.value)


def test_a_kind_without_room_is_named_when_the_environment_is_built():
    with pytest.raises(ValueError, match="no room to place vases"):
        mjx_safety.make("SafetyPointGoal1-v0", physics="mujoco", vases=Vases(num=1, keepout=1.6))


def redraw_goal(key, table, xy, needed, key_fn=lambda key: key):
    return redraw(key_fn, key, table, 1, xy, needed)


@pytest.fixture(scope="module")
def redraws(goal2):
    """The goals of 3000 Goal2 layouts, drawn anew where needed."""
    table, xy, _ = goal2
    needed = np.arange(NUM_LAYOUTS) % 3 != 0
    keys = jax.random.split(jax.random.key(7), NUM_LAYOUTS)
    goal, failed = jax.jit(jax.vmap(lambda key, xy, needed: redraw_goal(key, table, xy, needed)))(keys, xy, needed)
    return needed, np.asarray(goal), np.asarray(failed)


def test_a_redrawn_goal_is_clear_of_everything(goal2, redraws):
    table, xy, _ = goal2
    needed, goal, failed = redraws
    assert not failed.any()
    assert np.all(np.any(goal[needed] != xy[needed, 1], axis=-1))
    moved = xy.copy()
    moved[:, 1] = goal
    assert np.all(gaps(moved) >= required(table) - 1e-6)
    assert np.all(np.abs(goal) <= 2.0 - 0.305 + 1e-6)


def test_a_goal_that_need_not_move_stays(goal2, redraws):
    _, xy, _ = goal2
    needed, goal, _ = redraws
    np.testing.assert_array_equal(goal[~needed], xy[~needed, 1])


def test_redraws_follow_the_sequential_law(goal2, redraws):
    """A redrawn thing is uniform where it is clear of the others: what sequential placing would give the last one."""
    table, xy, _ = goal2
    needed, goal, _ = redraws
    rng, keepout = np.random.default_rng(2), np.asarray(table.keepout)
    expected = []
    for one in np.delete(xy[needed], 1, axis=1):
        while True:
            spot = rng.uniform(-2 + 0.305, 2 - 0.305, 2)
            if np.all(np.linalg.norm(one - spot, axis=-1) >= 0.305 + np.delete(keepout, 1)):
                expected.append(spot)
                break
    assert_same_law(goal[needed][:, None], np.array(expected)[:, None])


def test_nothing_is_drawn_where_no_redraw_is_needed(goal2, key, monkeypatch):
    table, xy, _ = goal2
    draws, keys = [], []
    first_valid = layout._first_valid
    monkeypatch.setattr(layout, "_first_valid", lambda *args: draws.append(1) or first_valid(*args))
    with jax.disable_jit():
        redraw_goal(key, table, jnp.asarray(xy[0]), jnp.bool_(False), lambda key: keys.append(1) or key)
        assert not draws and not keys
        redraw_goal(key, table, jnp.asarray(xy[0]), jnp.bool_(True), lambda key: keys.append(1) or key)
    assert draws and keys


def test_a_step_makes_the_key_of_a_new_goal_only_where_one_is_drawn():
    """The key takes longer than the physics of a robot alone. So it is in the loop that draws, also once compiled."""
    env = mjx_safety.make("SafetyPointGoal0-v0", physics="mujoco")
    states = jax.eval_shape(jax.vmap(env.reset), jax.random.split(jax.random.key(0), 4))
    program = jax.jit(jax.vmap(env.step)).lower(states, jnp.zeros((4, 2))).compile().as_text()
    rounds = [line for line in program.splitlines() if " while(" in line and "threefry" in line]
    in_every_step = program[program.index("ENTRY") :].splitlines()
    assert rounds and not set(rounds) & set(in_every_step)


def test_a_failed_redraw_is_flagged_and_moves_nothing(key, monkeypatch):
    monkeypatch.setattr(layout, "MAX_REDRAWS", 50)
    table = placement_table({"robot": POINT, "goal": GoalArea(), "hazards": Hazards(num=4)}, UNIT, 0.0)
    xy = jnp.array([[0.0, 0.0], [0.1, 0.2], [0.5, 0.5], [0.5, -0.5], [-0.5, 0.5], [-0.5, -0.5]])
    draw = jax.jit(lambda needed: redraw_goal(key, table, xy, needed))
    goal, failed = draw(jnp.bool_(True))
    assert failed
    np.testing.assert_array_equal(goal, xy[1])
    _, failed = draw(jnp.bool_(False))
    assert not failed


def test_blocks_divide_the_numbers_of_tries():
    assert layout.TRIES_PER_OBJECT % layout.BLOCK == 0
    assert layout.MAX_REDRAWS % layout.BLOCK == 0
    assert (layout.TRIES_PER_OBJECT, layout.MAX_LAYOUTS, layout.MAX_REDRAWS) == (100, 10_000, 10_000)


def test_the_same_key_gives_the_same_layout(goal2):
    table, xy, _ = goal2
    again, _ = sample(table)
    np.testing.assert_array_equal(xy, again)
    assert np.unique(xy.reshape(len(xy), -1), axis=0).shape[0] == NUM_LAYOUTS


def test_many_objects_are_looked_at_as_few_are(monkeypatch):
    """The program for more than UNROLLED objects finds the same places."""
    kinds = {"robot": POINT, "hazards": Hazards(num=12, keepout=0.2)}
    table = placement_table(kinds, (-1.5, -1.5, 1.5, 1.5), 0.0)
    few = sample_layout(jax.random.key(3), table)
    monkeypatch.setattr(layout, "UNROLLED", 4)
    many = sample_layout(jax.random.key(3), table)
    np.testing.assert_array_equal(few[0], many[0])
    assert not few[1] and not many[1]
