"""The overview of `python -m mjx_safety`: environments, algorithms, engines, extras and commands."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

COMMANDS = {
    "train": "train an agent, or several side by side",
    "submit": "hand a sweep to SLURM or local processes",
    "evaluate": "evaluate trained agents on fresh layouts",
    "render": "films, pictures, replays for the browser",
    "plot": "compare the curves of trainings",
    "play": "drive a robot with the keyboard",
    "export": "a policy as .npz or .onnx",
    "record": "episodes of policies as a data set",
    "clone": "behaviour cloning on a data set",
    "benchmark": "environment steps per second",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    from mjx_safety.cli import common

    return common.run_command(_main, sys.argv[1:] if argv is None else argv)


def _main(argv: Sequence[str]) -> None:
    import mjx_safety
    from mjx_safety.runs.errors import UsageError

    if argv and argv[0] in COMMANDS:
        raise UsageError(f"commands are modules: python -m mjx_safety.{' '.join(argv)}")
    parser = argparse.ArgumentParser(
        prog="python -m mjx_safety",
        description="List environments, engines, algorithms and extras that are on this machine.",
        epilog=f"Commands are modules with --help of their own: python -m mjx_safety.NAME, of {', '.join(COMMANDS)}.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mjx_safety {mjx_safety.__version__}")
    _, unknown = parser.parse_known_args(argv)
    if unknown:
        raise UsageError(f"{unknown[0]} is unknown; python -m mjx_safety takes only --version, and lists the commands")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # another training may need the GPU's memory
    Console().print(overview())


def overview() -> Group:
    """The whole overview, ready to print."""
    import mjx_safety
    from mjx_safety.cli import installed

    versions = ", ".join(f"{name} {number}" for name, number in installed.versions().items())
    head = Text.assemble((f"mjx_safety {mjx_safety.__version__}", "bold"), f"\n{versions}\n{installed.devices()}")
    parts: dict[str, list[RenderableType]] = {
        "Navigation: Safety<Robot><Task><Level>-v0, such as SafetyPointGoal1-v0": navigation(),
        "Velocity: Safety<Robot>Velocity-<version>, such as SafetyHopperVelocity-v1": [velocity()],
        "More environments": other_environments(),
        "Engines: make(..., physics=NAME), --physics NAME": [engines()],
        "Algorithms: --algo NAME": [algorithms()],
        "Trained policies: load_policy(NAME), such as SafetyPointGoal1-v0/ppo-lag": [policies()],
        "Extras": [extras()],
        "Commands; each has --help": [commands()],
    }
    lines = [line for title, part in parts.items() for line in (Text(f"\n{title}", "bold"), *part)]
    return Group(head, *lines)


def navigation() -> list[RenderableType]:
    """Navigation environments by task and robot."""
    from mjx_safety.cli import installed

    levels = installed.levels()
    robots = list(dict.fromkeys(robot for row in levels.values() for robot in row))
    table = _table("", *robots)
    for task, row in levels.items():
        table.add_row(task, *(" ".join(row.get(robot, ())) for robot in robots))
    return [table]


def velocity() -> Table:
    """Velocity environments by robot."""
    from mjx_safety.cli import installed

    table = _table()
    for robot, versions in installed.versions_of_velocity().items():
        table.add_row(robot, " ".join(versions))
    return table


def other_environments() -> list[RenderableType]:
    """The environments of 2019, those of other packages, and how to use your own."""
    from mjx_safety import registry

    notes = [f"As in 2019: Safexp-<Robot><Task><Level>-v0, {len(registry.ENV_IDS_2019)} of them."]
    if others := registry.other_ids():
        notes.append(f"From other packages: {', '.join(others)}.")
    notes.append("Your own: an EnvConfig or a LocomotionConfig, mjx_safety.register,")
    notes.append("--env package.module:factory.")
    return [Padding(note, (0, 0, 0, 2)) for note in notes]


def engines() -> Table:
    """Engines, and the reasons why one cannot run here."""
    from mjx_safety import registry
    from mjx_safety.cli import installed

    table = _table()
    automatic = registry.resolve_physics("auto")
    for name in registry.ENGINES:
        engine, problem = installed.ENGINES[name], installed.engine_problem(name)
        ready = f"[green]{engine.package} {installed.version_of(engine.package)}[/]"
        default = "; auto takes it here" if name == automatic else ""
        table.add_row(name, f"[yellow]{escape(problem)}[/]" if problem else ready, engine.summary + default)
    return table


def algorithms() -> Table:
    """Algorithms in a few words."""
    from mjx_safety.agents import ALGORITHMS

    table = _table()
    for name, choice in ALGORITHMS.items():
        table.add_row(name, choice.summary)
    return table


def policies() -> Table:
    """The algorithms that have a trained policy here, by environment."""
    from mjx_safety.runs.loading import shipped_policies

    found: dict[str, list[str]] = {}
    for name in shipped_policies():
        env_id, _, algo = name.partition("/")
        found.setdefault(env_id, []).append(algo)
    table = _table()
    for env_id, algos in found.items():
        table.add_row(env_id, " ".join(algos))
    return table


def extras() -> Table | Padding:
    """Extras, and how to install what is missing."""
    from mjx_safety.cli import installed

    table, found = _table(), installed.extras()
    if not found:
        return Padding("unknown: the package is only found here, not installed", (0, 0, 0, 2))
    for name, missing in found.items():
        remedy = f"pip install '{installed.DISTRIBUTION}[{name}]'"
        ready = Text(remedy, "yellow", overflow="fold") if missing else Text("installed", "green")
        table.add_row(name, ready, installed.EXTRAS.get(name, ""))
    return table


def commands() -> Table:
    """The other commands."""
    table = _table()
    for name, what in COMMANDS.items():
        table.add_row(f"python -m mjx_safety.{name}", what)
    return table


def _table(*headings: str) -> Table:
    """Start a table without lines. headings: of the columns, or none."""
    table = Table(box=None, padding=(0, 2, 0, 2), show_header=bool(headings), header_style="dim")
    for heading in headings:
        table.add_column(heading)
    if not headings:
        table.add_column(no_wrap=True)
    return table
