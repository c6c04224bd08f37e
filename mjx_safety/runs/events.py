"""The rows of metrics as TensorBoard events (host)."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


class Events:
    """Writes events as they come, without a thread that a full disk could leave waiting.

    Events are a view of metrics.jsonl. If the disk refuses them, they end, and the metrics tell of it.
    """

    def __init__(self, folder: Path, purge_step: int | None):
        """purge_step: TensorBoard forgets events of this step and later ones, which another process wrote."""
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.record_writer import RecordWriter

        folder.mkdir(exist_ok=True)
        now = time.time()
        self._file = RecordWriter(str(folder / f"events.out.tfevents.{int(now)}.{platform.node()}"))
        first = [Event(wall_time=now, file_version="brain.Event:2")]
        if purge_step is not None:
            first.append(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))
        for event in first:
            self._file.write(event.SerializeToString())

    def add(self, rows: Sequence[Mapping[str, float | None]]) -> None:
        """Write rows, at their `env_steps`, without the values that are None."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import Summary

        with contextlib.suppress(OSError):
            for row in rows:
                values = [
                    Summary.Value(tag=name, simple_value=value) for name, value in row.items() if value is not None
                ]
                step = int(row["env_steps"] or 0)
                event = Event(wall_time=time.time(), step=step, summary=Summary(value=values))
                self._file.write(event.SerializeToString())
            self._file.flush()

    def close(self) -> None:
        """Finish the file."""
        with contextlib.suppress(OSError):
            self._file.close()
