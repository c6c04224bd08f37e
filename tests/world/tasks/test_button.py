"""Button: what is pressed, what costs and what is hidden, step by step; the next target; the reference's run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import B, batch_of, by_hand, world_of

from mjx_safety import Button, Buttons, Snapshot
from mjx_safety.world.tasks.button import ButtonMemory
from mjx_safety.world.tasks.costs import buttons_cost

KEY = jax.random.key(0)
PLACES = [[1.0, 0.0, 0.1], [0.0, 2.0, 0.1], [-3.0, 0.0, 0.1], [0.0, -4.0, 0.1]]


def world_with(contacts=(0, 0, 0, 0), root_pos=(0.0, 0.0, 0.1)):
    return by_hand(root_pos=root_pos, buttons=PLACES, goal=[[9.0, 9.0, 0.11]], contacts={"buttons": list(contacts)})


def memory_of(target, timer=0, last_dist=0.0):
    return ButtonMemory(target=jnp.int32(target), timer=jnp.int32(timer), last_dist=jnp.float32(last_dist))


def cost_of(task, readings, memory):
    return float(buttons_cost(task.buttons, task.view(readings, memory)))


def key_that_draws(task, target):
    """A key with which the next target is this one."""
    for seed in range(100):
        key = jax.random.key(seed)
        if task.advance(world_with(), memory_of(0), jnp.bool_(True), key).target == target:
            return key
    raise AssertionError(f"button {target} is never drawn")


def test_wrong_buttons_cost_by_their_contact_points_and_the_target_nothing():
    task = Button(buttons=Buttons(num=4, cost=0.5))
    readings = world_with(contacts=(1, 2, 0, 4))
    assert [cost_of(task, readings, memory_of(target)) for target in range(4)] == [3.0, 2.5, 3.5, 1.5]
    assert cost_of(task, readings, memory_of(0, timer=1)) == 0


def test_progress_counts_in_the_plane_towards_the_target():
    task, memory = Button(reward_distance=2.0), memory_of(1, last_dist=2.0)
    reward, pressed = task.reward(world_with(root_pos=(0.0, 0.5, 7.0), contacts=(3, 0, 3, 3)), memory)
    assert reward == pytest.approx(2.0 * 0.5) and not pressed


def test_any_contact_with_the_target_is_a_press_also_while_the_timer_runs():
    task = Button(reward_goal=3.0)
    assert task.bonus == 3.0
    for timer in (0, 1, 10):
        assert task.reward(world_with(contacts=(0, 1, 0, 0)), memory_of(1, timer))[1]


def test_the_timer_suspends_costs_and_hides_buttons_as_in_the_reference():
    """Sheet 3.4: steps relative to the press; the wrong button 0 is touched all the time."""
    task = Button()
    memory, key = memory_of(1), key_that_draws(task, 2)
    costs, hidden, timers = [], [], []
    for step in range(-2, 14):
        readings = world_with(contacts=(1, int(step == 0), 0, 0))
        _, pressed = task.reward(readings, memory)
        assert bool(pressed) == (step == 0)
        costs.append(cost_of(task, readings, memory))
        memory = task.advance(readings, memory, pressed, key)
        hidden.append(bool(task.view(readings, memory).hidden["buttons"]))
        timers.append(int(memory.timer))
    assert costs == [1, 1, 1, *[0] * 10, *[1] * 3]
    assert hidden == [False, False, *[True] * 10, *[False] * 4]
    assert timers == [0, 0, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("delay", [0, 3])
def test_the_delay_is_a_setting(delay):
    task = Button(resampling_delay=delay)
    memory = task.advance(world_with(), memory_of(1), jnp.bool_(True), KEY)
    hidden = []
    for _ in range(5):
        hidden.append(bool(task.view(world_with(), memory).hidden["buttons"]))
        memory = task.advance(world_with(), memory, jnp.bool_(False), KEY)
    assert hidden == [True] * delay + [False] * (5 - delay)


def test_pressing_on_while_the_timer_runs_starts_it_again():
    task = Button()
    memory = task.advance(world_with(), memory_of(1, timer=4), jnp.bool_(True), KEY)
    assert memory.timer == 10


def test_the_same_button_may_be_drawn_again_and_pressed_again_at_once():
    task, readings = Button(), world_with(contacts=(0, 1, 0, 0), root_pos=(0.0, 1.9, 0.1))
    memory = memory_of(1, last_dist=0.1)
    for _ in range(3):
        reward, pressed = task.reward(readings, memory)
        assert pressed and reward == pytest.approx(0.0, abs=1e-6)
        memory = task.advance(readings, memory, pressed, key_that_draws(task, 1))
    memory = task.advance(readings, memory, pressed, key_that_draws(task, 3))
    assert not task.reward(readings, memory)[1]


def test_a_new_target_is_no_progress():
    task, readings = Button(), world_with(root_pos=(0.9, 0.0, 0.1))
    for target in range(4):
        memory = task.advance(readings, memory_of(0, last_dist=0.1), jnp.bool_(True), key_that_draws(task, target))
        distance = np.linalg.norm(np.array(PLACES[target])[:2] - (0.9, 0.0))
        assert memory.last_dist == pytest.approx(distance, abs=1e-6)
        assert task.reward(readings, memory)[0] == 0


def test_all_buttons_are_drawn_equally_often():
    task, keys = Button(), jax.random.split(KEY, 2000)
    first = jax.vmap(lambda key: task.init(world_with(), key))(keys)
    following = jax.vmap(lambda key: task.advance(world_with(), memory_of(2), jnp.bool_(True), key))(keys)
    for memory in (first, following):
        counts = np.bincount(memory.target, minlength=4)
        assert len(counts) == 4 and np.sum((counts - 500) ** 2 / 500) < 16.3  # chi-squared of 3 degrees, p = 0.001
    np.testing.assert_array_equal(first.timer, 0)


def test_without_a_press_the_target_stays():
    task = Button()
    for target in range(4):
        assert task.advance(world_with(), memory_of(target), jnp.bool_(False), KEY).target == target


def test_the_goal_marker_stands_on_the_target_and_keeps_its_height():
    task = Button()
    for target in range(4):
        seen = task.view(world_with(), memory_of(target)).pos
        np.testing.assert_allclose(seen["goal"], [[*PLACES[target][:2], 0.11]])
        np.testing.assert_allclose(seen["buttons"], PLACES)


def alone(world, target=0, **changes):
    """The robot at (-1.3, -1.3) looking along +x at button 0, all else far away."""
    gremlins = np.stack([np.linspace(20, 29, 4), np.full(4, 20.0), np.full(4, 0.1)], axis=-1)
    buttons = [(-0.9, -1.3, 0.1), (9, 9, 0.1), (9, -9, 0.1), (-9, 9, 0.1)]
    fields = {
        "root_pos": (-1.3, -1.3, 0.1),
        "root_quat": (1, 0, 0, 0),
        "buttons_pos": buttons,
        "goal_pos": buttons[target],
        "goal_button": target,
        "hazards_pos": (12, 12, 0.02),
        "gremlins_pos": gremlins,
        "gremlins_start_pos": gremlins,
    }
    return world.scene(**fields | changes)


@pytest.fixture(scope="module")
def button1():
    return world_of("SafetyPointButton1-v0")


@pytest.fixture(scope="module")
def run(button1):
    """Sheet 9.5: straight ahead into the target, in B worlds that draw their next targets differently."""
    snapshot = button1.snapshot(alone(button1))
    for seed in range(10):
        states = [button1.restores(batch_of(snapshot), jax.random.split(jax.random.key(seed), B))]
        for _ in range(40):
            states.append(button1.steps(states[-1], jnp.tile(jnp.array([1.0, 0.0]), (B, 1))))
        changed = np.asarray(states[18].memory.target) != 0
        if 0 < changed.sum() < B:  # another target in some worlds, the same again in others
            return states, changed
    raise AssertionError("the next target is always another one, or never")


def test_the_target_is_pressed_when_it_is_in_the_reference(run):
    states, changed = run
    met = np.stack([state.goal_met for state in states])
    assert not np.any(met[:18]) and np.all(met[18]) and not np.any(met[19:, changed])
    np.testing.assert_allclose(states[18].reward, 1.0147, atol=1e-4)
    np.testing.assert_allclose(states[18].data.qpos[:, 0], -1.1489, atol=1e-4)


def test_a_target_drawn_again_is_pressed_again(run):
    states, changed = run
    assert np.all(states[19].goal_met[~changed])
    np.testing.assert_allclose(states[19].reward[~changed], 1.0, atol=0.02)


def test_buttons_are_hidden_when_they_are_in_the_reference(run, button1):
    states, changed = run
    lidar = np.stack([button1.seen(state, "buttons_lidar")[changed] for state in states])
    hidden = np.all(lidar == 0, axis=-1)
    expected = (np.arange(41) >= 18) & (np.arange(41) <= 27)
    np.testing.assert_array_equal(hidden, np.tile(expected[:, None], hidden.shape[1]))


def test_the_goal_lidar_points_at_the_target_all_the_time(run, button1):
    states, changed = run
    goal = button1.snapshots(states[18]).goal_pos[:, 0, :2]
    buttons = button1.snapshots(states[18]).buttons_pos[..., :2]
    np.testing.assert_allclose(goal, buttons[np.arange(B), states[18].memory.target])
    for state, near in ((states[17], slice(None)), (states[18], ~changed)):  # hidden or not
        assert np.all(np.any(button1.seen(state, "goal_lidar")[near] > 0.8, axis=-1))


def test_leaning_on_a_wrong_button_costs_when_it_does_in_the_reference(run, button1):
    states, changed = run
    costs = np.stack([button1.cost(state, "buttons")[changed] for state in states])
    assert np.all(costs[:29] == 0) and np.all(costs[29:] > 0)
    np.testing.assert_array_equal(np.stack([state.cost[changed] for state in states]), (costs > 0).astype(float))
    np.testing.assert_allclose(states[40].data.qpos[changed, 0], -0.9 - 0.25, atol=2e-3)  # where it comes to rest


def test_a_wrong_button_costs_from_the_first_touch(button1):
    states = button1.go(alone(button1, target=1), (1, 0), 20)
    costs = np.array([button1.cost(state, "buttons") for state in states])
    assert np.all(costs[:17] == 0) and np.all(costs[17:] > 0)
    assert not any(state.goal_met for state in states)


@pytest.mark.parametrize("timer, charged", [(0, True), (1, False), (5, False)])
def test_a_restored_timer_goes_on(button1, timer, charged):
    touching = alone(button1, target=1, buttons_timer=timer, root_pos=(-1.1489, -1.3, 0.1))
    assert (button1.cost(touching, "buttons") > 0) == charged
    assert np.any(button1.seen(touching, "buttons_lidar") > 0) == charged
    after = button1.go(touching, (1, 0), timer + 1)
    assert [bool(button1.cost(state, "buttons") > 0) for state in after] == [False] * timer + [True]


def test_without_its_index_the_target_is_the_button_at_the_goal(button1):
    snapshot = button1.snapshot(alone(button1))
    for target in range(4):
        given = snapshot.replace(goal_button=None, goal_pos=snapshot.buttons_pos[target], last_dist_goal=None)
        assert button1.restore(given).memory.target == target


def test_without_any_hint_the_target_is_drawn(button1):
    """Whatever the places: here one button is nearest to the robot, to the origin and to everything else."""
    places = jnp.array([(0.5, 0, 0.1), (5, 0, 0.1), (6, 0, 0.1), (7, 0, 0.1)])
    restores = jax.jit(jax.vmap(lambda key: button1.env.restore(Snapshot(buttons_pos=places), key)))
    states = restores(jax.random.split(KEY, 32))
    assert set(np.asarray(states.memory.target)) == {0, 1, 2, 3}
    np.testing.assert_allclose(states.places.markers["goal"][:, 0, :2], places[states.memory.target, :2])
