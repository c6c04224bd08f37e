"""Worlds spread over devices train as on one: 8 virtual devices, and two processes of 4 that talk over loopback."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

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

venv = vectorize(probe_envs.Random(), 16, stagger=True)
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


@pytest.mark.parametrize("processes", [1, 2])
def test_eight_devices_train_as_one(alone, processes, tmp_path):
    spread = run(tmp_path, num_devices=8, processes=processes)
    assert spread["spread"] == [8, False] and alone["spread"][0] == 1
    assert spread["compiles"] == 1
    assert spread["last"] == pytest.approx(alone["last"], rel=2e-3, abs=2e-4)
    assert (tmp_path / "00000006").is_dir()
