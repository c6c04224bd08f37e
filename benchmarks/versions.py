"""Runs the tests with the oldest and the newest versions that pyproject.toml admits, on every Python that is here.

    python benchmarks/versions.py --json benchmarks/results/versions.json
    python benchmarks/versions.py --tests tests/agents tests/cli/test_faults.py --pythons 3.11

Each case gets an environment of its own in build/versions, which uv fills (pip install uv). "oldest" takes the lower
bounds of our own requirements and what fits to them, "newest" the newest of all. The next run uses them again. A case
that fails is in the result, with the names of the tests. The result keeps the cases that this call does not run, so
Pythons of several machines come together in one file.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import result_file
import tyro

from mjx_safety.runs.run_folder import describe_machine

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = "gym,brax,viz,warp,onnx,data"
TOOLS = ["pytest>=8", "pytest-xdist>=3.6", "chex>=0.1.91", "scipy>=1.14", "hypothesis>=6.100"]  # that the tests import
RESOLUTIONS = {"oldest": "lowest-direct", "newest": "highest"}
SHOWN = ("jax", "jaxlib", "mujoco", "mujoco-mjx", "warp-lang", "flax", "optax", "numpy", "gymnasium", "brax", "tyro")
KINDS = "not slow and not gpu"
WITHOUT_DOCS = ("--ignore=tests/docs", "--ignore=tests/test_wheel.py")  # they need the tools that build the site


@dataclasses.dataclass
class Args:
    """Which cases, and which tests."""

    pythons: tuple[str, ...] = ("3.11", "3.12", "3.13")
    """Versions of Python. Those that are not installed are named as missing."""
    resolutions: tuple[str, ...] = tuple(RESOLUTIONS)
    """oldest, newest."""
    tests: tuple[str, ...] = ("tests",)
    """Files and folders of tests."""
    workers: int = 2
    """Processes of tests side by side."""
    limit: float = 7200.0
    """Seconds that the tests of a case may take."""
    json: Path | None = None
    """Also write the result to this file."""


def environment(python: str, resolution: str) -> tuple[Path, str]:
    """Make or update the environment of a case. Returns its Python and, if that failed, why."""
    folder = ROOT / "build" / "versions" / f"{python}-{resolution}"
    program = folder / "bin" / "python"
    if not program.exists():
        made = call("uv", "venv", "--quiet", "--python", python, str(folder))
        if made.returncode:
            return program, last_line(made.stderr)
    wanted = ["--editable", f"{ROOT}[{EXTRAS}]", *TOOLS]
    filled = call(
        "uv", "pip", "install", "--quiet", "--python", str(program), "--resolution", RESOLUTIONS[resolution], *wanted
    )
    return program, last_line(filled.stderr) if filled.returncode else ""


def test(python: str, resolution: str, args: Args) -> dict[str, Any]:
    """Run the tests of one case."""
    case: dict[str, Any] = {"python": python, "resolution": resolution, "tests": list(args.tests), **origin()}
    program, problem = environment(python, resolution)
    if problem:
        return case | {"problem": problem}
    listed = json.loads(call("uv", "pip", "list", "--quiet", "--python", str(program), "--format", "json").stdout)
    found = {package["name"]: package["version"] for package in listed}
    case["versions"] = {name: found[name] for name in SHOWN if name in found}
    report = program.parents[1] / "report.xml"
    report.unlink(missing_ok=True)
    begun = time.monotonic()
    parallel = ("-n", str(args.workers), "--dist", "loadfile")
    chosen = ("-m", KINDS, *WITHOUT_DOCS, *args.tests)
    command = [str(program), "-m", "pytest", "-q", *parallel, f"--junitxml={report}", *chosen]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=args.limit)
    except subprocess.TimeoutExpired:
        return case | {"problem": f"the tests took more than {args.limit:.0f} s"}
    case["seconds"] = round(time.monotonic() - begun)
    if not report.exists():
        return case | {"problem": last_line(done.stdout + done.stderr)}
    counted = counts(report)
    if done.returncode not in (0, 1) or not counted["passed"] + len(counted["failed"]):  # 1: some tests failed
        return case | {"problem": f"pytest ended with status {done.returncode}: {last_line(done.stdout + done.stderr)}"}
    return case | counted


def origin() -> dict[str, Any]:
    """Start, commit, command and machine of a case."""
    return {**result_file.origin(), "device": describe_machine()["device"]}


def counts(report: Path) -> dict[str, Any]:
    """Read a report of pytest: numbers of tests, and the names of those that failed."""
    suite = next(ElementTree.parse(report).getroot().iter("testsuite"))
    number = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    failed = [
        f"{each.get('classname')}.{each.get('name')}"
        for each in suite.iter("testcase")
        if each.find("failure") is not None or each.find("error") is not None
    ]
    passed = number["tests"] - number["failures"] - number["errors"] - number["skipped"]
    return {"passed": passed, "failed": failed, "skipped": number["skipped"]}


def call(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a program and keep what it says."""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def last_line(text: str) -> str:
    """The last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no message")


def main(args: Args) -> None:
    """Run all cases, one after the other, and write each as soon as it is done."""
    if shutil.which("uv") is None:
        sys.exit("uv is missing: pip install uv")
    kept = result_file.read(args.json).get("cases", []) if args.json else []
    cases = {(case["python"], case["resolution"]): case for case in kept}
    failed = False
    for key in itertools.product(args.pythons, args.resolutions):
        cases[key] = test(*key, args)
        failed |= bool(cases[key].get("problem") or cases[key].get("failed"))
        print(json.dumps(cases[key]), flush=True)
        if args.json:
            result_file.write(args.json, {"cases": [cases[each] for each in sorted(cases)]})
    sys.exit(failed)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
