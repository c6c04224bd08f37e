"""Counting launches: on a list of XLA's as it writes it, on a small program, and on PointGoal1."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import launches
from launches import LAUNCHES_OF_LIBRARY, SOLVER_ITERATIONS, Loop, command_buffers, compile_for_gpu, count, parse

from mjx_safety.cli.gpu_flags import COMMAND_BUFFER

NO_WHEELS = pytest.mark.skipif(bool(launches.missing_wheels()), reason="needs the extra 'launches'")

LIST = """\
000: kCommandBuffer [source       | next=023 (1)]
    001: kCustomKernel [source        | next=002 (1)] fusion_a grid: [32, 1, 1] threads: [256, 1, 1]
    002: kCopy         [prev=001 (1)  | sink        ] kCopy
003: kWhile         [prev=000 (1) | next=000 (1)]
condition:
    004: kCustomKernel [source | sink] any_left grid: [1, 1, 1] threads: [1, 1, 1]
  body:
    005: kWhile         [prev=000 (1) | next=000 (1)]
condition:
        006: kCustomKernel [source | sink] compare grid: [1, 1, 1] threads: [1, 1, 1]
      body:
        007: kCustomKernel [source | next=008 (1)] physics grid: [1, 1, 1] threads: [1, 1, 1]
        010: kSequential   [prev=009 (1) | sink        ]  008: kCopy [source       | next=009 (1)] kCopy
          009: kTriangularSolve [prev=008 (1) | sink        ] (no description)
        011: kWhile         [prev=000 (1) | next=000 (1)]
condition:
            012: kCustomKernel [source | sink] goes_on grid: [1, 1, 1] threads: [1, 1, 1]
          body:
            013: kCustomKernel [source | sink] newton grid: [1, 1, 1] threads: [1, 1, 1]
    014: kCustomKernel [prev=005 (1) | sink        ] scatter grid: [1, 1, 1] threads: [1, 1, 1]
015: kCustomKernel [prev=003 (1) | sink        ] fusion_b grid: [1, 1, 1] threads: [1, 1, 1]
"""
LOOPS = {
    "while.1": Loop(None, "jit(step)/while"),
    "while.2": Loop(11, "jit(step)/while/body/while"),
    "while.3": Loop(None, "jit(step)/while/body/while/body/forward/newton/while"),
}


def test_a_list_is_read_with_its_loops():
    first, chunks, last = parse(LIST, list(LOOPS))
    assert [thunk.name for thunk in (*first.body, last)] == ["fusion_a", "kCopy", "fusion_b"]
    rounds, scatter = chunks.body
    assert (chunks.name, rounds.name, scatter.name) == ("while.1", "while.2", "scatter")
    assert [thunk.kind for thunk in rounds.body] == ["kCustomKernel", "kSequential", "kWhile"]
    assert [thunk.kind for thunk in rounds.body[1].inside()] == ["kCopy", "kTriangularSolve"]
    assert [thunk.name for thunk in rounds.body[2].body] == ["newton"]


@pytest.mark.parametrize("num_chunks", [1, 2])
def test_loops_count_as_often_as_they_run(num_chunks):
    solver = SOLVER_ITERATIONS + (SOLVER_ITERATIONS + 1)
    rounds = 11 * (1 + 1 + LAUNCHES_OF_LIBRARY + solver) + 12
    total = count(parse(LIST, list(LOOPS)), LOOPS, num_chunks)
    assert total["launches"] == 2 + num_chunks * (rounds + 1) + (num_chunks + 1) + 1
    assert total["library_calls"] == 11 * num_chunks
    assert total["read_backs"] == num_chunks * 11 * (SOLVER_ITERATIONS + 1) + (num_chunks + 1)
    assert command_buffers(parse(LIST, list(LOOPS))) == 1


@NO_WHEELS
def test_a_program_of_known_size():
    """Eight turns of a product and a sort, which no kernel holds together, as one CUDA graph."""

    def program(x):
        return jax.lax.fori_loop(0, 8, lambda _, x: jnp.sort(x @ x, axis=0), x)

    shapes = (jax.ShapeDtypeStruct((32, 32), jnp.float32),)
    thunks, loops = compile_for_gpu(program, shapes, COMMAND_BUFFER)
    total = count(thunks, loops, num_chunks=1)
    assert [loop.known_trips for loop in loops.values()] == [8]
    assert 16 <= total["launches"] < 60
    assert command_buffers(thunks) == 1 and total["read_backs"] == 0


@NO_WHEELS
@pytest.mark.slow
def test_a_step_of_point_goal_is_one_cuda_graph():
    row = launches.measure("SafetyPointGoal1-v0", 4096)
    assert row["command_buffers"] == 1 and row["library_calls"] == 0
    assert row["launches"] <= 3300
