"""Layouts of many worlds at once: the law is that of one world, and no world waits for the unluckiest one.

The law is written out in numpy, straight from the reference's procedure. Samples are compared by the means of moments.
Two means of the same law differ by more than 5 standard errors once in 1.7 million; the largest comparison has 130
moments, so a false alarm has a chance below 1e-4. That the comparison sees biased samplers is tested with some.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjx_safety import layouts, placement
from mjx_safety.layouts import sample_layouts, search_layouts
from mjx_safety.placement import AbstractPlaced, placement_table, sample_layout

pytestmark = pytest.mark.usefixtures("strict_ranks")

SIGMAS = 5.0
NUM = 3000
TRIES = 100


class Thing(AbstractPlaced):
    """Something to place."""


def square(half):
    return (-half, -half, half, half)


def table_of(half, **kinds):
    """kinds: name -> (number, keepout in m)."""
    things = {name: Thing(num=num, keepout=keepout) for name, (num, keepout) in kinds.items()}
    return placement_table(things, square(half), 0.0)


BUTTON1 = table_of(1.5, robot=(1, 0.4), buttons=(4, 0.2), hazards=(4, 0.18), gremlins=(4, 0.4))
BUTTON2 = table_of(1.8, robot=(1, 0.4), buttons=(4, 0.2), hazards=(8, 0.18), gremlins=(6, 0.4))
CROWD = table_of(1.1, robot=(1, 0.4), goal=(1, 0.35), hazards=(2, 0.3))  # most goals have little room for a new place
IMPOSSIBLE = table_of(1.0, robot=(1, 0.4), hazards=(5, 0.6))


def strip_table():
    """The robot at x in [0.6, 0.64] m leaves the other thing x - 0.6 of its 1 m: nothing to 4 %, so 100 tries fail often."""
    robot = Thing(keepout=0.0, placements=((0.6, 0.0, 0.64, 0.0),))
    other = Thing(keepout=1.1, placements=((-1.6, -1.1, 1.6, 1.1),))
    return placement_table({"robot": robot, "other": other}, square(2.0), 0.0)


STRIP = strip_table()


def place(rng, table, i, others, tries):
    """The first of `tries` uniform places of thing i that is clear of the others {j: place}, and how many were drawn."""
    keepout = np.asarray(table.keepout, float)
    low_x, low_y, high_x, high_y = np.asarray(table.rectangles, float)[i, 0]
    spots = np.stack([rng.uniform(low_x, high_x, tries), rng.uniform(low_y, high_y, tries)], axis=-1)
    valid = np.ones(tries, bool)
    for j, other in others.items():
        valid &= np.linalg.norm(spots - other, axis=-1) >= keepout[i] + keepout[j]
    return (spots[valid.argmax()], valid.argmax() + 1) if valid.any() else (None, tries)


def attempt(rng, table, tries=TRIES):
    """One attempt at a layout: the places or None, and the number of places drawn."""
    places, drawn = {}, 0
    for i in range(len(table.keepout)):
        spot, num = place(rng, table, i, places, tries)
        drawn += num
        if spot is None:
            return None, drawn
        places[i] = spot
    return places, drawn


def sequential(rng, table, redrawn=None):
    """A layout [N, 2] by the reference's law: attempts from the start until one succeeds, then the goal's new place."""
    while True:
        places, _ = attempt(rng, table)
        if places is None:
            continue
        if redrawn is not None:
            del places[redrawn]
            places[redrawn], _ = place(rng, table, redrawn, places, 10_000)
        return np.array([places[i] for i in range(len(places))])


def never_restarted(rng, table):
    """Biased: tries without limit."""
    places, _ = attempt(rng, table, 100_000)
    return np.array(list(places.values()))


def uniform_on_all(rng, table):
    """Biased: uniform on all valid layouts, each attempt having one try per thing."""
    while True:
        places, _ = attempt(rng, table, 1)
        if places is not None:
            return np.array(list(places.values()))


def first_to_finish(rng, table):
    """Biased: three lanes race."""
    tries = [attempt(rng, table) for _ in range(3)]
    whole = [(drawn, i) for i, (places, drawn) in enumerate(tries) if places is not None]
    return np.array(list(tries[min(whole)[1]][0].values())) if whole else first_to_finish(rng, table)


def draw_many(sampler, table, num, seed, **options):
    rng = np.random.default_rng(seed)
    return np.stack([sampler(rng, table, **options) for _ in range(num)])


@functools.partial(jax.jit, static_argnames=("num", "redrawn"))
def draw_batch(key, table, num, redrawn=None):
    return sample_layouts(key, table, num, redrawn)


@functools.partial(jax.jit, static_argnames=("num", "redrawn"))
def draw_alone(key, table, num, redrawn=None):
    return jax.vmap(lambda key: sample_layout(key, table, redrawn))(jax.random.split(key, num))


def distances(xy):
    """[..., N, N] m, infinite on the diagonal."""
    return np.linalg.norm(xy[..., :, None, :] - xy[..., None, :, :], axis=-1) + np.diag([np.inf] * xy.shape[-2])


def moments(xy):
    """Coordinates of each thing, their squares, its distance from the middle, and the distances of all pairs: [num, K]."""
    flat, upper = xy.reshape(len(xy), -1), np.triu_indices(xy.shape[1], 1)
    return np.concatenate([flat, flat**2, np.linalg.norm(xy, axis=-1), distances(xy)[:, *upper]], axis=-1)


def worst_z(xy, expected):
    """Largest deviation of a mean, in standard errors."""
    a, b = moments(np.asarray(xy, float)), moments(np.asarray(expected, float))
    error = np.sqrt(a.var(axis=0) / len(a) + b.var(axis=0) / len(b))
    return np.max(np.abs(a.mean(axis=0) - b.mean(axis=0)) / np.maximum(error, 1e-6))


def assert_valid(table, xy):
    keepout, (low, high) = np.asarray(table.keepout), np.split(np.asarray(table.rectangles)[:, 0], 2, axis=-1)
    assert np.all(distances(xy) >= keepout[:, None] + keepout[None] - 1e-5)
    assert np.all((xy >= low[None] - 1e-6) & (xy <= high[None] + 1e-6))


@pytest.fixture(scope="module")
def button1():
    return draw_many(sequential, BUTTON1, 2000, seed=0)


@pytest.fixture(scope="module")
def strip():
    return draw_many(sequential, STRIP, 4 * NUM, seed=1)


@pytest.mark.parametrize("draw", [draw_batch, draw_alone])
def test_button_layouts_follow_the_sequential_law(draw, button1, key):
    xy, failed = draw(key, BUTTON1, NUM)
    assert not np.any(failed)
    assert_valid(BUTTON1, np.asarray(xy))
    assert worst_z(xy, button1) < SIGMAS


@pytest.mark.parametrize("draw", [draw_batch, draw_alone])
def test_rare_successes_follow_the_sequential_law(draw, strip, key):
    xy, failed = draw(key, STRIP, NUM)
    assert not np.any(failed)
    assert_valid(STRIP, np.asarray(xy))
    assert worst_z(xy, strip) < SIGMAS


@pytest.mark.parametrize("num", [1, 2, 5])
def test_small_batches_follow_it_too(num, strip, key):
    keys = jax.random.split(key, 2 * NUM // num)
    xy, failed = jax.jit(jax.vmap(lambda key: sample_layouts(key, STRIP, num)))(keys)
    assert not np.any(failed)
    assert worst_z(np.reshape(xy, (-1, 2, 2)), strip) < SIGMAS


@pytest.mark.parametrize("biased", [never_restarted, uniform_on_all, first_to_finish])
def test_the_comparison_sees_biased_laws(biased, strip):
    assert worst_z(draw_many(biased, STRIP, NUM, seed=2), strip) > 2 * SIGMAS


@pytest.mark.parametrize("num", [5, NUM])
def test_the_comparison_sees_layouts_handed_out_in_the_order_of_finishing(num, strip, key):
    keys = jax.random.split(key, 2 * NUM // num)
    pool = jax.jit(jax.vmap(lambda key: search_layouts(key, STRIP, num)))(keys)
    assert worst_z(np.reshape(pool.xy[:, :num], (-1, 2, 2)), strip) > 1.2 * SIGMAS


def test_the_place_in_the_batch_tells_nothing(key):
    xy, _ = draw_batch(key, STRIP, 2 * NUM)
    assert worst_z(xy[:NUM], xy[NUM:]) < SIGMAS
    assert worst_z(xy[::2], xy[1::2]) < SIGMAS
    robot = np.asarray(xy)[:, 0, 0]
    neighbours = np.corrcoef(robot[1:], robot[:-1])[0, 1]
    assert abs(neighbours) < SIGMAS / np.sqrt(len(robot))


def test_worlds_and_keys_differ(key):
    first, again = draw_batch(key, BUTTON1, 64)[0], draw_batch(key, BUTTON1, 64)[0]
    other = draw_batch(jax.random.fold_in(key, 1), BUTTON1, 64)[0]
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(np.concatenate([first, other])[:, 0], axis=0)) == 128


def test_an_impossible_table_ends_and_marks_all_worlds(key, monkeypatch):
    monkeypatch.setattr(layouts, "MAX_LAYOUTS", 20)
    xy, failed = jax.jit(lambda key: sample_layouts(key, IMPOSSIBLE, 16))(key)
    pool = jax.jit(lambda key: search_layouts(key, IMPOSSIBLE, 16))(key)
    assert np.all(failed)
    assert pool.num_begun == 16 * 20
    assert np.all(np.abs(xy) <= 1.0), "a failed layout is not even in the extents"


def test_worlds_beyond_the_last_attempt_are_marked(key, monkeypatch):
    monkeypatch.setattr(layouts, "MAX_LAYOUTS", 2)
    xy, failed = map(np.asarray, jax.jit(lambda key: sample_layouts(key, BUTTON1, 300))(key))
    assert 100 < failed.sum() < 290
    assert_valid(BUTTON1, xy[~failed])
    assert np.all(distances(xy[failed]).min(axis=(1, 2)) < 0.36)


@pytest.fixture(scope="module")
def crowd():
    return draw_many(sequential, CROWD, NUM, seed=3, redrawn=1)


@pytest.mark.parametrize("draw", [draw_batch, draw_alone])
def test_redrawn_goals_follow_the_law(draw, crowd, key):
    xy, failed = draw(key, CROWD, NUM, 1)
    assert not np.any(failed)
    assert_valid(CROWD, np.asarray(xy))
    assert worst_z(xy, crowd) < SIGMAS
    assert worst_z(draw(key, CROWD, NUM)[0], crowd) > SIGMAS, "the redrawn goal's law is too near the first one's"


def test_a_goal_without_a_new_place_fails_its_world(key, monkeypatch):
    monkeypatch.setattr(placement, "MAX_REDRAWS", 10)
    share = []
    for draw in (draw_batch, draw_alone):
        xy, failed = map(np.asarray, jax.jit(lambda key, draw=draw.__wrapped__: draw(key, CROWD, NUM, 1))(key))
        assert_valid(CROWD, xy[~failed])
        assert np.all(np.abs(xy) <= 1.1)
        share.append(failed.mean())
    assert 0.02 < share[0] < 0.9
    assert abs(share[0] - share[1]) < SIGMAS * np.sqrt(2 * 0.25 / NUM)


def test_seeds_can_be_vmapped_and_loops_contain_it(key):
    keys = jax.random.split(key, 3)
    together, _ = jax.jit(jax.vmap(lambda key: sample_layouts(key, BUTTON1, 4)))(keys)

    def redo(turn, xy):
        return sample_layouts(keys[turn], BUTTON1, 4)[0]

    for i in range(3):
        alone, _ = draw_batch(keys[i], BUTTON1, 4)
        np.testing.assert_allclose(together[i], alone, atol=1e-6)
        looped = jax.jit(lambda last: jax.lax.fori_loop(0, last, redo, jnp.zeros_like(alone)))(i + 1)
        np.testing.assert_allclose(looped, alone, atol=1e-6)


def test_a_choice_of_rectangles_is_made_by_area(key):
    small, large = (0.0, 0.0, 1.0, 1.0), (2.0, 0.0, 4.0, 2.0)
    table = placement_table({"goal": Thing(placements=(small, large)), "rest": Thing(num=2)}, square(1.0), 0.0)
    xy, _ = draw_batch(key, table, NUM)
    assert np.mean(xy[:, 0, 0] <= 1) == pytest.approx(0.2, abs=SIGMAS * np.sqrt(0.16 / NUM))
    assert np.all(np.abs(xy[:, 1:]) <= 1)


def test_4096_worlds_take_far_fewer_turns_than_the_slowest_alone(key):
    pool = jax.jit(lambda key: search_layouts(key, BUTTON2, 4096))(key)
    one_by_one = jax.jit(jax.vmap(lambda key: search_layouts(key, BUTTON2, 1)))(jax.random.split(key, 512))
    assert np.sum(pool.found_by < layouts.NEVER) >= 4096
    assert 3 * pool.num_rounds < one_by_one.num_rounds.max(), "already among 512 worlds"
