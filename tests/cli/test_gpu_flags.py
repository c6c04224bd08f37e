"""The flags that make one CUDA graph of an env step: set by the command line only, and only where JAX has CUDA."""

import pytest

from mjx_safety.cli import common, gpu_flags
from mjx_safety.cli.gpu_flags import COMMAND_BUFFER, set_gpu_flags


@pytest.fixture
def plugins(monkeypatch):
    """Names of packages that seem to be installed."""
    names = {"jax_cuda13_plugin"}
    monkeypatch.setattr(gpu_flags.importlib.util, "find_spec", lambda name: name if name in names else None)
    return names


def test_loops_become_part_of_the_graph(plugins):
    environ = {}
    set_gpu_flags(environ)
    flags = dict(flag.removeprefix("--").split("=") for flag in environ["XLA_FLAGS"].split())
    assert {"WHILE", "CONDITIONAL"} <= set(flags["xla_gpu_enable_command_buffer"].split(","))
    assert set(flags) == set(COMMAND_BUFFER)


def test_what_the_user_chose_stays(plugins):
    environ = {"XLA_FLAGS": "--xla_gpu_enable_command_buffer=FUSION --xla_dump_to=here"}
    set_gpu_flags(environ)
    assert environ["XLA_FLAGS"].split() == [
        "--xla_gpu_enable_command_buffer=FUSION",
        "--xla_dump_to=here",
        "--xla_gpu_graph_min_graph_size=1",
    ]


def test_without_a_cuda_plugin_nothing_changes(plugins):
    plugins.clear()
    environ = {}
    set_gpu_flags(environ)
    assert not environ


def test_every_command_sets_them_first(monkeypatch):
    order = []
    monkeypatch.setattr(common, "set_gpu_flags", lambda: order.append("flags"))
    assert common.run_command(lambda argv: order.append(argv), ["--help"]) == 0
    assert order == ["flags", ["--help"]]
