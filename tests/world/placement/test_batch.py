"""Layouts of many worlds at once: the law is that of one world, and no world waits for the unluckiest one.

The law is written out in numpy, straight from the reference's procedure. Samples are compared by the means of moments.
Two means of the same law differ by more than 5 standard errors once in 1.7 million; the largest comparison has 143
moments, so a false alarm has a chance below 1e-4. Samplers that are biased on purpose show what the comparison sees.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjx_safety.world.placement import batch, layout
from mjx_safety.world.placement.batch import sample_layouts, search_layouts
from mjx_safety.world.placement.layout import sample_layout
from mjx_safety.world.placement.table import AbstractPlaced, placement_table

pytestmark = pytest.mark.usefixtures("strict_ranks")

SIGMAS = 5.0
NUM = 3000  # layouts of a sample
TRIES = 100


class Thing(AbstractPlaced):
    """Something to place."""


def table_of(half, **kinds):
    """Things in the square of 2 * half m. kinds: name -> (number, keepout in m)."""
    things = {name: Thing(num=num, keepout=keepout) for name, (num, keepout) in kinds.items()}
    return placement_table(things, (-half, -half, half, half), 0.0)


BUTTON1 = table_of(1.5, robot=(1, 0.4), buttons=(4, 0.2), hazards=(4, 0.18), gremlins=(4, 0.4))
BUTTON2 = table_of(1.8, robot=(1, 0.4), buttons=(4, 0.2), hazards=(8, 0.18), gremlins=(6, 0.4))
CROWD = table_of(1.0, robot=(1, 0.4), goal=(1, 0.4), hazards=(2, 0.3))  # the goal has little room for a new place
IMPOSSIBLE = table_of(1.0, robot=(1, 0.4), hazards=(5, 0.6))

# On the x axis: the robot leaves each of five small things the first p = x - 0.6 of their metre. In half of its places
# p is in [0.01, 0.04], in the others in [0.7, 0.73]. With 100 tries for each thing, a layout has the chance
# (1 - (1 - p)^100)^5 and takes about 5 / p draws.
STRIP = placement_table(
    {
        "robot": Thing(keepout=1.1, placements=((-0.49, -1.1, 1.74, 1.1), (0.2, -1.1, 2.43, 1.1))),
        "rest": Thing(num=5, placements=((-0.5, 0.0, 0.5, 0.0),)),
    },
    (-2.0, -2.0, 2.0, 2.0),
    0.0,
)


class Reference:
    """The reference's procedure."""

    def __init__(self, table, seed):
        self.rng, self.num, self.keepout = np.random.default_rng(seed), len(table.keepout), np.asarray(table.keepout)
        self.rectangles, self.probs = np.asarray(table.rectangles, float), np.asarray(table.probs, float)

    def place(self, i, places, tries=TRIES):
        """The first of `tries` uniform places of thing i that is clear of {j: place}, or None; how many it took."""
        choice, p = len(self.probs[i]), self.probs[i] / self.probs[i].sum()
        chosen = self.rng.choice(choice, size=tries, p=p) if choice > 1 else np.zeros(tries, int)
        low, high = self.rectangles[i][chosen, :2], self.rectangles[i][chosen, 2:]
        spots, others = low + self.rng.random((tries, 2)) * (high - low), list(places)
        if not others:
            return spots[0], 1
        apart = spots.T[:, None] - np.array([places[j] for j in others]).T[:, :, None]  # [2, others, tries] m
        least = self.keepout[i] + self.keepout[others]
        valid = np.all(apart[0] ** 2 + apart[1] ** 2 >= least[:, None] ** 2, axis=0)
        return (spots[valid.argmax()], valid.argmax() + 1) if valid.any() else (None, tries)

    def attempt(self):
        """One attempt at a layout: {i: place} or None, and the draws it took."""
        places, drawn = {}, 0
        for i in range(self.num):
            spot, tries = self.place(i, places)
            drawn += tries
            if spot is None:
                return None, drawn
            places[i] = spot
        return places, drawn

    def layout(self, redrawn=None):
        """[N, 2]: attempts until one succeeds, then another place for the thing that is redrawn."""
        places = None
        while places is None:
            places, _ = self.attempt()
        if redrawn is not None:
            del places[redrawn]
            spot = None
            while spot is None:
                spot, _ = self.place(redrawn, places)
            places[redrawn] = spot
        return np.array([places[i] for i in range(self.num)])

    def winner(self, lanes=3):
        """Biased: the layout of the lane that finishes first."""
        whole = []
        while not whole:
            attempts = [self.attempt() for _ in range(lanes)]
            whole = [(drawn, i) for i, (places, drawn) in enumerate(attempts) if places is not None]
        return np.array(list(attempts[min(whole)[1]][0].values()))


def strip_layouts(num, chance):
    """Layouts of STRIP whose robot has a place with the given chance, a function of p."""
    rng = np.random.default_rng(2)
    p = np.where(rng.uniform(size=100 * num) < 0.5, 0.01, 0.7) + rng.uniform(0, 0.03, 100 * num)
    p = p[rng.uniform(size=len(p)) < chance(p)][:num]
    x = np.concatenate([0.6 + p[:, None], -0.5 + p[:, None] * rng.uniform(size=(len(p), 5))], axis=-1)
    return np.stack([x, np.zeros_like(x)], axis=-1)


@functools.partial(jax.jit, static_argnames=("num", "redrawn"))
def draw_batch(key, table, num, redrawn=None):
    return sample_layouts(key, table, num, redrawn)


@functools.partial(jax.jit, static_argnames=("num", "redrawn"))
def draw_alone(key, table, num, redrawn=None):
    return jax.vmap(lambda key: sample_layout(key, table, redrawn))(jax.random.split(key, num))


def distances(xy):
    """[..., N, N] m, infinite on the diagonal."""
    distance = np.linalg.norm(xy[..., :, None, :] - xy[..., None, :, :], axis=-1)
    distance[..., np.eye(xy.shape[-2], dtype=bool)] = np.inf
    return distance


def moments(xy):
    """[num, K]: coordinates, their squares, distances from the middle and of all pairs."""
    flat, upper = xy.reshape(len(xy), -1), np.triu_indices(xy.shape[1], 1)
    return np.concatenate([flat, flat**2, np.linalg.norm(xy, axis=-1), distances(xy)[:, *upper]], axis=-1)


def worst_z(xy, expected):
    """Largest deviation of a mean, in standard errors."""
    a, b = moments(np.asarray(xy, float)), moments(np.asarray(expected, float))
    error = np.sqrt(a.var(axis=0) / len(a) + b.var(axis=0) / len(b))
    return np.max(np.abs(a.mean(axis=0) - b.mean(axis=0)) / np.maximum(error, 1e-6))


def assert_valid(table, xy):
    keepout = np.asarray(table.keepout)
    assert np.all(distances(xy) >= (keepout[:, None] + keepout[None])[None] - 1e-5)
    low, high = np.split(np.asarray(table.rectangles), 2, axis=-1)  # [N, R, 2]
    inside = (xy[:, :, None] >= low[None] - 1e-6) & (xy[:, :, None] <= high[None] + 1e-6)
    assert np.all(np.any(np.all(inside, axis=-1), axis=-1))


@pytest.fixture(scope="module")
def button1():
    reference = Reference(BUTTON1, seed=0)
    return np.stack([reference.layout() for _ in range(1000)])


@pytest.fixture(scope="module")
def strip():
    reference = Reference(STRIP, seed=1)
    return np.stack([reference.layout() for _ in range(NUM)])


@pytest.fixture(scope="module")
def crowd():
    reference = Reference(CROWD, seed=3)
    return np.stack([reference.layout(redrawn=1) for _ in range(NUM // 2)])


@pytest.mark.parametrize("draw", [draw_batch, draw_alone])
def test_button_layouts_follow_the_sequential_law(draw, button1, key):
    xy, failed = draw(key, BUTTON1, NUM)
    assert not np.any(failed)
    assert_valid(BUTTON1, np.asarray(xy))
    assert worst_z(xy, button1) < SIGMAS


@pytest.mark.parametrize("draw", [draw_batch, draw_alone])
def test_layouts_of_very_unequal_chances_follow_the_sequential_law(draw, strip, key):
    xy, failed = draw(key, STRIP, NUM)
    assert not np.any(failed)
    assert_valid(STRIP, np.asarray(xy))
    assert worst_z(xy, strip) < SIGMAS


@pytest.mark.parametrize("num", [1, 5])
def test_small_batches_follow_it_too(num, strip, key):
    keys = jax.random.split(key, NUM // 2 // num)
    xy, failed = jax.jit(jax.vmap(lambda key: sample_layouts(key, STRIP, num)))(keys)
    assert not np.any(failed)
    assert worst_z(np.reshape(xy, (-1, 6, 2)), strip) < SIGMAS


def test_the_comparison_sees_biased_laws(strip):
    def right(p):
        return (1 - (1 - p) ** TRIES) ** 5

    def never_restarted(p):
        return np.ones_like(p)

    def uniform_on_all_layouts(p):
        return p**5

    assert worst_z(strip_layouts(NUM, right), strip) < SIGMAS
    assert worst_z(strip_layouts(NUM, never_restarted), strip) > 1.5 * SIGMAS
    assert worst_z(strip_layouts(NUM, uniform_on_all_layouts), strip) > 1.5 * SIGMAS
    reference = Reference(STRIP, seed=4)
    first_to_finish = np.stack([reference.winner() for _ in range(NUM // 6)])
    assert worst_z(first_to_finish, strip) > 1.5 * SIGMAS


@pytest.mark.parametrize("num", [5, NUM])
def test_handing_out_in_the_order_of_finishing_would_be_seen(num, strip, key):
    """The batch sampler itself without its last line: the first layouts found, not those of the first attempts."""
    keys = jax.random.split(key, NUM // num)
    pool = jax.jit(jax.vmap(lambda key: search_layouts(key, STRIP, num)))(keys)
    assert worst_z(np.reshape(pool.xy[:, :num], (-1, 6, 2)), strip) > 1.5 * SIGMAS


def test_the_place_in_the_batch_tells_nothing(key):
    xy = np.asarray(draw_batch(key, STRIP, NUM)[0])
    assert worst_z(xy[: NUM // 2], xy[NUM // 2 :]) < SIGMAS
    assert worst_z(xy[::2], xy[1::2]) < SIGMAS
    assert abs(np.corrcoef(xy[1:, 0, 0], xy[:-1, 0, 0])[0, 1]) < SIGMAS / np.sqrt(NUM)


def test_worlds_and_keys_differ(key):
    first, again = draw_batch(key, BUTTON1, 64)[0], draw_batch(key, BUTTON1, 64)[0]
    other = draw_batch(jax.random.fold_in(key, 1), BUTTON1, 64)[0]
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(np.concatenate([first, other])[:, 0], axis=0)) == 128


def test_an_impossible_table_ends_and_marks_all_worlds(key, monkeypatch):
    monkeypatch.setattr(batch, "MAX_LAYOUTS", 20)
    xy, failed = jax.jit(lambda key: sample_layouts(key, IMPOSSIBLE, 16))(key)
    pool = jax.jit(lambda key: search_layouts(key, IMPOSSIBLE, 16))(key)
    assert np.all(failed)
    assert pool.num_begun == 16 * 20
    assert np.all(np.abs(xy) <= 1.0), "a failed layout does not even keep to the extents"


def test_worlds_beyond_the_last_attempt_are_marked(key, monkeypatch):
    monkeypatch.setattr(batch, "MAX_LAYOUTS", 2)
    xy, failed = map(np.asarray, jax.jit(lambda key: sample_layouts(key, BUTTON1, 300))(key))
    assert 100 < failed.sum() < 290
    assert_valid(BUTTON1, xy[~failed])


@pytest.mark.parametrize("draw", [draw_batch, draw_alone])
def test_redrawn_goals_follow_the_law(draw, crowd, key):
    xy, failed = draw(key, CROWD, NUM, 1)
    assert not np.any(failed)
    assert_valid(CROWD, np.asarray(xy))
    assert worst_z(xy, crowd) < SIGMAS


def test_the_comparison_sees_a_goal_that_was_not_redrawn(crowd, key):
    assert worst_z(draw_batch(key, CROWD, NUM)[0], crowd) > 1.5 * SIGMAS


def test_a_goal_without_a_new_place_fails_its_world(key, monkeypatch):
    monkeypatch.setattr(layout, "MAX_REDRAWS", 10)
    share = []
    for draw in (draw_batch, draw_alone):
        fresh = jax.jit(lambda key, draw=draw.__wrapped__: draw(key, CROWD, 1000, 1))  # compiled with the new limit
        xy, failed = map(np.asarray, fresh(key))
        assert_valid(CROWD, xy[~failed])
        assert np.all(np.abs(xy) <= 1.1)
        share.append(failed.mean())
    assert 0.005 < share[0] < 0.9
    assert abs(share[0] - share[1]) < SIGMAS * np.sqrt(2 * 0.25 / 1000)


def test_seeds_can_be_vmapped_and_loops_contain_it(key):
    keys = jax.random.split(key, 3)
    together, _ = jax.jit(jax.vmap(lambda key: sample_layouts(key, CROWD, 4)))(keys)

    def redo(turn, xy):
        return sample_layouts(keys[turn], CROWD, 4)[0]

    looped = jax.jit(lambda last: jax.lax.fori_loop(0, last, redo, jnp.zeros((4, 4, 2))))
    for i in range(3):
        alone, _ = draw_batch(keys[i], CROWD, 4)
        np.testing.assert_allclose(together[i], alone, atol=1e-6)
        np.testing.assert_allclose(looped(i + 1), alone, atol=1e-6)


def test_a_choice_of_rectangles_is_made_by_area(key):
    choice = Thing(placements=((0.0, 0.0, 1.0, 1.0), (2.0, 0.0, 4.0, 2.0)))
    table = placement_table({"goal": choice, "rest": Thing(num=2)}, (-1.0, -1.0, 1.0, 1.0), 0.0)
    xy, _ = draw_batch(key, table, NUM)
    assert np.mean(xy[:, 0, 0] <= 1) == pytest.approx(0.2, abs=SIGMAS * np.sqrt(0.16 / NUM))
    assert np.all(np.abs(xy[:, 1:]) <= 1)


def test_4096_worlds_take_far_fewer_turns_than_the_slowest_alone(key):
    pool = jax.jit(lambda key: search_layouts(key, BUTTON2, 4096))(key)
    alone = jax.jit(jax.vmap(lambda key: search_layouts(key, BUTTON2, 1)))(jax.random.split(key, 256))
    assert np.sum(pool.found_by < batch.NEVER) >= 4096
    assert 3 * pool.num_rounds < alone.num_rounds.max(), "the slowest of 256 worlds"
