"""Environments of equal content share what was compiled, and leave no threads behind."""

import gc
import os
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from worlds import counted_programs

import mjx_safety
from mjx_safety.core.settings import settings

ID = "SafetyCarGoal1-v0"  # neither its robot nor its vase is stepped in closed form
NUM = 40


def structure_of(physics, **overrides):
    return jax.tree.structure(mjx_safety.make(ID, physics=physics, **overrides))


@pytest.mark.parametrize("physics", ["mujoco", "mjx"])
def test_equal_environments_are_equal_trees(physics):
    """JAX compiles anew where the structure of an argument differs."""
    assert structure_of(physics) == structure_of(physics)
    assert hash(structure_of(physics)) == hash(structure_of(physics))
    assert structure_of(physics) != structure_of(physics, accuracy="reference")
    assert structure_of(physics) != structure_of(physics, vases=mjx_safety.Vases(num=2))


@pytest.mark.parametrize("physics", ["mujoco", "mjx"])
def test_a_lone_robot_is_the_same_at_every_accuracy(physics):
    fast, reference = (
        jax.tree.flatten(mjx_safety.make("SafetyHopperVelocity-v1", physics=physics, accuracy=accuracy))
        for accuracy in ("fast", "reference")
    )
    assert fast[1] == reference[1]
    for ours, theirs in zip(fast[0], reference[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_five_environments_compile_once():
    compilations = []
    for _ in range(5):
        with counted_programs() as programs:
            mjx_safety.make("SafetyPointGoal0-v0", physics="mujoco", episode_length=77).reset(jax.random.key(0))
        compilations.append(programs.count("jit(reset)"))
    assert compilations == [1, 0, 0, 0, 0]


def num_threads():
    """Number of this process's threads, once it no longer changes: a compiler's threads may just be ending."""
    before, now = -1, len(os.listdir("/proc/self/task"))
    while now != before:
        time.sleep(0.3)
        before, now = now, len(os.listdir("/proc/self/task"))
    return now


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_threads_end_with_the_environment():
    env = mjx_safety.make(ID, physics="mujoco", vases=mjx_safety.Vases(num=2))  # nobody else holds one like it
    keys = jax.random.split(jax.random.key(0), NUM)
    states = jax.jit(jax.vmap(env.reset))(keys)
    for num in range(NUM - 8, NUM):
        jax.vmap(env.physics.forward)(jax.tree.map(lambda leaf, num=num: leaf[:num], states.data))
    alive = num_threads()
    del env
    gc.collect()
    workers = (os.cpu_count() or 1) - 1  # of each batch, beside the thread that calls
    assert alive - num_threads() == 4 * workers  # the newest four sizes were kept


def test_a_class_that_is_defined_anew_gets_a_scene_of_its_own():
    def at_height(value):
        @settings
        class Floating(mjx_safety.Hazards):
            @property
            def height(self) -> float:
                return value

        env = mjx_safety.make("SafetyPointGoal1-v0", physics="mujoco", hazards=Floating(num=1))
        return env, float(env.snapshot(env.reset(jax.random.key(0))).hazards_pos[0, 2])

    (_, low), (_, high) = kept = [at_height(0.02), at_height(0.5)]  # kept: scenes are shared while they are held
    assert (low, high) == (pytest.approx(0.02), pytest.approx(0.5)) and len(kept) == 2
