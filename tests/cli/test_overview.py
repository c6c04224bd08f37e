"""`python -m mjx_safety`: all that there is, in a few seconds, and why something is not."""

import importlib
import importlib.util
import io
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from rich.console import Console

import mjx_safety
from mjx_safety import registry
from mjx_safety.agents import ALGORITHMS
from mjx_safety.cli import installed, overview
from mjx_safety.world.locomotion.robots import ROBOTS


def shown():
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(overview.overview())
    return console.export_text()


def test_everything_is_listed():
    text = shown()
    for word in (*ALGORITHMS, *registry.ENGINES, *installed.versions().values(), mjx_safety.__version__):
        assert word in text
    for robot in (*registry.ROBOTS, *registry.MORE_ROBOTS, *ROBOTS):
        assert robot.name in text
    for command in overview.COMMANDS:
        assert f"python -m mjx_safety.{command} " in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80


def test_levels_name_every_preset():
    ids = {
        f"Safety{robot}{task}{level}-v0"
        for task, row in installed.levels().items()
        for robot, levels in row.items()
        for level in levels
    }
    velocity = {f"Safety{robot}Velocity-{v}" for robot, row in installed.versions_of_velocity().items() for v in row}
    assert ids == set(mjx_safety.NAVIGATION_IDS) and velocity == set(mjx_safety.VELOCITY_IDS)


def test_environments_of_others_are_listed(monkeypatch):
    monkeypatch.setitem(registry._FACTORIES, "Mine-v0", mjx_safety.EnvConfig)
    plugin = SimpleNamespace(name="Theirs-v0")  # it cannot even be loaded
    monkeypatch.setattr(registry, "entry_points", lambda group: [plugin] if group == "mjx_safety.envs" else [])
    assert registry.other_ids() == ("Mine-v0", "Theirs-v0")
    assert "From other packages: Mine-v0, Theirs-v0." in shown()


def test_every_engine_is_described():
    assert set(registry.ENGINES) <= set(installed.ENGINES)
    assert installed.engine_problem("mujoco") == "" == installed.engine_problem("mjx")


def test_an_engine_that_cannot_run_says_why(monkeypatch):
    def resolve(name):
        if name == "mjx":
            raise ValueError("install mjx-safety[more]")  # brackets are no markup
        return "mujoco"

    monkeypatch.setattr(registry, "resolve_physics", resolve)
    assert installed.engine_problem("mjx") == "install mjx-safety[more]"
    assert "install mjx-safety[more]" in shown()


def test_extras_tell_what_they_lack(monkeypatch):
    there = {"mine": "1.0", "numpy": "2.0", "old": "0.1"}
    needs = {"mine": ["numpy", "old>=1 ; extra == 'a'", "mine[a]; extra == 'all'", "absent>1; extra == 'all'"]}
    monkeypatch.setattr(installed, "version_of", there.get)
    monkeypatch.setattr(installed, "requires", needs.get)
    assert installed.unmet(Requirement("mine[a]")) == ["old"]
    assert installed.unmet(Requirement("mine[all]")) == ["old", "absent"]
    assert installed.unmet(Requirement("numpy>=2")) == []
    assert installed.unmet(Requirement("numpy>=3")) == ["numpy"]


def test_extras_of_this_package():
    found = installed.extras()
    assert set(found) <= set(installed.EXTRAS)
    assert found["gym"] == ([] if importlib.util.find_spec("gymnasium") else ["gymnasium"])


def test_every_command_is_a_module():
    for command in overview.COMMANDS:
        assert callable(importlib.import_module(f"mjx_safety.{command}").main)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["train", "--env", "A"], "commands are modules: python -m mjx_safety.train --env A"),
        (["nonsense"], "nonsense is unknown; python -m mjx_safety takes only --version"),
        (["--verbose"], "--verbose is unknown"),
    ],
)
def test_wrong_words(argv, sentence, capsys):
    assert overview.main(argv) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        overview.main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out == f"mjx_safety {mjx_safety.__version__}\n"


def test_the_overview_takes_a_few_seconds():
    start = os.times()
    done = subprocess.run([sys.executable, "-m", "mjx_safety"], capture_output=True, text=True, check=True)
    assert "SafetyPointGoal1-v0" in done.stdout and done.stderr == ""
    spent = os.times().children_user - start.children_user  # s, whatever else the machine does
    assert spent < 6.0


@pytest.mark.parametrize("command", ["mjx_safety", "mjx_safety.train --help"])
def test_a_reader_that_leaves_early_gets_no_traceback(command):
    """As in `python -m mjx_safety | head -1`."""
    arguments = [sys.executable, "-m", *command.split()]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


@pytest.mark.parametrize("width", [24, 40, 60, 80])
def test_commands_that_install_extras_are_whole(width, monkeypatch):
    monkeypatch.setattr(installed, "extras", lambda: {"launches": ["xla"]})
    monkeypatch.setattr(installed, "EXTRAS", {"launches": ""})
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(overview.extras())
    shown = "".join(console.export_text().split())
    assert f"pipinstall'{installed.DISTRIBUTION}[launches]'" in shown
