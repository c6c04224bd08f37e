"""Where the metrics of a training go beside metrics.jsonl: TensorBoard always, others by `--loggers` (host)."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from mjx_safety.runs.errors import UsageError
from mjx_safety.viz.plots import Row

PROJECT = "mjx-safety"  # name of the project or experiment, where the user's environment names none
MOST_METRICS = 1000  # that MLflow takes in one call


class Logger(Protocol):
    """Takes the metrics of one training."""

    def add(self, rows: Sequence[Row]) -> None:
        """Take the rows of some iterations, in order."""
        ...

    def close(self) -> None:
        """Finish."""
        ...


class TensorBoard:
    """Writes event files as rows come, without a thread that a full disk could leave waiting.

    Events are a view of metrics.jsonl. If the disk refuses them, they are lost, and writing metrics.jsonl reports the
    error.
    """

    def __init__(self, path: Path, first_step: int):
        """first_step: events from this step on, of a run that is continued, are dropped."""
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.record_writer import RecordWriter

        folder, now = path / "tensorboard", time.time()
        folder.mkdir(parents=True, exist_ok=True)
        self._file = RecordWriter(str(folder / f"events.out.tfevents.{int(now)}.{platform.node()}"))
        first = [Event(wall_time=now, file_version="brain.Event:2")]
        if first_step:
            first.append(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))
        for event in first:
            self._file.write(event.SerializeToString())

    def add(self, rows: Sequence[Row]) -> None:
        """Write the rows at once."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import Summary

        with contextlib.suppress(OSError):
            for row in rows:
                values = [Summary.Value(tag=name, simple_value=value) for name, value in _known(row).items()]
                event = Event(wall_time=time.time(), step=_step(row), summary=Summary(value=values))
                self._file.write(event.SerializeToString())
            self._file.flush()

    def close(self) -> None:
        """Finish the event file."""
        with contextlib.suppress(OSError):
            self._file.close()


class WandB:
    """Sends metrics to Weights & Biases, or with WANDB_MODE=offline writes them into the run folder."""

    def __init__(self, path: Path, config: Mapping[str, Any]):
        import wandb

        name, identity = path.name, _identity(path, config)
        settings = {"id": identity, "resume": "allow", "reinit": "create_new"}
        project = wandb.Settings().project or PROJECT
        self._run = wandb.init(project=project, name=name, dir=str(path), config=dict(config), **settings)

    def add(self, rows: Sequence[Row]) -> None:
        """Log each row at its environment steps."""
        for row in rows:
            self._run.log(_known(row), step=_step(row))

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


class MLflow:
    """Logs to MLflow's tracking server or store, which MLFLOW_TRACKING_URI names."""

    def __init__(self, path: Path, config: Mapping[str, Any]):
        import mlflow

        self._entities = mlflow.entities
        self._client = mlflow.MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if found is None else found.experiment_id
        identity = _identity(path, config)
        before = self._client.search_runs([experiment], f"tags.identity = '{identity}'")
        if before:
            self._id = before[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            return
        run = self._client.create_run(experiment, tags={"mlflow.runName": path.name, "identity": identity})
        self._id = run.info.run_id
        for part, values in config.items():
            for key, value in values.items() if isinstance(values, dict) and part != "machine" else ():
                self._client.log_param(self._id, f"{part}.{key}", value)

    def add(self, rows: Sequence[Row]) -> None:
        """Log each row at its environment steps."""
        metrics = [
            self._entities.Metric(name, value, int(1000 * (row["seconds"] or 0.0)), _step(row))
            for row in rows
            for name, value in _known(row).items()
        ]
        for start in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(self._id, metrics=metrics[start : start + MOST_METRICS])

    def close(self) -> None:
        """Finish the run."""
        self._client.set_terminated(self._id)


MORE: dict[str, Callable[[Path, Mapping[str, Any]], Logger]] = {"wandb": WandB, "mlflow": MLflow}


def check(names: Sequence[str]) -> None:
    """Raise UsageError for a logger whose package is missing."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"--loggers {name} needs the package {name}: pip install 'mjx-safety[{name}]'")


def open_loggers(path: Path, config: Mapping[str, Any], first_step: int) -> list[Logger]:
    """Open TensorBoard and the loggers that the config of a training names. first_step: of a continued run, else 0."""
    return [TensorBoard(path, first_step), *(MORE[name](path, config) for name in config["run"].get("loggers", ()))]


def _identity(path: Path, config: Mapping[str, Any]) -> str:
    """The same text for all parts of a training that is stopped and continued, and another for any other training."""
    started = config.get("machine", {}).get("started", "")
    return config.get("id") or hashlib.sha256(f"{path.name} {started}".encode()).hexdigest()[:16]  # of older versions


def _known(row: Row) -> dict[str, float]:
    return {name: value for name, value in row.items() if value is not None}


def _step(row: Row) -> int:
    return int(row["env_steps"] or 0)
