"""Worlds with dynamics of their own: what they draw, what that does to the physics, and where it travels."""

import copy
import dataclasses
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import assert_close, assert_equal, row

import mjx_safety
from mjx_safety import Randomize, registry
from mjx_safety.runs import randomizing

ENGINES = ("mujoco", "mjx")
POINT, VASES = "SafetyPointGoal0-v0", "SafetyPointGoal1-v0"
WIDE = Randomize(mass=(0.5, 2.0), friction=(0.5, 2.0), gain=(0.8, 1.2), damping=(0.5, 2.0))
ORIGIN = {"root_pos": jnp.array([0.0, 0.0, 0.1]), "root_quat": jnp.array([1.0, 0.0, 0.0, 0.0])}


def point(physics="mujoco", **settings):
    return mjx_safety.make(POINT, physics=physics, randomize=Randomize(**settings) if settings else None)


def snapshot(env, **changes):
    """The world of one key, with the robot at the origin, looking along +x."""
    made = env.snapshot(env.reset(jax.random.key(0)))
    fields = ORIGIN | changes
    return made.replace(**{name: jnp.asarray(value, jnp.float32) for name, value in fields.items()})


def after(env, action=(1.0, 0.0), **changes):
    """One step from rest at the origin."""
    start = snapshot(env, **changes).replace(last_dist_goal=None)
    return env.step(env.restore(start), jnp.array(action, jnp.float32))


# What the factors do


@pytest.mark.parametrize("physics", ENGINES)
def test_newton_s_second_law(physics):
    """Without damping, the speed is force times time by mass."""
    nominal = point().mj_model
    push, mass = float(nominal.actuator_forcerange[0, 1]), float(nominal.body_subtreemass[0])
    for factor_of_mass, factor_of_force in ((1.0, 1.0), (2.0, 1.0), (1.0, 0.5), (2.0, 3.0)):
        settings = {"mass": (factor_of_mass,) * 2, "gain": (factor_of_force,) * 2, "damping": (0.0, 0.0)}
        env = point(physics, **settings)
        expected = factor_of_force * push * env.dt / (factor_of_mass * mass)
        assert after(env).data.qvel[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("physics", ENGINES)
def test_damping_slows_a_robot_that_rolls_on(physics):
    model = point().mj_model
    for factor in (0.0, 1.0, 5.0):
        env = point(physics, damping=(factor, factor))
        end = after(env, (0.0, 0.0), root_linvel=(1.0, 0.0, 0.0))
        rate = factor * model.dof_damping[0] / model.body_subtreemass[0]
        assert end.data.qvel[0] == pytest.approx((1 + model.opt.timestep * rate) ** -10, rel=1e-5)


@pytest.mark.parametrize("physics", ENGINES)
def test_friction_brakes_a_sliding_vase(physics):
    def speed(factor):
        settings = {"vases": {"num": 1}, "hazards": None, "randomize": Randomize(friction=(factor, factor))}
        env = mjx_safety.make(VASES, physics=physics, **settings)
        start = {"vases_pos": [(1.5, 1.5, 0.1)], "vases_linvel": [(1.0, 0.0, 0.0)]}
        return float(after(env, (0.0, 0.0), **start).data.qvel[3])

    dt = 0.02
    for factor in (0.5, 1.0):
        assert 1.0 - speed(factor) == pytest.approx(factor * 9.81 * dt, rel=0.1)


def test_a_heavy_vase_is_harder_to_push():
    def speed(factor):
        settings = {"vases": {"num": 1}, "hazards": None, "randomize": WIDE}
        env = mjx_safety.make(VASES, physics="mujoco", **settings)
        dynamics = jax.tree.map(jnp.ones_like, env.reset(jax.random.key(0)).dynamics)
        dynamics = dynamics.replace(objects={"vases": jnp.float32(factor)})
        start = snapshot(env, vases_pos=[(0.22, 0.0, 0.1)], vases_quat=[(1.0, 0, 0, 0)], root_linvel=(1.0, 0, 0))
        state = env.restore(start.replace(dynamics=dynamics, last_dist_goal=None))
        for _ in range(3):
            state = env.step(state, jnp.zeros(2))
        return float(state.data.qvel[3])

    assert speed(1.0) > 1.2 * speed(20.0) > 0.0


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
    for end in ends[:2]:
        assert_close(end.data.qpos, ends[2].data.qpos, 1e-4)
        assert_close(end.data.qvel, ends[2].data.qvel, 1e-3)


def go(env, states, actions):
    """Step a batch of worlds. actions: [T, B, A]."""
    return jax.jit(lambda states: jax.lax.scan(lambda s, a: (jax.vmap(env.step)(s, a), None), states, actions)[0])(
        states
    )


@pytest.mark.parametrize("env_id", [VASES, "SafetyHalfCheetahVelocity-v1"])
def test_engines_agree_on_the_same_dynamics(env_id):
    envs = [mjx_safety.make(env_id, physics=physics, randomize=WIDE) for physics in ENGINES]
    states = [jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(3), 8)) for env in envs]
    assert_equal(states[0].dynamics, states[1].dynamics)
    if env_id == VASES:  # pushed by the robot, and sliding
        pos = jnp.zeros((8, 10, 3)).at[:].set(envs[0].snapshot(row(states[0], 0)).vases_pos)
        pos = pos.at[:, 0].set(jnp.array([0.3, 0.02, 0.1]))
        where = jax.vmap(envs[0].snapshot)(states[0]).replace(
            vases_pos=pos, last_dist_goal=None, **jax.tree.map(lambda x: jnp.tile(x, (8, 1)), ORIGIN)
        )
        where = where.replace(root_linvel=jnp.tile(jnp.array([1.5, 0.0, 0.0]), (8, 1)))
        states = [jax.jit(jax.vmap(env.restore))(where) for env in envs]
    actions = jnp.full((4, 8, envs[0].action_size), 0.3)
    first, second = (go(env, state, actions) for env, state in zip(envs, states, strict=True))
    assert float(jnp.max(jnp.abs(first.data.qpos - states[0].data.qpos))) > 1e-2
    assert_close(first.data.qpos, second.data.qpos, 1e-4)
    assert_close(jax.vmap(lambda s: s.dynamics)(first), jax.vmap(lambda s: s.dynamics)(second), 0)


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


def test_noise_is_on_the_sensors_alone():
    quiet, noisy = (
        mjx_safety.make(VASES, physics="mujoco", randomize=each) for each in (Randomize(), Randomize(sensor_noise=0.1))
    )
    keys = jax.random.split(jax.random.key(0), 100)
    first, second = (jax.vmap(env.reset)(keys) for env in (quiet, noisy))
    num = sum(quiet.scene.sensor_sizes().values())
    change = np.asarray(second.obs - first.obs)
    np.testing.assert_array_equal(change[:, num:], 0)
    assert np.std(change[:, :num]) == pytest.approx(0.1, rel=0.1) and abs(np.mean(change[:, :num])) < 0.01
    later = [jax.vmap(env.step)(state, jnp.ones((100, 2))) for env, state in ((quiet, first), (noisy, second))]
    assert_equal(later[0].data, later[1].data)
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
    file = tmp_path / "muscle.xml"
    xml = mjx_safety.Point().xml
    text = open(xml).read()
    start, end = text.index("<motor"), text.index("/>", text.index("<motor")) + 2
    file.write_text(text[:start] + '<muscle name="flex" joint="x" ctrllimited="true" ctrlrange="0 1"/>' + text[end:])
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
