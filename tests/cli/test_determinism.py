"""Equal keys give equal bits, and a resumed training equals an uninterrupted one: every algorithm, groups, engines."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agents import probe_envs

from mjx_safety.agents import ALGORITHMS, checkpoint, init, iterate, make_chunk
from mjx_safety.cli import common
from mjx_safety.runs import run_folder, sweeps

FLAGS = ["--num-envs", "8", "--unroll-length", "8", "--hidden-sizes", "8", "--cost-limit", "3"]
OFF_POLICY = ["--batch-size", "16", "--random-steps", "100", "--replay-capacity", "150"]
ITERATIONS, STOP = 20, 9
FAST = ("cpo",)  # others: PPO-Lagrangian and a group in test_train.py, SAC in test_sac.py


def bits(tree):
    def plain(leaf):
        return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf

    return {jax.tree_util.keystr(path): np.asarray(plain(leaf)) for path, leaf in jax.tree.leaves_with_path(tree)}


def assert_same_bits(a, b):
    a, b = bits(a), bits(b)
    assert a.keys() == b.keys()
    differing = [name for name in a if a[name].tobytes() != b[name].tobytes()]
    assert not differing, differing


def options_of(algo, *flags):
    own = OFF_POLICY if ALGORITHMS[algo].is_off_policy else ["--num-minibatches", "2"]
    return common.parse([*FLAGS, "--algo", algo, *own, *flags])


@pytest.mark.parametrize(
    "algo", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in ALGORITHMS]
)
def test_equal_keys_give_equal_bits_also_after_a_checkpoint(algo, tmp_path):
    training = options_of(algo).training(probe_envs.Random())
    start = jax.jit(partial(init, training.venv, training.algorithm))
    chunk, key = make_chunk(partial(iterate, *training)), jax.random.key(3)
    whole, _ = chunk(start(key), jnp.int32(ITERATIONS))
    again, _ = chunk(start(key), jnp.int32(ITERATIONS))
    assert_same_bits(whole, again)
    half, _ = chunk(start(key), jnp.int32(STOP))
    path = checkpoint.save(tmp_path, half)
    resumed, _ = chunk(checkpoint.restore(path, jax.eval_shape(start, key)), jnp.int32(ITERATIONS - STOP))
    assert_same_bits(whole, resumed)
    other, _ = chunk(start(jax.random.key(4)), jnp.int32(ITERATIONS))
    assert bits(other)[".episode_cost.rate_return"] != bits(whole)[".episode_cost.rate_return"]


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["ppo-lag", "trpo-lag", "sac-lag"])
def test_a_group_resumes_bit_for_bit_from_the_checkpoints_of_its_members(algo, tmp_path):
    options = options_of(algo, "--num-seeds", "2", "--sweep", "cost-limit=2,5")
    many = sweeps.ManyTrainings(sweeps.expand(options), probe_envs.Random())
    chunk, start = make_chunk(many.iterate), jax.jit(many.init)
    whole, _ = chunk(start(), jnp.int32(ITERATIONS))
    half, _ = chunk(start(), jnp.int32(STOP))
    paths = [checkpoint.save(tmp_path / str(index), sweeps.unstack(half, index)) for index in range(4)]
    single = jax.eval_shape(lambda states: sweeps.unstack(states, 0), jax.eval_shape(start))
    restored = sweeps.stack([checkpoint.restore(path, single) for path in paths])
    resumed, _ = chunk(restored, jnp.int32(ITERATIONS - STOP))
    assert_same_bits(whole, resumed)


@pytest.mark.slow
@pytest.mark.parametrize("physics", ["mujoco", "mjx"])
def test_two_processes_give_equal_bits(physics, tmp_path):
    """On the engine's own threads and its own compilation: the metrics and the checkpoints of two commands."""
    command = [sys.executable, "-m", "mjx_safety.train", "--env", "SafetyPointGoal1-v0", "--physics", physics, *FLAGS]
    command += ["--num-minibatches", "2", "--no-compilation-cache", "--total-steps", str(64 * ITERATIONS), "--out"]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    for name in ("a", "b"):
        subprocess.run([*command, str(tmp_path / name)], check=True, env=env, capture_output=True)
    rows = [run_folder.read_rows(tmp_path / name) for name in ("a", "b")]
    for mine, its in zip(*rows, strict=True):
        times = {"seconds", "steps_per_second"}
        assert {k: v for k, v in mine.items() if k not in times} == {k: v for k, v in its.items() if k not in times}
    for part in ("agent", "world"):
        a, b = (
            dict(np.load(checkpoint.latest(tmp_path / name / "checkpoints") / f"{part}.npz")) for name in ("a", "b")
        )
        assert a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)
