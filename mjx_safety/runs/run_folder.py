"""A run folder: config.json, metrics.jsonl, TensorBoard events, checkpoints and the learning curve (host)."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
import secrets
import subprocess
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import jax

from mjx_safety.agents import checkpoint
from mjx_safety.core import files
from mjx_safety.env.vector import BlowUp
from mjx_safety.runs import blow_ups, loggers, training_checks
from mjx_safety.runs.errors import UsageError
from mjx_safety.runs.health import Health
from mjx_safety.runs.training_options import Options, limit_to_draw
from mjx_safety.viz import plots
from mjx_safety.viz.plots import Row

CONFIG, METRICS = "config.json", "metrics.jsonl"
PACKAGES = ("mjx-safety", "jax", "jaxlib", "mujoco", "mujoco-mjx", "warp-lang", "flax", "optax", "numpy")
HISTORY = {"id": str, "machine": dict, "resumed": list, "diverged": str}  # in config.json beside settings, if anything
NEEDS = ("env_steps", "num_rollouts")  # of a row, to continue after it
NEEDS_EPISODES = ("episode_return", "episode_cost", "episode_goals")  # without values until an episode has ended


class RunFolder:
    """Writes the results of one training. Open it with `create` or `reopen`."""

    def __init__(self, path: Path, config: dict[str, Any], rows: list[Row], steps_per_rollout: int):
        self.path: Path = path
        self.config: dict[str, Any] = config
        self.rows: list[Row] = rows
        self.steps_per_rollout: int = steps_per_rollout
        self._seconds = float(rows[-1].get("seconds") or 0.0) if rows else 0.0
        self._loggers = loggers.open_loggers(path, config, int(rows[-1]["env_steps"] or 0) + 1 if rows else 0)
        self._blow_ups = 0  # seen
        self.diverged: str = config.get("diverged", "")  # why the training has diverged; empty if it has not
        self.health = Health()

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def curve(self) -> Path:
        """File of the learning curve."""
        return self.path / "learning_curve.png"

    def record(self, rows: list[dict[str, float]], seconds: float) -> list[Row]:
        """Append one chunk's metrics, all or none. seconds: its wall time. Returns the rows as written.

        The first row of a training that has diverged ends the run: it is the last row, and config.json says why.
        """
        written, reason = [], None
        for index, row in enumerate(rows):
            reason = self.health.look(row)
            if reason is not None:
                rows = [*rows[:index], row | {"diverged": 1.0}]
                break
        for row in rows:
            self._seconds += seconds / len(rows)
            written.append(self._complete(row, seconds / len(rows)))
        files.append(self.path / METRICS, "".join(json.dumps(row, allow_nan=False) + "\n" for row in written))
        for logger in self._loggers:
            logger.add(written)
        self.rows += written
        if reason is not None:
            self.diverged = self.config["diverged"] = reason
            write_config(self.path, self.config)
        return written

    def keep_blow_up(self, blow_up: BlowUp) -> None:
        """Write the newest step whose physics was not finite, if it is new."""
        self._blow_ups = blow_ups.save(self.path, blow_up, self._blow_ups)

    def close(self) -> None:
        """Draw the learning curve and finish the loggers."""
        for logger in self._loggers:
            logger.close()
        if not self.rows:
            return
        run = self.config["run"]
        title = f"{run['algo']} on {run['env']}, seed {run['seed']}"
        plots.plot_learning_curve(self.rows, limit_to_draw(run), self.curve, title)

    def _complete(self, row: dict[str, float], seconds: float) -> Row:
        """Add times. Missing and non-finite values become None."""
        known: Row = {name: value if math.isfinite(value) else None for name, value in row.items()}
        if not row["has_completed"]:
            known |= dict.fromkeys(NEEDS_EPISODES)
        if not row.get("limit_acts", 1.0):
            known |= dict.fromkeys(name for name in row if name.startswith("cost_cvar"))
        speed = self.steps_per_rollout / seconds
        return {"env_steps": row["env_steps"], "seconds": self._seconds, "steps_per_second": speed, **known}


def create(path: Path, config: dict[str, Any], steps_per_rollout: int) -> RunFolder:
    """Start a new run folder. The caller must check that it holds no run."""
    path.mkdir(parents=True, exist_ok=True)
    (path / METRICS).unlink(missing_ok=True)  # of a run that ended before its first checkpoint
    checkpoint.drop_after(path / "checkpoints", -1)  # of a group that ended before all its members had one
    config = config | {"id": secrets.token_hex(8)}
    write_config(path, config)
    return RunFolder(path, config, [], steps_per_rollout)


def reopen(path: Path, config: dict[str, Any], steps_per_rollout: int, num_rollouts: int) -> RunFolder:
    """Continue a run folder from a checkpoint. Drops later rows and checkpoints; refuses damaged rows.

    A member of a group that has diverged does not go on, so it keeps all of them.
    """
    check_rows(path)
    if config.get("diverged"):
        write_config(path, config)
        return RunFolder(path, config, read_rows(path), steps_per_rollout)
    rows = [row for row in read_rows(path) if (row["num_rollouts"] or 0) <= num_rollouts]
    files.write(path / METRICS, "".join(json.dumps(row) + "\n" for row in rows))
    write_config(path, config)
    checkpoint.drop_after(path / "checkpoints", num_rollouts)
    return RunFolder(path, config, rows, steps_per_rollout)


def holds_run(path: Path) -> bool:
    """Return whether a folder is a run folder."""
    return (path / CONFIG).exists()


def check_free(path: Path, flag: str) -> None:
    """Refuse a folder with results of a run that lost its config.json, which a new run would delete."""
    left = [path / METRICS, *checkpoint.found(path / "checkpoints")]
    there = next((file for file in left if file.exists()), None)
    if not holds_run(path) and there is not None:
        raise UsageError(
            f"{flag} {path} has {there.relative_to(path)} of a run but no config.json; bring that file back to "
            "continue the run, or choose another folder"
        )


def why_diverged(path: Path) -> str:
    """Return why a run has diverged; empty if it has not."""
    return str(read_config(path).get("diverged") or "")


def runs_in(folder: Path) -> list[Path]:
    """Return the run folders inside a folder."""
    return sorted(path for path in folder.glob("*") if holds_run(path))


def write_config(path: Path, config: dict[str, Any]) -> None:
    """Write config.json of a run."""
    files.write(path / CONFIG, json.dumps(config, indent=2, default=str) + "\n")


def read_config(path: Path) -> dict[str, Any]:
    """Read config.json of a run. Raises UsageError if it is not a mapping in JSON, or its history has wrong types."""
    config = read_json(path / CONFIG)
    for name, kind in HISTORY.items():
        if not isinstance(config.get(name, kind()), kind):
            its = type(config[name]).__name__
            raise UsageError(f"{path / CONFIG} has {name} of type {its}; it must be of type {kind.__name__}")
    return config


def read_json(file: Path) -> dict[str, Any]:
    """Read a mapping. Raises UsageError if the file does not hold one."""
    try:
        config = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise UsageError(f"{file} cannot be read: it holds a {type(config).__name__}, not a mapping")
    return config


def read_options(file: Path) -> Options:
    """Read the options in a config.json or group.json, or raise a UsageError that says what does not fit."""
    config = read_json(file)
    config.pop("members", None)  # of a group
    try:
        options = Options.from_config(config)
        training_checks.check(options)
        return options
    except (UsageError, KeyError, TypeError, ValueError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise UsageError(f"{file} does not fit this version of mjx_safety: {reason}") from error


def check_trust(env_id: str, path: Path | str, trust: bool) -> None:
    """Refuse the environment of a run or a policy if it is code, package.module:factory, unless the user trusts it."""
    if ":" in env_id and not trust:
        raise UsageError(
            f"{path} asks for the environment {env_id}, which is code of a module; "
            "allow it with --trust (load_policy: trust=True) if you know where it is from"
        )


def trust_flag(env_id: str) -> str:
    """Return " --trust" if a command about a run of this environment needs it, else an empty text."""
    return " --trust" if ":" in env_id else ""


def read_rows(path: Path) -> list[Row]:
    """Read metrics.jsonl of a run, without its `damaged_lines`."""
    return [row for _, row in _lines(path) if row is not None]


def damaged_lines(path: Path) -> list[int]:
    """Numbers, from 1 on, of broken lines in metrics.jsonl, without the last line, which a crash may cut short."""
    return [number for number, row in _lines(path)[:-1] if row is None]


def check_rows(path: Path) -> None:
    """Refuse to write metrics.jsonl anew if that loses more than a last line that a crash cut short."""
    lines = _lines(path)
    for number, row in lines:
        missing = [] if row is None else [name for name in NEEDS if row.get(name) is None]
        if missing or (row is None and number < lines[-1][0]):
            reason = f"which lacks {', '.join(missing)}" if missing else "which is no row in JSON"
            raise UsageError(
                f"{path / METRICS} has a damaged line {number}, {reason}; mend or delete that line, and the training "
                "can go on"
            )


def _lines(path: Path) -> list[tuple[int, Row | None]]:
    """The lines of metrics.jsonl that are not blank, with their numbers; None for one that is not a row."""
    file = path / METRICS
    text = file.read_text(errors="replace") if file.exists() else ""
    return [(number, _row(line)) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _row(line: str) -> Row | None:
    """A mapping from names to finite numbers or null, with env_steps; None for anything else."""
    try:
        row = json.loads(line)
        is_row = isinstance(row, dict) and row.get("env_steps") is not None
        return row if is_row and all(value is None or math.isfinite(value) for value in row.values()) else None
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None


def mean_row(rows: list[Row]) -> Row:
    """Mean over rows of several trainings, per metric; None if one has no value yet."""
    if len(rows) == 1:
        return rows[0]
    mean: Row = {}
    for name in rows[0]:
        values = [value for row in rows if (value := row[name]) is not None]
        mean[name] = sum(values) / len(values) if len(values) == len(rows) else None
    return mean


def default_path(env: str, algo: str, seed: int) -> Path:
    """Return the path of a new run folder."""
    name = env.replace(":", "-").replace("/", "-")
    return Path("runs") / f"{name}-{algo}-seed{seed}-{datetime.now():%Y%m%d-%H%M%S}"


def describe_machine() -> dict[str, Any]:
    """Return everything that a number depends on: versions, device, commit, command, date."""
    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "device": {"kind": jax.devices()[0].device_kind, "count": jax.device_count(), "host": platform.platform()},
        **describe_checkout(),
        "command": [sys.executable, *sys.argv],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def describe_checkout() -> dict[str, Any]:
    """Return the commit of this package's checkout, and `edited` if the package has changes that are in no commit.

    The commit is None if the package is installed, even into a folder of another repository.
    """
    here, git = Path(__file__), partial(subprocess.run, capture_output=True, text=True, check=True)
    folder = ["git", "-C", str(here.parent)]
    try:
        git([*folder, "ls-files", "--error-unmatch", here.name])
        commit = git([*folder, "rev-parse", "HEAD"]).stdout.strip()
        changes = git([*folder, "status", "--porcelain", "--", ".."]).stdout
    except (OSError, subprocess.CalledProcessError):
        return {"git_commit": None}
    return {"git_commit": commit} | ({"edited": True} if changes else {})
