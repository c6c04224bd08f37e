"""Files are whole whoever writes them, and JSON is JSON."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from mjx_safety.core import files


def test_two_that_write_one_file_at_once_do_not_collide(tmp_path, monkeypatch):
    """The second one writes while the first one waits for the disk."""
    file, fsync, others = tmp_path / "file", os.fsync, ["theirs"]

    def slow(handle):
        while others:
            files.write(file, others.pop())
        fsync(handle)

    monkeypatch.setattr(os, "fsync", slow)
    files.write(file, "mine")
    assert file.read_text() == "mine" and [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_killed_processes_left_behind_is_removed_once_it_is_old(tmp_path):
    for name, age in ((".file.7-ab.new", 7200.0), (".file.new", 7200.0), (".file.8-cd.new", 5.0)):
        (tmp_path / name).write_text("half")
        then = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (then, then))
    files.write(tmp_path / "file", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".file.8-cd.new", "file"]


def test_a_folder_that_refuses_everything_names_the_file(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(30, "Read-only file system", "a temporary file")

    for name in ("open", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    with pytest.raises(OSError, match="Read-only") as caught:
        files.write(tmp_path / "file", "text")
    assert caught.value.filename == str(tmp_path / "file")


def test_numbers_of_numpy_stay_numbers():
    tree = {"a": np.float32(1.5), "b": np.int64(3), "c": np.float64("inf"), "d": np.bool_(True)}
    assert files.with_numbers(json.loads(files.to_json(tree))) == {"a": 1.5, "b": 3, "c": np.inf, "d": True}
