"""Every script of benchmarks/ runs at its smallest size. What it measures there means nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from mjx_safety import evaluate, train

ROOT = Path(__file__).resolve().parents[2]
POINT = "SafetyPointGoal1-v0"
SMALLEST = {
    "agreement": [
        "--envs",
        POINT,
        "--engines",
        "mujoco",
        "mjx",
        "--num-episodes",
        "2",
        "--num-steps",
        "10",
        "--chunk",
        "2",
    ],
    "campaign": ["--list"],
    "engines": ["--envs", POINT, "--largest", "--num-envs", "4", "--num-steps", "2", "--repeats", "1", "--no-mjx"],
    "gymnasium_overhead": ["--num-envs", "2", "--num-steps", "2", "--repeats", "1"],
    "kills": ["--num-kills", "1"],
    "layouts": ["--num", "2", "--repeats", "1"],
    "line_search": ["--envs", POINT, "--num-envs", "2", "--repeats", "1"],
    "long_run": ["--num-steps", "2048", "--num-envs", "2", "--physics", "mujoco"],
    "parity": ["--envs", "PointGoal0", "--engines", "mujoco"],
    "recording": ["--num-envs", "2", "--repeats", "1"],
    "resting": ["--robots", "Point", "--engines", "mujoco", "--num-steps", "5", "--num-envs", "1"],
    "soak": ["--envs", POINT, "--num-steps", "64", "--num-envs", "2"],
    "spread": [],
    "throughput": ["cpu", "--tiny"],
    "training": ["--algos", "ppo-lag", "--num-envs", "4", "--repeats", "1"],
    "tune": [
        "--envs",
        "PointGoal1",
        "--candidates",
        "num-envs=4,unroll-length=8",
        "--num-seeds",
        "2",
        "--total-steps",
        "64",
        "--log",
        "tune.json",
    ],
    "velocity_agreement": ["--robots", "Swimmer", "--num-episodes", "2", "--num-steps", "5"],
    "velocity_throughput": [
        "--robots",
        "Swimmer",
        "--num-envs",
        "4",
        "--peers",
        "1",
        "--seconds",
        "0.1",
        "--repeats",
        "1",
    ],
}
OF_A_RUN = {"policies": ["--out", "policies"], "randomize": ["--words", "none"]}  # the run is their first argument
ELSEWHERE = {  # script: why it is not run here
    "fast_scenes": "it compiles `mjx` without its shortcuts, for ten minutes and more",
    "launches": "test_launches",
    "leaderboard": "`campaign` calls it",
    "learning": "`campaign` calls it",
    "scaling": "it trains for minutes",
    "versions": "it builds whole environments",
}
PARTS = {"contacts", "gaits", "programs", "result_file", "velocity_parity"}  # modules that the scripts import


def call(name, flags, folder):
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *flags]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()


def test_no_script_is_forgotten():
    scripts = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert scripts == set(SMALLEST) | set(OF_A_RUN) | set(ELSEWHERE) | PARTS


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_a_benchmark_runs_at_its_smallest_size(name, tmp_path):
    if name == "velocity_throughput":
        pytest.importorskip("imageio", reason="needs gymnasium[mujoco]")
    call(name, [*SMALLEST[name], *(["--out", str(tmp_path)] if name == "throughput" else [])], tmp_path)


@pytest.mark.slow
def test_what_takes_a_run_runs(tmp_path):
    sizes = ["--num-envs", "4", "--unroll-length", "8", "--total-steps", "64", "--num-minibatches", "2"]
    assert train.main(["--physics", "mujoco", *sizes, "--out", str(tmp_path / "runs" / "one")]) == 0
    assert evaluate.main([str(tmp_path / "runs" / "one"), "--episodes", "2"]) == 0
    call("policies", ["runs", *OF_A_RUN["policies"]], tmp_path)
    call("randomize", ["runs/one", *OF_A_RUN["randomize"]], tmp_path)
