"""What one env step launches on a GPU: kernels, copies, library calls, command buffers. It needs no GPU.

    python benchmarks/launches.py --json benchmarks/results/launches.json

JAX's CUDA plugin compiles for an H200 on a machine that has none, and XLA writes down every launch of the program.
It needs the extra `launches`, and half a minute to two minutes for an environment.

A loop whose length the program knows counts as often as it runs. For the others there are assumptions: the solver takes
`SOLVER_ITERATIONS`, worlds that need their objects take the chunks that their measured share fills, any other loop one
turn. A library call counts as `LAUNCHES_OF_LIBRARY` launches.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import importlib.metadata
import math
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import result_file
import tyro
from jax._src import xla_bridge
from jax.experimental import topologies

import mjx_safety
from mjx_safety.cli.gpu_flags import COMMAND_BUFFER
from mjx_safety.cli.throughput import in_mid_episode, share_with_objects
from mjx_safety.sim.relevance.where_needed import chunk_size

ENVS = ("SafetyPointGoal1-v0", "SafetyPointGoal2-v0", "SafetyCarGoal1-v0", "SafetyDoggoGoal1-v0", "SafetyPointPush1-v0")
SOLVER_ITERATIONS = 5  # of the slowest world; 4 to 6 in PointGoal1
LAUNCHES_OF_LIBRARY = 4  # of one Cholesky or triangular solve of a batch
WHEELS = ("jax-cuda13-plugin", "jax-cuda13-pjrt", "nvidia-cuda-nvcc", "nvidia-nvvm")
LIBRARY = ("kCustomCall", "kTriangularSolve", "kCholesky")
CONTAINERS = ("kCommandBuffer", "kSequential", "kWhile", "kConditional")
H200 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 4800000000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: 151397597184
  shared_memory_per_block_optin: 232448 cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  driver_version: "13.0.0" runtime_version: "13.0.0" compile_time_toolkit_version: "13.0.0" dnn_version: "9.10.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 patch: 0 }
runtime_version { major: 13 minor: 0 patch: 0 }
device_description_str: "NVIDIA H200"
"""


@dataclasses.dataclass
class Args:
    """What to count."""

    envs: tuple[str, ...] = ENVS
    """Environments."""
    num_envs: int = 4096
    """Worlds."""
    before: Path | None = None
    """Results of older code, to keep beside the new ones."""
    json: Path | None = None
    """Also write the results to this file."""


@dataclasses.dataclass
class Thunk:
    """One entry of XLA's list of what a program launches, with those that it holds."""

    kind: str
    name: str
    indent: int
    condition: list[Thunk] = dataclasses.field(default_factory=list)
    body: list[Thunk] = dataclasses.field(default_factory=list)

    def inside(self) -> Iterator[Thunk]:
        """Everything in it, at any depth."""
        for thunk in (*self.condition, *self.body):
            yield thunk
            yield from thunk.inside()


@dataclasses.dataclass(frozen=True)
class Loop:
    """What the program says about one of its loops."""

    known_trips: int | None
    op_name: str  # the path of functions that led to it


def missing_wheels() -> list[str]:
    """Return the packages of the extra `launches` that are missing."""
    return [name for name in WHEELS if not list(importlib.metadata.distributions(name=name))]


@contextlib.contextmanager
def named_gpu() -> Iterator[None]:
    """Let JAX treat "gpu" as "cuda" without asking for devices."""
    known = xla_bridge.canonicalize_platform
    xla_bridge.canonicalize_platform = lambda name: "cuda" if name in ("gpu", "cuda") else known(name)
    try:
        yield
    finally:
        xla_bridge.canonicalize_platform = known


def compile_for_gpu(function: Callable, inputs: Any, flags: Mapping[str, Any]) -> tuple[list[Thunk], dict[str, Loop]]:
    """Compile a function for the H200. inputs: pytrees of shapes. Returns what it launches, and its loops."""
    with tempfile.TemporaryDirectory() as folder, named_gpu():
        topology = topologies.get_topology_desc(platform="cuda", target_config=H200, topology="1x1x1")
        where = jax.sharding.SingleDeviceSharding(topology.devices[0])
        specs = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), inputs)
        options = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True, "xla_gpu_autotune_level": 0, **flags}
        jax.jit(function).lower(*specs).compile(compiler_options=options)
        # XLA compiles constants of the program as programs of their own; ours is the longest.
        longest = max(Path(folder).glob("*thunk_sequence.txt"), key=lambda path: path.stat().st_size)
        stem = str(longest).removesuffix("thunk_sequence.txt")
        captured = Path(f"{stem}thunk_sequence_after_thunk_passes.txt")  # there if XLA changed anything
        names = re.findall(r'profile_annotation: "(while[^"]*)"', Path(f"{stem}thunk_metadata.txt").read_text())
        hlo = next(Path(folder).glob(f"{Path(stem).name}*gpu_after_optimizations.txt")).read_text()
        return parse((captured if captured.exists() else longest).read_text(), names), loops_in(hlo)


def parse(text: str, loop_names: list[str]) -> list[Thunk]:
    """Read XLA's list. loop_names: of the loops, in order, since the list itself does not name them."""
    root = Thunk("root", "", -1)
    stack, section, names = [root], {}, iter(loop_names)
    for line in text.splitlines():
        if line.strip() == "condition:":
            stack = stack[: 1 + max(i for i, thunk in enumerate(stack) if thunk.kind == "kWhile")]
            section[id(stack[-1])] = stack[-1].condition
        elif line.strip() == "body:":
            indent = len(line) - len(line.lstrip())
            stack = [thunk for thunk in stack if thunk.indent < indent]
            section[id(stack[-1])] = stack[-1].body
        for entry in re.finditer(r"\d{3,}: (k\w+) +\[[^]]*\] ?(\w*)", line):
            while stack[-1].indent >= entry.start():
                stack.pop()
            kind = entry[1]
            thunk = Thunk(kind, next(names) if kind == "kWhile" else entry[2], entry.start())
            section.get(id(stack[-1]), stack[-1].body).append(thunk)
            stack.append(thunk)
    return root.body


def loops_in(hlo: str) -> dict[str, Loop]:
    """Find the loops of an optimised program, by name."""
    loops = {}
    for line in hlo.splitlines():
        found = re.match(r"\s*(?:ROOT )?%?(while[\w.]*) = .* while\(", line)
        if found:
            trips = re.search(r'"known_trip_count":\{"n":"(\d+)"', line)
            path = re.search(r'op_name="([^"]*)"', line)
            loops[found[1]] = Loop(int(trips[1]) if trips else None, path[1] if path else "")
    return loops


def holds_rounds(thunk: Thunk, loops: Mapping[str, Loop]) -> bool:
    """Whether a loop of unknown length holds one of known length: the chunks hold the rounds of physics."""
    inner = [other for other in thunk.inside() if other.kind == "kWhile"]
    return loops[thunk.name].known_trips is None and any(loops[other.name].known_trips is not None for other in inner)


def trips(thunk: Thunk, loops: Mapping[str, Loop], num_chunks: int) -> int:
    """How often a loop counts."""
    loop = loops[thunk.name]
    if loop.known_trips is not None:
        return loop.known_trips
    if re.search("/(solve|newton)/", loop.op_name):
        return SOLVER_ITERATIONS
    return num_chunks if holds_rounds(thunk, loops) else 1


def count(
    thunks: list[Thunk], loops: Mapping[str, Loop], num_chunks: int, is_captured: bool = False
) -> collections.Counter:
    """Count what is launched, loops as often as they run.

    read_backs: conditions of loops that the host waits for, which it does outside of command buffers only.
    """
    total = collections.Counter()
    for thunk in thunks:
        if thunk.kind == "kWhile":
            times = trips(thunk, loops, num_chunks)
            chunks_inside = 1 if holds_rounds(thunk, loops) else num_chunks
            inside = count(thunk.body, loops, chunks_inside, is_captured)
            again = count(thunk.condition, loops, num_chunks, is_captured)
            total.update({name: times * value for name, value in inside.items()})
            total.update({name: (times + 1) * value for name, value in again.items()})
            if not is_captured and loops[thunk.name].known_trips is None:
                total["read_backs"] += times + 1
        else:
            total.update(count(thunk.body, loops, num_chunks, is_captured or thunk.kind == "kCommandBuffer"))
        if thunk.kind not in CONTAINERS:
            is_library = thunk.kind in LIBRARY
            kind = "library_calls" if is_library else "copies" if thunk.kind == "kCopy" else "kernels"
            total[kind] += 1
            total["launches"] += LAUNCHES_OF_LIBRARY if is_library else 1
    return total


def command_buffers(thunks: list[Thunk]) -> int:
    """How many pieces of the program are command buffers (CUDA graphs). If all can be captured, it is one."""
    inner = ([*thunk.condition, *thunk.body] for thunk in thunks if thunk.kind != "kCommandBuffer")
    return sum(thunk.kind == "kCommandBuffer" for thunk in thunks) + sum(command_buffers(part) for part in inner)


def measure(env_id: str, num_envs: int) -> dict[str, Any]:
    """Count the launches of a step of all worlds."""
    with mock.patch.object(jax, "default_backend", lambda: "gpu"):  # which `make` asks for the size of a chunk
        env = mjx_safety.make(env_id, physics="mjx")
    share = float(share_with_objects(env, in_mid_episode(env, min(num_envs, 1024)).env_state.data))
    size = chunk_size(num_envs, env.physics.share)
    num_chunks = max(1, math.ceil(share * num_envs / size))
    states = jax.eval_shape(lambda key: jax.vmap(env.reset)(jax.random.split(key, num_envs)), jax.random.key(0))
    actions = jax.ShapeDtypeStruct((num_envs, env.action_size), jnp.float32)
    start = time.perf_counter()
    thunks, loops = compile_for_gpu(jax.vmap(env.step), (states, actions), COMMAND_BUFFER)
    seconds = time.perf_counter() - start
    total = count(thunks, loops, num_chunks)
    in_loops = {name: 0 for name in ("alone", "near")}
    for thunk in _outermost_loops(thunks):
        part = count([thunk], loops, num_chunks)["launches"]
        in_loops["near" if holds_rounds(thunk, loops) else "alone"] += part
    return {
        "launches": total["launches"],
        "command_buffers": command_buffers(thunks),
        **{name: total[name] for name in ("kernels", "copies", "library_calls", "read_backs")},
        "launches_in_loops": in_loops,
        "share_with_objects": share,
        "chunk": size,
        "chunks": num_chunks,
        "seconds": round(seconds, 1),
    }


def _outermost_loops(thunks: list[Thunk]) -> Iterator[Thunk]:
    for thunk in thunks:
        if thunk.kind == "kWhile":
            yield thunk
        else:
            yield from _outermost_loops(thunk.body)


def main(args: Args) -> None:
    """Count, print, write."""
    if missing_wheels():
        raise SystemExit(f"{', '.join(missing_wheels())} missing: pip install 'mjx-safety[launches]'")
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_default_matmul_precision", "highest")
    rows, before = {}, {}
    if args.json:  # read first, because `before` may be the file that is written
        older = result_file.read(args.before) if args.before else result_file.read(args.json).get("before", {})
        before = {"before": {name: older[name] for name in ("git_commit", "rows") if name in older}}
    for env_id in args.envs:
        rows[env_id] = measure(env_id, args.num_envs)
        print(env_id, rows[env_id], flush=True)
        if args.json:
            assumptions = {"solver_iterations": SOLVER_ITERATIONS, "launches_of_a_library_call": LAUNCHES_OF_LIBRARY}
            result_file.write(
                args.json, {"num_envs": args.num_envs, "assumptions": assumptions, "rows": rows, **before}
            )


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
