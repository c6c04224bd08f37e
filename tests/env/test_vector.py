"""`vectorize`: auto-reset to fresh layouts, the pool they come from, episode statistics.

The toy world shows what it holds: its observation is its layout, drawn from the reset key, and its memory, the steps
since its reset.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mjx_safety
from mjx_safety.env import vector
from mjx_safety.env.vector import vectorize
from mjx_safety.types import State

pytestmark = pytest.mark.usefixtures("strict_ranks")

LAYOUTS = 1 << 24  # a float32 holds each of them exactly


class ToyEnv:
    """Reward: steps so far. Cost: 1 on an odd layout. Goal: every second step. A mortal world lives 1 to 4 steps."""

    obs_size, action_size, cost_names = 2, 1, ("odd", "action")

    def __init__(self, episode_length: int = 5, mortal: bool = False):
        self.episode_length, self.mortal = episode_length, mortal
        self.num_step_traces = 0

    def reset(self, key: jax.Array) -> State:
        layout_key, key = jax.random.split(key)
        layout = jax.random.randint(layout_key, (), 0, LAYOUTS)
        no, zero = jnp.zeros((), bool), jnp.zeros((), jnp.float32)
        return State(
            obs=self.observe(layout, jnp.int32(0)),
            reward=zero,
            cost=zero,
            costs=jnp.zeros(2, jnp.float32),
            goal_met=no,
            terminated=no,
            truncated=no,
            step_count=jnp.int32(0),
            placement_failed=no,
            data=None,
            places=layout,
            memory=jnp.int32(0),
            key=key,
        )

    def step(self, state: State, action: jax.Array) -> State:
        self.num_step_traces += 1
        memory, step_count = state.memory + 1, state.step_count + 1
        costs = jnp.stack([state.places % 2, action[0]]).astype(jnp.float32)
        terminated = (memory > state.places % 4) & self.mortal
        return state.replace(
            obs=self.observe(state.places, memory),
            reward=memory.astype(jnp.float32),
            cost=costs[0],
            costs=costs,
            goal_met=memory % 2 == 0,
            terminated=terminated,
            truncated=(step_count >= self.episode_length) & ~terminated,
            step_count=step_count,
            memory=memory,
        )

    def observe(self, layout, memory):
        return jnp.stack([layout, memory]).astype(jnp.float32)


def first_states(venv, key):
    return jax.jit(venv.reset)(key)


def world(tree, i):
    return jax.tree.map(lambda leaf: leaf[i], tree)


def rollout(venv, states, num_steps):
    """States before and after each step, stacked: two trees of [T, B, ...]."""
    actions = jnp.full((venv.num_envs, venv.action_size), 0.5)

    def step(states, _):
        stepped = venv.step(states, actions)
        return stepped, (states, stepped)

    return jax.jit(lambda states: jax.lax.scan(step, states, length=num_steps)[1])(states)


def layouts_of_all_episodes(first, after):
    """Layouts of the first episodes and of every episode that followed. Returns [num_episodes] int."""
    followed = np.asarray(after.env_state.places)[np.asarray(after.done)]
    return np.concatenate([np.asarray(first.env_state.places), followed])


def apart(states, num_envs):
    """The same states with step counters 0, 1, 2, ...: they are truncated one by one."""
    return states.replace(env_state=states.env_state.replace(step_count=jnp.arange(num_envs, dtype=jnp.int32)))


def num_refills(before, after):
    """How often the pool was refilled: each refill takes a new key."""
    keys = [np.asarray(jax.random.key_data(states.key)) for states in (before, after)]
    return int(np.sum(np.any(keys[0] != keys[1], axis=-1)))


def test_reset_starts_worlds_on_different_layouts(key):
    states = vectorize(ToyEnv(), 16).reset(key)
    assert states.obs.shape == states.final_obs.shape == (16, 2)
    assert len(np.unique(states.env_state.places)) == 16
    assert len(np.unique(jax.random.key_data(states.env_state.key), axis=0)) == 16
    assert not np.any(states.done) and not np.any(states.partial)


def test_an_ended_episode_is_replaced_by_a_fresh_one(key):
    venv = vectorize(ToyEnv(episode_length=5), 8)
    first = first_states(venv, key)
    _, after = rollout(venv, first, 6)
    np.testing.assert_array_equal(np.asarray(after.truncated), np.arange(1, 7)[:, None].repeat(8, 1) == 5)
    fresh = world(after, 4)
    assert not np.any(np.isin(fresh.env_state.places, first.env_state.places)), "a layout came back"
    assert len(np.unique(fresh.env_state.places)) == 8, "two worlds share a layout"
    np.testing.assert_array_equal(fresh.env_state.memory, np.zeros(8))
    np.testing.assert_array_equal(fresh.env_state.step_count, np.zeros(8))
    np.testing.assert_array_equal(fresh.obs[:, 0], fresh.env_state.places)
    np.testing.assert_array_equal(after.env_state.step_count[5], np.ones(8))
    np.testing.assert_array_equal(after.env_state.places[5], fresh.env_state.places)


def test_final_obs_is_the_observation_before_the_reset(key):
    venv = vectorize(ToyEnv(episode_length=3), 4)
    first = first_states(venv, key)
    _, after = rollout(venv, first, 4)
    np.testing.assert_array_equal(after.final_obs[:3, :, 0], np.tile(first.env_state.places, (3, 1)))
    np.testing.assert_array_equal(after.final_obs[:, 0, 1], [1, 2, 3, 1])
    np.testing.assert_array_equal(after.obs[:, 0, 1], [1, 2, 0, 1])
    running = ~np.asarray(after.done)
    np.testing.assert_array_equal(after.final_obs[running], after.obs[running])


def test_the_outcome_of_the_ending_step_survives_the_reset(key):
    venv = vectorize(ToyEnv(episode_length=4), 4)
    _, after = rollout(venv, first_states(venv, key), 4)
    last = world(after, -1)
    np.testing.assert_array_equal(last.reward, np.full(4, 4.0))
    np.testing.assert_array_equal(last.cost, last.final_obs[:, 0] % 2)
    np.testing.assert_array_equal(last.costs, np.stack([last.final_obs[:, 0] % 2, np.full(4, 0.5)], 1))
    assert np.all(last.goal_met) and np.all(last.truncated) and not np.any(last.terminated)


def test_episode_totals_are_complete_on_the_last_step_and_restart_after_it(key):
    venv = vectorize(ToyEnv(episode_length=4), 4)
    _, after = rollout(venv, first_states(venv, key), 9)
    in_episode = np.array([1, 2, 3, 4, 1, 2, 3, 4, 1])
    odd = np.asarray(after.final_obs[:, 0, 0]) % 2
    np.testing.assert_array_equal(after.episode_length[:, 0], in_episode)
    np.testing.assert_array_equal(after.episode_return[:, 0], [1, 3, 6, 10, 1, 3, 6, 10, 1])
    np.testing.assert_array_equal(after.episode_cost[:, 0], in_episode * odd)
    np.testing.assert_array_equal(after.episode_costs[:, 0], np.stack([in_episode * odd, in_episode * 0.5], 1))
    np.testing.assert_array_equal(after.episode_goals[:, 0], in_episode // 2)
    assert after.episode_goals.dtype == after.episode_length.dtype == jnp.int32


def test_a_broken_episode_leaves_nothing_behind(key):
    venv = vectorize(ToyEnv(episode_length=3), 2)
    states = first_states(venv, key)
    nan = jnp.full(2, jnp.nan)
    states = states.replace(episode_return=nan, episode_cost=nan, episode_costs=jnp.full((2, 2), jnp.nan))
    _, after = rollout(venv, states, 4)
    np.testing.assert_array_equal(after.episode_return[3], np.ones(2))
    assert np.all(np.isfinite(after.episode_cost[3])) and np.all(np.isfinite(after.episode_costs[3]))


def test_termination_is_not_truncation(key):
    venv = vectorize(ToyEnv(episode_length=3, mortal=True), 8)
    _, after = rollout(venv, first_states(venv, key), 30)
    lifetime = np.asarray(after.final_obs[..., 0]) % 4 + 1
    in_episode = np.asarray(after.final_obs[..., 1])
    np.testing.assert_array_equal(after.terminated, in_episode == lifetime)
    np.testing.assert_array_equal(after.truncated, (in_episode == 3) & (lifetime == 4))
    np.testing.assert_array_equal(after.done, np.asarray(after.terminated) | np.asarray(after.truncated))


@pytest.fixture
def four_parts(monkeypatch):
    """Cut 8 worlds into 4 parts, each with fresh worlds of its own."""
    monkeypatch.setattr(vector, "MOST_PARTS", 4)
    monkeypatch.setattr(vector, "SMALLEST_PART", 2)


@pytest.mark.parametrize(("num_envs", "num_parts"), [(1, 1), (7, 1), (8, 4)])
@pytest.mark.parametrize("how", ["together", "one by one", "several at once", "staggered"])
def test_no_fresh_state_is_handed_out_twice(how, num_envs, num_parts, four_parts, key):
    venv = vectorize(ToyEnv(episode_length=7, mortal=how == "several at once"), num_envs, stagger=how == "staggered")
    assert venv.num_parts == num_parts
    first = first_states(venv, key)
    first = apart(first, num_envs) if how == "one by one" else first
    before, after = rollout(venv, first, 70)
    layouts = layouts_of_all_episodes(first, after)
    assert num_refills(before, after) >= 10, "too few generations of the pool to tell"
    assert len(np.unique(layouts)) == len(layouts), "a fresh state was handed out twice"
    assert np.all(after.pool_used <= num_envs)


@pytest.mark.parametrize("num_envs", [6, 8])
@pytest.mark.parametrize("how", ["together", "one by one"])
def test_one_pool_lasts_for_one_episode_of_every_world(how, num_envs, four_parts, key):
    venv = vectorize(ToyEnv(episode_length=6), num_envs)
    states = first_states(venv, key)
    before, after = rollout(venv, apart(states, num_envs) if how == "one by one" else states, 60)
    assert int(np.sum(after.done)) == 10 * num_envs
    assert num_refills(before, after) == 10


def test_staggered_worlds_start_at_all_phases_of_an_episode(key):
    venv = vectorize(ToyEnv(episode_length=10), 64, stagger=True)
    states = first_states(venv, key)
    start = np.asarray(states.env_state.step_count)
    assert set(start) == set(range(10))
    np.testing.assert_array_equal(states.partial, start > 0)
    np.testing.assert_array_equal(states.env_state.memory, np.zeros(64))


def test_staggered_first_episodes_are_marked_partial_and_counted_as_run(key):
    venv = vectorize(ToyEnv(episode_length=10), 64, stagger=True)
    first = first_states(venv, key)
    _, after = rollout(venv, first, 25)
    start = np.asarray(first.env_state.step_count)
    time = np.arange(1, 26)[:, None]
    in_first = time <= 10 - start
    np.testing.assert_array_equal(after.done, (time + start) % 10 == 0)
    np.testing.assert_array_equal(after.partial, in_first & (start > 0))
    np.testing.assert_array_equal(after.episode_length, np.where(in_first, time, (time + start - 1) % 10 + 1))


@pytest.mark.parametrize("mortal", [False, True])
def test_the_batch_equals_a_hand_loop(mortal, key):
    env = ToyEnv(episode_length=3, mortal=mortal)
    venv = vectorize(env, 3)
    states, action = first_states(venv, key), jnp.full(1, 0.5)
    step, step_one = jax.jit(venv.step), jax.jit(env.step)
    for _ in range(8):
        stepped = step(states, jnp.tile(action, (3, 1)))
        for i in range(3):
            alone = step_one(world(states.env_state, i), action)
            now = world(stepped.env_state, i)
            np.testing.assert_array_equal(stepped.final_obs[i], alone.obs)
            for name in ("reward", "cost", "costs", "goal_met", "terminated", "truncated"):
                np.testing.assert_array_equal(getattr(now, name), getattr(alone, name), err_msg=name)
            if not stepped.done[i]:
                np.testing.assert_array_equal(now.obs, alone.obs)
                assert (now.places, now.memory, now.step_count) == (alone.places, alone.memory, alone.step_count)
        states = stepped


def test_scan_traces_the_step_once(key):
    env = ToyEnv(mortal=True)
    venv = vectorize(env, 4)
    actions = jnp.zeros((4, 1))
    run = jax.jit(lambda states: jax.lax.scan(lambda s, _: (venv.step(s, actions), s.done), states, length=20))
    states, _ = run(first_states(venv, key))
    states, done = run(states)
    assert env.num_step_traces == 1, "a dtype or shape changes from one step to the next"
    assert np.any(done)


def test_seeds_can_be_vmapped(key):
    venv = vectorize(ToyEnv(episode_length=3, mortal=True), 4)
    keys, actions = jax.random.split(key, 3), jnp.zeros((4, 1))

    def final(key):
        return jax.lax.scan(lambda s, _: (venv.step(s, actions), None), venv.reset(key), length=9)[0]

    batched, final = jax.jit(jax.vmap(final))(keys), jax.jit(final)
    for i in range(3):
        alone = final(keys[i])
        np.testing.assert_array_equal(batched.obs[i], alone.obs)
        np.testing.assert_array_equal(batched.episode_return[i], alone.episode_return)


class ManyEnv(ToyEnv):
    """Knows how to start many worlds: their layouts are consecutive numbers."""

    def reset_many(self, key, num):
        states = jax.vmap(self.reset)(jax.random.split(key, num))
        layouts = states.places[0] + jnp.arange(num)
        return states.replace(places=layouts, obs=jax.vmap(self.observe)(layouts, states.memory))


@pytest.mark.parametrize("kind, consecutive", [(ToyEnv, False), (ManyEnv, True)])
def test_worlds_are_started_together_where_the_environment_can(kind, consecutive, key):
    venv = vectorize(kind(episode_length=3), 8)
    first = first_states(venv, key)
    _, after = rollout(venv, first, 6)
    for states in (first, world(after, 2), world(after, 5)):
        assert np.all(np.diff(states.env_state.places) == 1) == consecutive
        np.testing.assert_array_equal(states.obs[:, 0], states.env_state.places)


@pytest.mark.parametrize("jit", [False, True])
def test_states_can_be_donated(jit, key):
    venv = vectorize(ToyEnv(), 4)
    reset = jax.jit(venv.reset) if jit else venv.reset
    step = jax.jit(venv.step, donate_argnums=0)
    states = step(reset(key), jnp.zeros((4, 1)))
    np.testing.assert_array_equal(step(states, jnp.zeros((4, 1))).episode_length, np.full(4, 2))


def test_sizes_are_those_of_the_environment():
    env = ToyEnv(episode_length=9)
    venv = vectorize(env, 4)
    assert (venv.num_envs, venv.obs_size, venv.action_size) == (4, 2, 1)
    assert (venv.cost_names, venv.episode_length) == (env.cost_names, 9)


@pytest.mark.parametrize("num_envs", [0, -1])
def test_num_envs_must_be_positive(num_envs):
    with pytest.raises(ValueError, match=f"num_envs is {num_envs}"):
        vectorize(ToyEnv(), num_envs)


def test_it_prints_as_one_line():
    env = mjx_safety.make("SafetyPointGoal1-v0", physics="mujoco")
    assert repr(vectorize(env, 8)) == f"VecEnv({env!r}, num_envs=8)"


def test_reset_each_takes_a_key_for_each_world(key):
    with pytest.raises(ValueError, match=r"keys of shape \(\); it takes jax\.random\.split\(key, 8\)"):
        vectorize(ToyEnv(), 8).reset_each(key)


def test_reset_each_takes_old_style_keys_as_reset_does(key):
    venv, keys = vectorize(ToyEnv(), 8), jax.random.split(key, 8)
    old = venv.reset_each(jax.random.key_data(keys))
    np.testing.assert_array_equal(old.obs, venv.reset_each(keys).obs)
    for wrong in (list(keys), jnp.arange(8)):
        with pytest.raises(ValueError, match=r"reset_each got .*; it takes jax\.random\.split\(key, 8\)"):
            venv.reset_each(wrong)


def test_steps_outside_of_jit_trace_the_refill_once(key):
    class Counted(ToyEnv):
        num_reset_traces = 0

        def reset(self, key):
            self.num_reset_traces += 1
            return super().reset(key)

    env = Counted()
    venv, actions = vectorize(env, 4), jnp.zeros((4, 1))
    states = venv.reset(key)
    for _ in range(3):
        states = venv.step(states, actions)
    assert env.num_reset_traces == 2  # in `reset`, and in the loop that refills the pool


@pytest.mark.parametrize("dtype", [bool, jnp.int8, jnp.bfloat16])
def test_costs_of_any_type_are_counted_in_full(dtype, key):
    class Typed(ToyEnv):
        def reset(self, key):
            state = super().reset(key)
            return state.replace(costs=state.costs.astype(dtype))

        def step(self, state, action):
            return super().step(state, action).replace(costs=jnp.ones(2, dtype))

    venv = vectorize(Typed(episode_length=300), 2)
    _, after = rollout(venv, first_states(venv, key), 300)
    np.testing.assert_array_equal(after.episode_costs[-1], 300.0)
    np.testing.assert_array_equal(after.episode_cost_steps[-1], 300.0)


def test_actions_of_numpy_work_inside_of_jit(key):
    venv = vectorize(ToyEnv(), 2, keep_blow_up=True)
    actions = np.zeros((2, 1), np.float32)
    assert jax.jit(lambda states: venv.step(states, actions))(venv.reset(key)).reward.tolist() == [1.0, 1.0]
