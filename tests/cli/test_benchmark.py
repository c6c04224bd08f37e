"""The benchmark command: rows, files, wrong input."""

import importlib.util
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import mjx_safety
from mjx_safety.cli import benchmark, throughput
from mjx_safety.cli.benchmark import Flags

TINY = ["--num-steps", "2", "--repeats", "2", "--num-envs", "2", "--physics", "mujoco"]


@pytest.mark.thorough
@pytest.mark.parametrize("modes", [["step"], pytest.param(["act", "train"], marks=pytest.mark.slow)])
def test_rows_for_every_mode_and_the_bare_rollout(tmp_path, capsys, modes):
    out = tmp_path / "results" / "speed.json"
    assert benchmark.main([*TINY, "--modes", *modes, "--out", str(out)]) == 0
    assert "env steps/s" in capsys.readouterr().out
    result = json.loads(out.read_text())
    rows = result["rows"]
    assert [(row["engine"], row["mode"], row["num_envs"]) for row in rows] == [
        *(("mujoco", mode, 2) for mode in modes),
        ("mujoco.rollout", "step", 2),
    ]
    for row in rows:
        middle = sorted(row["repeats"])
        assert row["env_steps_per_second"] == pytest.approx(2 * row["num_envs"] / (sum(middle) / 2))
        assert row["mode"] == "train" or row["env_steps_per_second"] > 1.0
    assert rows[0]["state_bytes_per_world"] > 400 and rows[0]["nv"] == 9
    assert result["versions"]["mujoco"] and result["command"].startswith("python -m mjx_safety.benchmark")
    assert out.with_suffix(".png").stat().st_size > 1000


def test_programs_compile_in_processes_of_their_own(tmp_path, capsys):
    out = tmp_path / "speed.json"
    flags = ["--num-steps", "2", "--repeats", "2", "--num-envs", "2", "--physics", "mujoco", "--jobs", "2"]
    assert benchmark.main([*flags, "--no-rollout", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "1 programs first, 2 at a time" in printed and printed.count("env steps/s") == 1
    assert [row["num_envs"] for row in json.loads(out.read_text())["rows"]] == [2]


def test_a_program_that_the_device_refuses_is_told(tmp_path, capsys, monkeypatch):
    def prepare(env, num_envs, mode, num_steps):
        raise jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: no room for {num_envs}\nby a lot")

    monkeypatch.setattr(throughput, "prepare", prepare)
    out = tmp_path / "speed.json"
    flags = ["--num-steps", "2", "--repeats", "2", "--num-envs", "3", "4", "--physics", "mujoco"]
    assert benchmark.main([*flags, "--no-rollout", "--out", str(out)]) == 0
    missing = [f"SafetyPointGoal1-v0 mujoco step {n} worlds: RESOURCE_EXHAUSTED: no room for {n}" for n in (3, 4)]
    assert json.loads(out.read_text())["missing"] == missing
    assert f"Missing: {missing[0]}" in capsys.readouterr().out


def test_a_peer_is_timed_in_its_own_interpreter(tmp_path, capsys):
    """A stand-in for safety-gymnasium, on this interpreter, whose steps take no time."""
    module = tmp_path / "safety_gymnasium.py"
    module.write_text(
        "import types\n"
        "class Env:\n"
        "    action_space = types.SimpleNamespace(sample=lambda: 0)\n"
        "    def reset(self, seed=None): pass\n"
        "    def close(self): pass\n"
        "    def step(self, action): return 0, 0, 0, False, False, {}\n"
        "def make(env_id, **settings): return Env()\n"
        "vector = types.SimpleNamespace(make=make)\n"
    )
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    out = tmp_path / "speed.json"
    flags = Flags(physics=(), num_steps=2, repeats=2, rollout=False, peer_python=python)
    benchmark.measure([flags], out, "this test")
    text = out.read_text()
    assert str(tmp_path) not in text
    assert [row["engine"] for row in json.loads(text)["rows"]] == [
        "safety-gymnasium single",
        "safety-gymnasium sync",
        *["safety-gymnasium async"] * 2,
    ]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--modes", "fly"], "--modes fly is unknown; it must be one of: step, act, train"),
        (["--num-envs", "0"], "--num-envs 0 is too few; it must be at least 1"),
        (["--repeats", "0"], "--repeats is 0; it must be at least 1"),
        (["--jobs", "0"], "--jobs is 0; it must be at least 1"),
        (["--envs", "SafetyPointGoal9-v0"], "unknown environment id 'SafetyPointGoal9-v0' (did you mean Safety"),
        (["--physics", "warp"], "--physics warp cannot be used: physics='warp' needs "),
        (["--peer-python", "/nowhere/python"], "/nowhere/python does not exist"),
    ],
)
def test_wrong_flags_end_with_one_sentence(flags, sentence, capsys):
    assert benchmark.main(flags) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("table", ["cpu", "mjx", "size", "gpu"])
def test_the_tables_of_the_readme_ask_for_what_there_is(table):
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "throughput.py"
    spec = importlib.util.spec_from_file_location("throughput_tables", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    plan = module.plan_of(module.Args(table))
    assert {env for flags in plan for env in flags.envs} >= set(
        module.ids(*module.ENVS[: 1 if table == "size" else None])
    )
    for flags in plan:
        benchmark.check(flags)
    tiny = module.plan_of(module.Args(table, tiny=True))
    assert len(tiny) == len(plan) and all(flags.num_envs == (8,) for flags in tiny)


def test_the_bare_rollout_gets_the_controls_of_the_environment():
    """Humanoid's actuators have a range of 0.4."""
    env = mjx_safety.make("SafetyHumanoidVelocity-v1", physics="mujoco")
    states = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 2))
    actions = np.full((1, 2, env.action_size), 0.5)
    end = throughput.bare_rollout(env, jax.tree.map(np.asarray, states.data), actions, env.config.frameskip)()
    after = jax.jit(jax.vmap(env.step))(states, np.float32(actions[0]))
    nq, nv = env.mj_model.nq, env.mj_model.nv
    np.testing.assert_allclose(end[:, 1 + nq : 1 + nq + nv], after.data.qvel, atol=1e-4)
