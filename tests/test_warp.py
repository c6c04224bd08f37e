"""MJX-Warp against the C engine, and what only its batches need. On a CPU, where Warp's kernels run too."""

import collections
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import assert_close, compiled, plain, row

import mjx_safety
from mjx_safety import EnvConfig, Goal, Gremlins, Pillars, Vases
from mjx_safety.env import build_env
from mjx_safety.scene import build_scene

pytest.importorskip("warp", reason="needs the extra 'warp'")

from mujoco import mjx

from mjx_safety.physics import warp as engine

B, T = 4, 12
SMALL = EnvConfig(
    task=Goal(), vases=Vases(num=2), pillars=Pillars(num=1), gremlins=Gremlins(num=1), episode_length=3, indicator=False
)


def on_warp(config):
    return build_env(config, engine.WarpPhysics.create(build_scene(config.robot, config.objects, engine="warp")))


class Pair:
    """One environment on both engines, with functions of B worlds; `traces` counts tracings of Warp's."""

    def __init__(self, env):
        self.exact = mjx_safety.make(env, physics="mujoco")
        self.env = on_warp(self.exact.config)
        self.traces = collections.Counter()
        self.resets, self.restores, self.steps = (self._compile(name) for name in ("reset", "restore", "step"))
        names = ("reset", "restore", "step")
        self.exact_resets, self.exact_restores, self.exact_steps = (
            compiled(jax.vmap(getattr(self.exact, name))) for name in names
        )

    def _compile(self, name):
        def traced(*args):
            self.traces[name] += 1
            return getattr(self.env, name)(*args)

        return compiled(jax.vmap(traced))

    def actions(self, num_steps):
        """Random actions [num_steps, B, A]."""
        shape = (num_steps, B, self.env.action_size)
        return jax.random.uniform(jax.random.key(1), shape, minval=-1, maxval=1)

    def smooth(self, states):
        """Observations [B, O] without the accelerometer, which shows every force."""
        names = [name for name in self.env.obs_slices if name != "accelerometer"]
        return np.concatenate([np.asarray(states.obs)[:, self.env.obs_slices[name]] for name in names], axis=-1)


def contacts(env, states):
    """Contact points of the robot with each solid object [B, K]."""
    return np.asarray(compiled(jax.vmap(lambda data: env.physics.forward(data)[1].contacts))(states.data))


@pytest.fixture(scope="module")
def pair():
    return Pair(SMALL)


@pytest.fixture(scope="module")
def first(pair):
    return pair.resets(jax.random.split(jax.random.key(0), B))


@pytest.fixture(scope="module")
def posed(pair):
    """The robot in a vase, in a pillar, in the gremlin, in nothing; one vase leans on the other."""
    low = 0.1 - 4e-5  # as the floor carries a vase; at 0.1 rounding decides whether they touch
    far = {"vases": [[2.0, 0, low], [2.15, 0, 0.298]], "pillars": [[0, -2.0, 0.5]], "gremlins": [[-2.0, 0, 0.2]]}
    near = {"vases": (0, 0.18, low), "pillars": (0.05, 0.28, 0.5), "gremlins": (0.19, 0.05, 0.13)}
    rows = []
    for kind in (*near, None):
        pos = {f"{name}_pos": np.array(places) for name, places in far.items()}
        if kind is not None:
            pos[f"{kind}_pos"][0] = near[kind]
        rows.append(mjx_safety.Snapshot(root_pos=np.array([0, 0, 0.1]), root_quat=np.array([1.0, 0, 0, 0]), **pos))
    return jax.tree.map(lambda *x: jnp.asarray(np.stack(x), jnp.float32), *rows)


def test_an_episode_starts_as_on_the_c_engine(pair, first):
    expected = pair.exact_resets(jax.random.split(jax.random.key(0), B))
    np.testing.assert_allclose(first.obs, expected.obs, atol=1e-5)
    np.testing.assert_array_equal(first.costs, expected.costs)


def test_contacts_and_sensors_of_posed_worlds_are_those_of_the_c_engine(pair, posed):
    states, expected = pair.restores(posed), pair.exact_restores(posed)
    counts = contacts(pair.env, states)
    np.testing.assert_array_equal(counts, contacts(pair.exact, expected))
    kinds = pair.env.scene.split(pair.env.scene.solid_kinds, counts.T)
    touched = [[bool(kinds[kind][0, world]) for kind in ("vases", "pillars", "gremlins")] for world in range(B)]
    assert touched == [[True, False, False], [False, True, False], [False, False, True], [False] * 3]
    np.testing.assert_allclose(pair.smooth(states), pair.smooth(expected), atol=1e-5)


def test_whole_runs_are_those_of_the_c_engine(pair, posed):
    """From touching worlds on: pushed vases, the pillar that pushes back, the gremlin on its circle."""
    states, expected = pair.restores(posed), pair.exact_restores(posed)
    for action in pair.actions(T):
        states, expected = pair.steps(states, action), pair.exact_steps(expected, action)
        np.testing.assert_allclose(states.data.qpos, expected.data.qpos, atol=1e-3)
        np.testing.assert_array_equal(states.costs > 0, expected.costs > 0)
        print(np.abs(states.data.qpos - expected.data.qpos).max(axis=1), np.abs(states.costs-expected.costs).max())


def test_reset_restore_and_step_agree_in_type_and_are_traced_once(pair, first, posed):
    after = pair.steps(first, pair.actions(1)[0])
    pair.steps(after, pair.actions(1)[0])
    kinds = [jax.tree.map(jax.typeof, plain(state)) for state in (first, pair.restores(posed), after)]
    assert kinds[0] == kinds[1] == kinds[2]
    assert pair.traces == {"reset": 1, "restore": 1, "step": 1}
