"""Lists what this machine has: environments, engines, algorithms, extras, versions (host, compiles nothing)."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from typing import NamedTuple

import jax
from packaging.requirements import Requirement

from mjx_safety import registry

DISTRIBUTION = "mjx-safety"
PACKAGES = ("jax", "mujoco", "mujoco-mjx")  # packages whose versions decide how a simulation runs


class Engine(NamedTuple):
    """An engine in a few words."""

    summary: str
    package: str  # the package whose version counts


ENGINES = {
    "mjx": Engine("MJX-JAX, any device", "mujoco-mjx"),
    "warp": Engine("MJX-Warp, NVIDIA GPUs", "warp-lang"),
    "mujoco": Engine("C engine, all CPU cores", "mujoco"),
}

EXTRAS = {
    "cuda": "JAX for NVIDIA GPUs",
    "launches": "JAX's compiler for GPUs, without a GPU",
    "warp": "MJX-Warp",
    "gym": "Gymnasium, safety-gymnasium",
    "brax": "Brax, Playground",
    "viz": "films as .mp4",
    "onnx": "policies as .onnx files",
    "data": "data sets: HDF5, Minari",
    "cluster": "sweeps on SLURM",
    "wandb": "logs to Weights & Biases",
    "mlflow": "logs to MLflow",
    "docs": "the documentation's pages",
    "release": "building and checking a release",
    "dev": "tests, linters; most of the above",
}


def engine_problem(name: str) -> str:
    """Return why an engine cannot run on this machine, or an empty text."""
    try:
        registry.resolve_physics(name)
    except ValueError as error:
        return str(error)
    return ""


def levels() -> dict[str, dict[str, list[str]]]:
    """Levels of the navigation environments, by task and robot."""
    robots = "|".join(robot.name for robot in (*registry.ROBOTS, *registry.MORE_ROBOTS))
    table: dict[str, dict[str, list[str]]] = {}
    for env_id in registry.NAVIGATION_IDS:
        robot, task, level = re.fullmatch(rf"Safety({robots})(.+)(\d+)-v\d+", env_id).groups()  # pyright: ignore[reportOptionalMemberAccess]
        table.setdefault(task, {}).setdefault(robot, []).append(level)
    return table


def versions_of_velocity() -> dict[str, list[str]]:
    """Versions of the velocity environments, by robot."""
    table: dict[str, list[str]] = {}
    for env_id in registry.VELOCITY_IDS:
        robot, _, number = env_id.removeprefix("Safety").partition("Velocity-")
        table.setdefault(robot, []).append(number)
    return table


def version_of(package: str) -> str | None:
    """Version of an installed package, else None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Versions of Python and of the simulation packages."""
    return {"python": platform.python_version()} | {name: version_of(name) or "missing" for name in PACKAGES}


def devices() -> str:
    """Return the devices of JAX and the number of CPU cores, as text."""
    kinds = [device.device_kind for device in jax.devices()]
    listed = ", ".join(f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{listed} (JAX), {cores} CPU cores"


def extras() -> dict[str, list[str]]:
    """Missing packages of each extra on this machine. Empty if mjx_safety itself is not installed."""
    try:
        names = metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    except PackageNotFoundError:
        return {}
    return {name: unmet(Requirement(f"{DISTRIBUTION}[{name}]")) for name in names}


def unmet(requirement: Requirement) -> list[str]:
    """Return what a requirement, and the extras that it names, lack: missing or too old packages."""
    found = version_of(requirement.name)
    if found is None or not requirement.specifier.contains(found, prereleases=True):
        return [requirement.name]
    missing: list[str] = []
    for extra in sorted(requirement.extras):
        for line in requires(requirement.name) or []:
            inner = Requirement(line)
            is_of_extra = inner.marker is not None and "extra" in str(inner.marker)
            if is_of_extra and inner.marker.evaluate({"extra": extra}):  # pyright: ignore[reportOptionalMemberAccess]
                missing += unmet(inner)
    return list(dict.fromkeys(missing))
