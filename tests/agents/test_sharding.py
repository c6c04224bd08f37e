"""Worlds spread over devices train as on one: 8 virtual devices, and two processes of 4 that talk over loopback.

What travels between devices is read from the compiled programs: sums, never worlds, samples or past steps.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).parent.parent

SCRIPT = """
import json, sys
import jax
processes, rank, num_devices = map(int, sys.argv[1:4])
address, folder = sys.argv[4:]
if processes > 1:
    jax.distributed.initialize(address, processes, rank)
import jax.numpy as jnp
import numpy as np
from functools import partial
from pathlib import Path
from agents import probe_envs
from mjx_safety.agents import PPOConfig, TrainConfig, checkpoint, init, iterate, lagrangian, make_chunk, ppo, sharding
from mjx_safety.env.vector import vectorize

venv = vectorize(probe_envs.Random(), 512, stagger=True)
algorithm = ppo(PPOConfig(hidden_sizes=(8,), num_minibatches=2), lagrangian(5.0))
start = partial(init, venv, algorithm, jax.random.key(0))
where = None
if num_devices > 1:
    where = sharding.shardings(sharding.make_mesh(num_devices), jax.eval_shape(start), venv.num_envs)
state = jax.jit(start, out_shardings=where)()
spread = len(state.env_state.obs.sharding.device_set), state.env_state.obs.sharding.is_fully_replicated
chunk = make_chunk(partial(iterate, venv, algorithm, TrainConfig(unroll_length=8)), where)
for _ in range(2):
    state, rows = chunk(state, jnp.int32(3))
    last = {name: float(np.asarray(column)[2]) for name, column in rows.items()}
compiles = chunk._cache_size()
state = sharding.gather(state)
if rank == 0:
    checkpoint.save(Path(folder), state)
    print(json.dumps({"last": last, "spread": spread, "compiles": compiles}))
"""


PROGRAMS = """
import json, re
import jax
import jax.numpy as jnp
from functools import partial
from agents import probe_envs
from mjx_safety.agents import PPOConfig, SACConfig, TrainConfig, Training, init, init_many, iterate, lagrangian
from mjx_safety.agents import make_chunk, ppo, sac, sharding
from mjx_safety.agents.train import iterate_many
from mjx_safety.env.vector import vectorize

mesh = sharding.make_mesh(4)
config = TrainConfig(unroll_length=8)
quick = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def read(program):
    text = program.compile(compiler_options=quick).as_text()
    kinds = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
    found = re.findall(rf" = (.*?) ({kinds})(?:-start)?[(]", text)
    moved = [[kind, [int(n) for n in dims.split(",") if n]] for what, kind in found
             for dims in re.findall(r"[a-z]+[0-9]*\\[([0-9,]*)\\]", what)]
    return {"moved": moved, "shapes": sorted(set(re.findall(r"f32\\[[0-9,]+\\]", text)))}


def of_worlds(algorithm):
    venv = vectorize(probe_envs.Random(), 512, stagger=True)
    like = jax.eval_shape(partial(init, venv, algorithm, jax.random.key(0)))
    where = sharding.shardings(mesh, like, venv.num_envs)
    return read(make_chunk(partial(iterate, venv, algorithm, config), where).lower(like, jnp.int32(1)))


def of_members():
    def build(settings):
        algorithm = ppo(PPOConfig(hidden_sizes=(8,), learning_rate=settings["rate"]), lagrangian(5.0))
        return Training(vectorize(probe_envs.Random(), 16), algorithm, config)

    settings, keys = {"rate": jnp.full(8, 1e-3)}, jax.random.split(jax.random.key(0), 8)
    like = jax.eval_shape(lambda: init_many(build, settings, keys))
    where = sharding.member_shardings(mesh, like)
    run = sharding.by_member(partial(iterate_many, build), mesh)
    return read(make_chunk(partial(run, settings), where).lower(like, jnp.int32(1)))


small = SACConfig(hidden_sizes=(8,), replay_capacity=8192, batch_size=128, updates_per_step=2 / 4096)
print(json.dumps({
    "ppo": of_worlds(ppo(PPOConfig(hidden_sizes=(8,), num_minibatches=2), lagrangian(5.0))),
    "sac": of_worlds(sac(small, lagrangian(5.0))),
    "members": of_members(),
}))
"""
OBS = 3  # entries of the probe's observation
SAMPLES = 8 * 512  # of a rollout


@pytest.fixture(scope="module")
def programs():
    """What compiled programs for 4 devices move between them, and the shapes in them."""
    flags = "--xla_force_host_platform_device_count=4"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(TESTS)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAMS], env=environment, text=True, capture_output=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-1500:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_only_sums_travel(programs, algorithm):
    moved = programs[algorithm]["moved"]
    assert ["all-reduce", [OBS, 8]] in moved or ["all-reduce", [8, OBS]] in moved  # a gradient of the first layer
    largest = max(np.prod(shape, dtype=int) for kind, shape in moved if kind == "all-reduce")
    assert largest <= 8 * (OBS + 1)  # a layer of the networks
    others = [shape for kind, shape in moved if kind != "all-reduce"]
    assert all(np.prod(shape, dtype=int) <= 16 for shape in others), others  # how much of each pool is used


def test_each_device_has_its_share_of_a_minibatch(programs):
    shapes = programs["ppo"]["shapes"]
    share = SAMPLES // 2 // 4  # of 2 minibatches, on 4 devices
    assert f"f32[{share},{OBS}]" in shapes or f"f32[{OBS},{share}]" in shapes
    assert not {f"f32[{4 * share},{OBS}]", f"f32[{OBS},{4 * share}]"} & set(shapes)


def test_a_replay_is_spread(programs):
    shapes = programs["sac"]["shapes"]
    assert f"f32[{8192 // 4},{OBS}]" in shapes and f"f32[8192,{OBS}]" not in shapes


def test_nothing_travels_between_trainings_side_by_side(programs):
    assert programs["members"]["moved"] == []


def run(folder, num_devices, processes=1):
    """Train in as many processes; return what the first one says."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={num_devices // processes}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(TESTS)}
    environment |= {"JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo"}
    arguments = [[str(processes), str(rank), str(num_devices), address, str(folder)] for rank in range(processes)]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *each],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for each in arguments
    ]
    said = [process.communicate(timeout=300) for process in started]
    assert all(process.returncode == 0 for process in started), [errors[-1500:] for _, errors in said]
    return json.loads([line for line in said[0][0].splitlines() if line.startswith("{")][-1])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return run(tmp_path_factory.mktemp("alone"), num_devices=1)


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_eight_devices_train_as_one(alone, processes, tmp_path):
    spread = run(tmp_path, num_devices=8, processes=processes)
    assert spread["spread"] == [8, False] and alone["spread"][0] == 1
    assert spread["compiles"] == 1
    assert spread["last"] == pytest.approx(alone["last"], rel=2e-3, abs=2e-4)
    assert (tmp_path / "00000006").is_dir()
