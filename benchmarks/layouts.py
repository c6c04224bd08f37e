"""Times the search for the layouts of many worlds: one shared search against one search per world.

    python benchmarks/layouts.py --json benchmarks/results/layouts.json

Seconds are the best of several, each with another key. Both ways take turns within one run.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import result_file
import tyro
from rich.console import Console
from rich.table import Table

from mjx_safety.world.placement.batch import TURNS, sample_layouts, search_layouts
from mjx_safety.world.placement.layout import sample_layout
from mjx_safety.world.placement.table import AbstractPlaced, PlacementTable, placement_table


@dataclasses.dataclass
class Args:
    """What to measure."""

    num: tuple[int, ...] = (16, 4096)
    """Worlds side by side."""
    repeats: int = 3
    """Timings of each kind. The best counts."""
    json: Path | None = None
    """Also write the results to this file."""


class Thing(AbstractPlaced):
    """An object to place."""


def table_of(half: float, **kinds: tuple[int, float]) -> PlacementTable:
    """Build a table for a square. half: m, half its side; kinds: name -> (number, keepout in m), in order."""
    things = {name: Thing(num=num, keepout=keepout) for name, (num, keepout) in kinds.items()}
    return placement_table(things, (-half, -half, half, half), 0.0)


ROBOT, GOAL, BUTTONS = (1, 0.4), (1, 0.4), (4, 0.2)
TABLES = {  # name -> table, row of the redrawn object
    "Goal2": (table_of(2.0, robot=ROBOT, goal=(1, 0.305), hazards=(10, 0.18), vases=(10, 0.15)), 1),
    "Push2": (table_of(2.0, robot=ROBOT, goal=GOAL, hazards=(4, 0.4), pillars=(4, 0.3), box=(1, 0.2)), 1),
    "Button1": (table_of(1.5, robot=ROBOT, buttons=BUTTONS, hazards=(4, 0.18), gremlins=(4, 0.4)), None),
    "Button2": (table_of(1.8, robot=ROBOT, buttons=BUTTONS, hazards=(8, 0.18), gremlins=(6, 0.4)), None),
    "Button2 with goal disc": (
        table_of(1.8, robot=ROBOT, buttons=BUTTONS, goal=GOAL, hazards=(8, 0.18), gremlins=(6, 0.4)),
        None,
    ),
}


def time_in_turns(repeats: int, **calls: Callable[[jax.Array], Any]) -> dict[str, float]:
    """Best seconds of each call. Calls take turns after one warm-up call each."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call(jax.random.key(turn)))
            seconds[name].append(time.perf_counter() - start)
    return {name: min(values[1:]) for name, values in seconds.items()}


def measure(table: PlacementTable, redrawn: int | None, num: int, repeats: int) -> dict[str, float]:
    """Time the search for `num` layouts together and one by one, and count the turns of the shared search."""

    def one_by_one(key: jax.Array) -> Any:
        return jax.vmap(lambda key: sample_layout(key, table, redrawn))(jax.random.split(key, num))

    seconds = time_in_turns(
        repeats,
        together=jax.jit(lambda key: sample_layouts(key, table, num, redrawn)),
        one_by_one=jax.jit(one_by_one),
    )
    pool = jax.jit(lambda key: search_layouts(key, table, num, redrawn))(jax.random.key(1))
    return {
        "seconds_together": seconds["together"],
        "seconds_one_by_one": seconds["one_by_one"],
        "one_by_one_over_together": seconds["one_by_one"] / seconds["together"],
        "turns_together": int(pool.num_rounds) * TURNS,
        "attempts_begun_per_world": float(np.asarray(pool.num_begun) / num),
    }


def main(args: Args) -> None:
    """Measure, print, write."""
    result = {
        name: {str(num): measure(table, redrawn, num, args.repeats) for num in args.num}
        for name, (table, redrawn) in TABLES.items()
    }
    columns = Table("layout", "worlds", "together", "one by one", "ratio", "turns", "begun per world")
    for name, rows in result.items():
        for num, row in rows.items():
            columns.add_row(
                name,
                num,
                f"{1000 * row['seconds_together']:.2f} ms",
                f"{1000 * row['seconds_one_by_one']:.2f} ms",
                f"{row['one_by_one_over_together']:.1f}",
                str(row["turns_together"]),
                f"{row['attempts_begun_per_world']:.1f}",
            )
    Console().print(columns)
    if args.json:
        result_file.write(args.json, {"layouts": result})


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
