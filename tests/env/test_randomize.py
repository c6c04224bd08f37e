"""Worlds with dynamics of their own: what they draw, what that does to the physics, and where it travels."""

import copy
import dataclasses
import functools
import json
import pickle
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import assert_close, assert_equal, row

import mjx_safety
from mjx_safety import Randomize, registry
from mjx_safety.runs import randomizing
from mjx_safety.sim import dynamics

ENGINES = ("mujoco", "mjx")
POINT, VASES = "SafetyPointGoal0-v0", "SafetyPointGoal1-v0"
WIDE = Randomize(mass=(0.5, 2.0), friction=(0.5, 2.0), gain=(0.8, 1.2), damping=(0.5, 2.0))
ORIGIN = {"root_pos": jnp.array([0.0, 0.0, 0.1]), "root_quat": jnp.array([1.0, 0.0, 0.0, 0.0])}


@functools.cache
def one_vase(physics):
    """A Point and a vase, with dynamics that the tests choose."""
    return mjx_safety.make(VASES, physics=physics, vases={"num": 1}, hazards=None, randomize=WIDE)


def begin(physics, given=None, **changes):
    """The robot at rest at the origin, looking along +x, with the vase far away, and all factors at 1 but the given."""
    env = one_vase(physics)
    made = env.snapshot(env.reset(jax.random.key(0)))
    factors = jax.tree.map(jnp.ones_like, made.dynamics)
    chosen = {name: jax.tree.map(lambda x, v=v: v * x, getattr(factors, name)) for name, v in (given or {}).items()}
    fields = {"vases_pos": [(1.5, 1.5, 0.1)], "vases_quat": [(1.0, 0.0, 0.0, 0.0)]} | ORIGIN | changes
    fields = {name: jnp.asarray(value, jnp.float32) for name, value in fields.items()}
    return env.restore(made.replace(dynamics=factors.replace(**chosen), last_dist_goal=None, **fields))


def after(physics, given, action=0.0, num_steps=1, **changes):
    """The velocities after some steps."""
    state = begin(physics, given, **changes)
    for _ in range(num_steps):
        state = one_vase(physics).step(state, jnp.array([action, 0.0]))
    return state.data.qvel


# What the factors do


@pytest.mark.thorough
@pytest.mark.parametrize("physics", ENGINES)
def test_newton_s_second_law(physics):
    """Without damping, the speed is force times time by mass: half of it with twice the mass."""
    env = one_vase(physics)
    model = env.mj_model
    push = float(model.actuator_forcerange[0, 1] * model.actuator_gear[0, 0])
    mass = float(model.body_subtreemass[model.body("robot").id])
    for of_mass, of_force in ((1.0, 1.0), (2.0, 1.0), (1.0, 0.5), (2.0, 3.0)):
        expected = of_force * push * env.dt / (of_mass * mass)
        found = after(physics, {"mass": of_mass, "gain": of_force, "damping": 0.0}, 1.0)
        assert found[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("physics", ENGINES)
def test_damping_slows_a_robot_that_rolls_on(physics):
    model = one_vase(physics).mj_model
    for factor in (0.0, 1.0, 5.0):
        rate = factor * model.dof_damping[0] / model.body_subtreemass[model.body("robot").id]
        found = after(physics, {"damping": factor}, root_linvel=(1.0, 0.0, 0.0))
        assert found[0] == pytest.approx((1 + model.opt.timestep * rate) ** -10, rel=1e-4)


@pytest.mark.parametrize("physics", ENGINES)
def test_friction_brakes_a_sliding_vase(physics):
    """By friction times gravity. A vase with more friction than these tips over."""
    for factor in (0.25, 0.5):
        found = after(physics, {"friction": factor}, vases_linvel=[(1.0, 0.0, 0.0)])
        assert 1.0 - found[3] == pytest.approx(factor * 9.81 * one_vase(physics).dt, rel=0.15)


@pytest.mark.parametrize("physics", ENGINES)
def test_a_heavy_vase_is_harder_to_push(physics):
    near = {"vases_pos": [(0.26, 0.0, 0.1)], "root_linvel": (1.0, 0.0, 0.0)}
    light, heavy = (after(physics, {"objects": factor}, num_steps=3, **near) for factor in (1.0, 1000.0))
    assert light[3] > 1.5 * heavy[3] > 0.0
    assert heavy[0] < light[0]


@pytest.mark.thorough
def test_the_closed_form_is_the_solver_s_motion():
    """The Point alone is stepped in closed form; with a model of one's own, the solver steps it."""
    env = mjx_safety.make(POINT, physics="mjx", randomize=WIDE)
    solver = env.replace(physics=env.physics.with_model(env.physics.model))
    exact = mjx_safety.make(POINT, physics="mujoco", accuracy="reference", randomize=WIDE)
    assert env.physics.alone is not None and solver.physics.alone is None
    start = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 4))
    actions = jax.random.uniform(jax.random.key(1), (5, 4, 2), minval=-1, maxval=1)
    ends = [go(each, start, actions) for each in (env, solver, exact)]
    assert np.ptp(ends[0].dynamics.mass) > 0.1
    for end in ends[:2]:  # rounding of the heading grows in each physics step, and more so with a strong servo
        assert_close(end.data.qpos[:, :2], ends[2].data.qpos[:, :2], 1e-5)
        assert_close(end.data.qpos[:, 2], ends[2].data.qpos[:, 2], 1e-3)


def go(env, states, actions):
    """Step a batch of worlds. actions: [T, B, A]."""
    return jax.jit(lambda states: jax.lax.scan(lambda s, a: (jax.vmap(env.step)(s, a), None), states, actions)[0])(
        states
    )


@pytest.mark.thorough
def test_engines_agree_on_a_robot_that_drives_and_a_vase_that_slides():
    keys = jax.random.split(jax.random.key(3), 8)
    ends = []
    for physics in ENGINES:
        env, draw = one_vase(physics), functools.partial(dynamics.draw, WIDE, one_vase(physics).scene)
        state = begin(physics, vases_linvel=[(0.5, 0.1, 0.0)])
        states = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (8, *leaf.shape)), state)
        states = states.replace(data=states.data.replace(dynamics=jax.vmap(draw)(keys)))
        ends.append(go(env, states, jnp.tile(jnp.array([0.3, 0.0]), (4, 8, 1))))
    assert_equal(ends[0].dynamics, ends[1].dynamics)
    assert np.ptp(ends[0].data.qpos[:, 0]) > 1e-3 and np.ptp(ends[0].data.qpos[:, 3]) > 1e-3
    assert_close(ends[0].data.qpos, ends[1].data.qpos, 1e-4)


@pytest.mark.slow
def test_engines_agree_on_a_robot_with_legs():
    envs = [mjx_safety.make("SafetyHalfCheetahVelocity-v1", physics=physics, randomize=WIDE) for physics in ENGINES]
    states = [jax.vmap(env.reset)(jax.random.split(jax.random.key(3), 8)) for env in envs]
    assert_equal(states[0].dynamics, states[1].dynamics)
    first, second = (go(env, state, jnp.full((4, 8, 6), 0.3)) for env, state in zip(envs, states, strict=True))
    assert float(jnp.max(jnp.abs(first.data.qpos - states[0].data.qpos))) > 0.1
    assert_close(first.data.qpos, second.data.qpos, 1e-4)


# What is drawn


@pytest.mark.parametrize("env_id", [VASES, "SafetyCarPush1-v0", "SafetyHopperVelocity-v1"])
def test_draws_lie_in_their_ranges_and_differ(env_id):
    env = mjx_safety.make(env_id, physics="mujoco", randomize=WIDE)
    drawn = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 64)).dynamics
    ranges = {"mass": WIDE.mass, "objects": WIDE.mass, "friction": WIDE.friction, "gain": WIDE.gain}
    for name, (low, high) in (ranges | {"damping": WIDE.damping}).items():
        for leaf in jax.tree.leaves(getattr(drawn, name)):
            values = np.asarray(leaf).reshape(64, -1)
            assert values.min() >= low and values.max() <= high
            assert values.min() < low + 0.2 * (high - low) and values.max() > high - 0.2 * (high - low)
            assert all(len(np.unique(column)) == 64 for column in values.T)
    assert drawn.mass.shape == (64, sum(env.mj_model.body_rootid == env.mj_model.body("robot").id))
    assert set(drawn.objects) == set(env.scene.moving_kinds)
    same = env.reset(jax.random.key(7))
    assert_equal(same.dynamics, env.reset(jax.random.key(7)).dynamics)


@pytest.mark.thorough
@pytest.mark.parametrize("layouts", ["per_episode", "per_env"])
def test_episodes_begin_with_fresh_dynamics(layouts):
    """With layouts that stay, the dynamics stay too."""
    env = mjx_safety.make(POINT, physics="mujoco", randomize=WIDE, layouts=layouts, episode_length=3)
    venv = mjx_safety.vectorize(env, 4)
    states, step = jax.jit(venv.reset)(jax.random.key(0)), jax.jit(venv.step)
    seen = [states.env_state.dynamics]
    for _ in range(7):
        states = step(states, jnp.ones((4, 2)))
        seen.append(states.env_state.dynamics)
    masses = np.stack([each.mass[:, 0] for each in seen])
    assert len(np.unique(masses[0])) == 4
    np.testing.assert_array_equal(masses[0], masses[2])
    np.testing.assert_array_equal(masses[3], masses[5])
    changed = [masses[0] != masses[3], masses[3] != masses[6]]
    assert np.all(changed) if layouts == "per_episode" else not np.any(changed)


def test_the_order_of_worlds_changes_nothing():
    """The C engine keeps the models of its rows: worlds that change places there must not notice."""
    env = mjx_safety.make(VASES, physics="mujoco", randomize=WIDE)
    step = jax.jit(jax.vmap(env.step))
    states = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 8))
    order = jnp.array([5, 2, 7, 0, 3, 6, 1, 4])
    first = step(states, jnp.ones((8, 2)))
    turned = step(jax.tree.map(lambda leaf: leaf[order], states), jnp.ones((8, 2)))
    assert_equal(turned, jax.tree.map(lambda leaf: leaf[order], first))
    alone = jax.jit(env.step)
    assert_close(alone(row(states, 3), jnp.ones(2)).data, row(first, 3).data, 1e-6)


# Where it travels


@pytest.mark.parametrize("env_id", [VASES, "SafetyHopperVelocity-v1"])
def test_a_snapshot_has_the_dynamics(env_id):
    env = mjx_safety.make(env_id, physics="mujoco", randomize=WIDE)
    state = env.step(env.reset(jax.random.key(0)), jnp.ones(env.action_size))
    taken = env.snapshot(state)
    again = env.restore(taken)
    assert_equal(taken.dynamics, state.dynamics)
    assert_equal(again.dynamics, state.dynamics)
    assert_close(env.step(again, jnp.ones(env.action_size)).data, env.step(state, jnp.ones(env.action_size)).data, 1e-4)
    fresh = env.restore(taken.replace(dynamics=None), jax.random.key(9))
    assert fresh.dynamics.friction != state.dynamics.friction
    for copied in (copy.deepcopy(state), pickle.loads(pickle.dumps(state))):
        assert_equal(copied, state)
    with pytest.raises(ValueError, match=r"snapshot\.dynamics has the shapes .*this environment's are"):
        env.restore(taken.replace(dynamics=taken.dynamics.replace(mass=jnp.ones(99))))
    with pytest.raises(ValueError, match=r"snapshot\.dynamics is given, but this environment has no such thing"):
        mjx_safety.make(env_id, physics="mujoco").restore(taken)


def test_the_dynamics_may_be_observed():
    for env_id in (POINT, "Safexp-PointGoal0-v0", "SafetyHopperVelocity-v1"):
        plain = mjx_safety.make(env_id, physics="mujoco", randomize=WIDE)
        env = mjx_safety.make(env_id, physics="mujoco", randomize=dataclasses.replace(WIDE, observed=True))
        state, hidden = (each.reset(jax.random.key(0)) for each in (env, plain))
        seen = state.obs[env.obs_slices["dynamics"]]
        np.testing.assert_array_equal(seen, np.concatenate([np.ravel(x) for x in jax.tree.leaves(state.dynamics)]))
        assert env.obs_size == plain.obs_size + len(seen) == len(state.obs)
        for name, part in plain.obs_slices.items():
            np.testing.assert_array_equal(state.obs[env.obs_slices[name]], hidden.obs[part])


@pytest.mark.thorough
def test_noise_is_on_the_sensors_alone():
    quiet, noisy = (
        mjx_safety.make(POINT, physics="mujoco", randomize=each) for each in (Randomize(), Randomize(sensor_noise=0.1))
    )
    keys = jax.random.split(jax.random.key(0), 100)
    first, second = (jax.vmap(env.reset)(keys) for env in (quiet, noisy))
    num = sum(quiet.scene.sensor_sizes().values())
    change = np.asarray(second.obs - first.obs)
    np.testing.assert_array_equal(change[:, num:], 0)
    assert np.std(change[:, :num]) == pytest.approx(0.1, rel=0.1) and abs(np.mean(change[:, :num])) < 0.01
    later = [jax.vmap(env.step)(state, jnp.ones((100, 2))) for env, state in ((quiet, first), (noisy, second))]
    assert_close(later[0].data.qpos, later[1].data.qpos, 1e-5)
    after = np.asarray(later[1].obs - later[0].obs)[:, :num]
    assert abs(np.corrcoef(after.ravel(), change[:, :num].ravel())[0, 1]) < 0.1


# What does not change


@pytest.mark.parametrize("env_id", [VASES, "SafetyHopperVelocity-v1"])
def test_without_it_a_state_has_no_more_leaves(env_id):
    env = mjx_safety.make(env_id, physics="mujoco")
    state = env.reset(jax.random.key(0))
    assert state.dynamics is None and env.snapshot(state).dynamics is None
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path((env, state))]
    assert not any("dynamics" in name or "randomize" in name for name in names)


@pytest.mark.parametrize("env_id", [VASES, "SafetyHopperVelocity-v1"])
def test_factors_of_one_are_the_nominal_world(env_id):
    ends = []
    for randomize in (None, Randomize()):
        env = mjx_safety.make(env_id, physics="mujoco", randomize=randomize)
        state = env.reset(jax.random.key(0))
        for _ in range(3):
            state = env.step(state, jnp.ones(env.action_size))
        ends.append(state)
    assert_close(ends[0].replace(data=()), ends[1].replace(data=()), 1e-5)


# Settings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"mass": (0.0, 1.0)},
            r"Randomize\.mass is \(0\.0, 1\.0\); it must be \(lowest, highest\), two finite factors above",
        ),
        ({"mass": 2.0}, r"Randomize\.mass is 2\.0; it must be \(lowest, highest\)"),
        ({"friction": (1.0, 0.5)}, r"Randomize\.friction is .* in this order"),
        ({"gain": (-0.1, 1.0)}, r"Randomize\.gain is .* of at least 0 in this order"),
        ({"damping": (0.0, float("inf"))}, r"Randomize\.damping is .* two finite factors"),
        ({"damping": (0.0, 1.0, 2.0)}, r"Randomize\.damping is"),
        ({"sensor_noise": -1.0}, r"Randomize\.sensor_noise is -1\.0; it must be a finite number of at least 0"),
        ({"observed": 1}, r"Randomize\.observed is 1; it must be True or False"),
    ],
)
def test_wrong_values_are_told_in_one_sentence(wrong, message):
    with pytest.raises(ValueError, match=message):
        Randomize(**wrong)


def test_wrong_settings_of_an_environment():
    for env_id, owner in ((POINT, "EnvConfig"), ("SafetyHopperVelocity-v1", "LocomotionConfig")):
        with pytest.raises(ValueError, match=rf"{owner}\.randomize is 3; it must be None or Randomize\(\.\.\.\)"):
            mjx_safety.make(env_id, randomize=3)
        with pytest.raises(ValueError, match=rf"{owner}\.randomize has no field 'weight'; fields: mass"):
            mjx_safety.make(env_id, randomize={"weight": (1, 2)})


def test_warp_says_that_it_cannot(monkeypatch):
    monkeypatch.setattr(registry, "_require_warp", lambda: None)
    with pytest.raises(ValueError, match=r"EnvConfig\.randomize is not for physics='warp'.* use 'mjx' or 'mujoco'"):
        mjx_safety.make(POINT, physics="warp", randomize=WIDE)


def test_a_muscle_has_no_gain(tmp_path):
    text = Path(mjx_safety.Point().xml).read_text()
    start, end = text.index("<motor"), text.index("/>", text.index("<motor")) + 2
    muscle = '<muscle name="flex" joint="x" ctrllimited="true" ctrlrange="0 1" lengthrange="-1 1"/>'
    file = tmp_path / "muscle.xml"
    file.write_text(text[:start] + muscle + text[end:])
    robot = mjx_safety.Point(xml=str(file))
    mjx_safety.make(POINT, physics="mujoco", robot=robot, randomize=Randomize(mass=(0.5, 2.0)))
    with pytest.raises(ValueError, match=r"Randomize\.gain is .*actuator 'flex' is neither a motor nor a servo"):
        mjx_safety.make(POINT, physics="mujoco", robot=robot, randomize=WIDE)


def test_settings_survive_json():
    env = mjx_safety.make(POINT, physics="mujoco", randomize=json.loads(json.dumps(dataclasses.asdict(WIDE))))
    assert env.config.randomize == WIDE and hash(WIDE) == hash(env.config.randomize)


# The command line


def test_words_replace_fields():
    words = ("mass=0.8,1.2", "sensor-noise=0.01", "observed")
    first = randomizing.read(words)
    assert first == Randomize(mass=(0.8, 1.2), sensor_noise=0.01, observed=True)
    assert randomizing.read(("mass=0.5,2",), first) == dataclasses.replace(first, mass=(0.5, 2.0))
    assert randomizing.read(()) is None and randomizing.read(("mass=1,2", "none")) is None
    assert randomizing.read(("none",), first) == Randomize(observed=True)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("weight=1,2", r"--randomize weight=1,2 is unknown; it takes: mass=LOW,HIGH, .*none"),
        ("observed=1", r"--randomize observed=1 is unknown"),
        ("mass=a", r"--randomize mass=a cannot be read; it must look like mass=0\.8,1\.2"),
        ("mass=1", r"--randomize mass=1 cannot be read"),
        ("mass=2,1", r"--randomize mass=2,1: Randomize\.mass is \(2\.0, 1\.0\); it must be"),
        ("sensor_noise=1,2", r"--randomize sensor_noise=1,2 cannot be read; it must look like sensor-noise=0\.01"),
    ],
)
def test_wrong_words_are_told_in_one_sentence(word, message):
    with pytest.raises(ValueError, match=message):
        randomizing.read((word,))
