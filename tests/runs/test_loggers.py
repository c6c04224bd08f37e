"""The metrics of a training also reach the loggers that the user asks for, at the same steps."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from agents import probe_envs

from mjx_safety.cli import common, train
from mjx_safety.runs import environments, loggers, run_folder

FLAGS = ["--num-envs", "8", "--unroll-length", "8", "--num-minibatches", "4", "--hidden-sizes", "8"]
FLAGS += ["--no-compilation-cache", "--physics", "mujoco"]
CONFIG = {
    "run": {"env": "a", "loggers": ["wandb", "mlflow"]},
    "train": {"discount": 0.9},
    "machine": {"started": "now"},
}


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setattr(environments, "build_env", lambda env_id, physics, **_: probe_envs.Random())
    monkeypatch.setattr(common, "set_up_jax", lambda compilation_cache: None)


class Recording(list):
    """A logger."""

    def __init__(self, path, config):
        super().__init__()
        self.name, self.closed = path.name, False

    def add(self, rows):
        self.extend(dict(row) for row in rows)

    def close(self):
        self.closed = True


def test_every_row_reaches_a_logger_of_every_member(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setitem(loggers.MORE, "wandb", lambda *args: opened.append(Recording(*args)) or opened[-1])
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: name)
    flags = [*FLAGS, "--total-steps", "256", "--num-seeds", "2", "--loggers", "wandb"]
    assert train.main([*flags, "--out", str(tmp_path / "group")]) == 0
    assert [logger.name for logger in opened] == ["seed0", "seed1"] and all(logger.closed for logger in opened)
    for logger in opened:
        assert logger == run_folder.read_rows(tmp_path / "group" / logger.name)
        assert [row["env_steps"] for row in logger] == [64, 128, 192, 256]


def test_two_trainings_of_one_name_and_second_differ_and_one_that_goes_on_does_not(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setitem(loggers.MORE, "wandb", lambda *args: seen.append(loggers._identity(*args)) or Recording(*args))
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(run_folder, "describe_machine", lambda: {"started": "now", "versions": {}})
    flags = [*FLAGS, "--total-steps", "128", "--loggers", "wandb"]
    for folder in ("a/run", "b/run"):
        assert train.main([*flags, "--out", str(tmp_path / folder)]) == 0
    assert train.main(["--resume", str(tmp_path / "b/run"), "--total-steps", "256"]) == 0
    assert seen[0] != seen[1] == seen[2]


def test_a_missing_package_is_told_before_anything_compiles(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: None)
    assert train.main([*FLAGS, "--loggers", "mlflow", "--out", str(tmp_path / "run")]) == 2
    assert "needs the package mlflow: pip install 'mjx-safety[mlflow]'" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


@pytest.fixture
def libraries(monkeypatch):
    """Stand-ins for both libraries that note their calls. The slow test below uses the libraries themselves."""
    calls = []

    def note(name):
        return lambda *args, **kwargs: calls.append((name, args, kwargs))

    run = SimpleNamespace(log=note("log"), finish=note("finish"))
    wandb = SimpleNamespace(
        Settings=lambda: SimpleNamespace(project=None),
        init=lambda **kwargs: calls.append(("init", (), kwargs)) or run,
    )
    client = SimpleNamespace(
        get_experiment_by_name=lambda name: None,
        create_experiment=lambda name: "7",
        search_runs=lambda ids, text: [],
        create_run=lambda experiment, tags: SimpleNamespace(info=SimpleNamespace(run_id=tags["mlflow.runName"])),
        **{name: note(name) for name in ("log_param", "log_batch", "set_terminated", "update_run")},
    )
    metric = lambda *args: args  # noqa: E731
    mlflow = SimpleNamespace(MlflowClient=lambda: client, entities=SimpleNamespace(Metric=metric))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    return calls, client


ROWS = [
    {"env_steps": 64, "seconds": 0.5, "episode_cost": None, "kl": 0.1},
    {"env_steps": 128, "seconds": 1.0, "kl": 0.2},
]


def test_what_the_libraries_are_given(tmp_path, libraries):
    calls, client = libraries
    opened = loggers.open_loggers(tmp_path / "run", CONFIG, 0)
    for logger in opened:
        logger.add(ROWS)
        logger.close()
    named = {name: (args, kwargs) for name, args, kwargs in calls}
    assert named["init"][1]["config"] == CONFIG and named["init"][1]["name"] == "run"
    logged = [(args[0], kwargs["step"]) for name, args, kwargs in calls if name == "log"]
    assert logged == [
        ({"env_steps": 64, "seconds": 0.5, "kl": 0.1}, 64),
        ({"env_steps": 128, "seconds": 1.0, "kl": 0.2}, 128),
    ]
    batch = named["log_batch"][1]["metrics"]
    assert ("kl", 0.1, 500, 64) in batch and ("kl", 0.2, 1000, 128) in batch
    assert not [entry for entry in batch if entry[0] == "episode_cost"]
    params = {args[1]: args[2] for name, args, _ in calls if name == "log_param"}
    assert params["train.discount"] == 0.9 and "machine.started" not in params
    assert named["set_terminated"][0] == ("run",) and "finish" in named

    identity = named["init"][1]["id"]
    calls.clear()
    client.search_runs = lambda ids, text: [SimpleNamespace(info=SimpleNamespace(run_id="old"))] * (identity in text)
    for logger in loggers.open_loggers(tmp_path / "run", CONFIG, 129):  # the same training, continued
        logger.close()
    named = {name: (args, kwargs) for name, args, kwargs in calls}
    assert named["init"][1]["id"] == identity and named["set_terminated"][0] == ("old",)
    assert "log_param" not in named


REAL = """
import json, os, sys
from pathlib import Path
from mjx_safety.runs import loggers

path, config, rows = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
for part in (rows[:1], rows[1:]):           # stopped, and continued
    for logger in loggers.open_loggers(path, config, 0):
        logger.add(part)
        logger.close()
import mlflow
client = mlflow.MlflowClient()
run, = client.search_runs([client.get_experiment_by_name("mjx-safety").experiment_id])
print("metrics", [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "kl")], run.data.params)
print("status", run.info.status, "wandb", len(list(path.glob("wandb/offline-run-*/*.wandb"))))
"""


@pytest.mark.slow
def test_the_libraries_themselves_take_it(tmp_path):
    """They are installed into a folder of their own, and work offline."""
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--target",
        tmp_path / "lib",
        "wandb",
        "mlflow-skinny",
    ]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"wandb and mlflow cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    (tmp_path / "run").mkdir()
    names = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(tmp_path / "lib")]), "WANDB_MODE": "offline"}
    names |= {"MLFLOW_TRACKING_URI": f"file://{tmp_path / 'mlruns'}", "MLFLOW_ALLOW_FILE_STORE": "true"}
    command = [sys.executable, "-c", REAL, str(tmp_path / "run"), json.dumps(CONFIG), json.dumps(ROWS)]
    done = subprocess.run(command, env=names, capture_output=True, text=True, cwd=tmp_path)
    assert "metrics [(64, 0.1), (128, 0.2)]" in done.stdout, done.stdout + done.stderr[-3000:]
    assert "'train.discount': '0.9'" in done.stdout
    assert "status FINISHED wandb 2" in done.stdout
