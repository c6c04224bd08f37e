"""What draws is chosen by what works, and where nothing does a sentence says what to install."""

import os
import subprocess
import sys

import pytest

from mjx_safety.viz import opengl


@pytest.fixture
def machine(monkeypatch):
    """A Linux machine without anything; the arguments add to it."""

    def build(egl=False, osmesa=False, **variables):
        for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(opengl, "egl_works", lambda: egl)
        monkeypatch.setattr(opengl, "has_osmesa", lambda: osmesa)

    return build


@pytest.mark.parametrize(
    ("has", "chosen"),
    [
        ({"egl": True, "osmesa": True}, "egl"),
        ({"osmesa": True, "DISPLAY": ":0"}, "osmesa"),
        ({"DISPLAY": ":0"}, "mujoco"),
        ({"egl": True, "MUJOCO_GL": "osmesa"}, "osmesa"),
        ({"egl": True, "MUJOCO_GL": "glfw"}, "mujoco"),
    ],
)
def test_choice(machine, has, chosen):
    machine(**has)
    assert opengl.choose_backend() == chosen


def test_nothing_there_names_the_packages(machine):
    machine()
    with pytest.raises(opengl.NoOpenGLError, match=r"neither: .*apt-get install libosmesa6.*libegl1"):
        opengl.choose_backend()


def test_switched_off(machine):
    machine(egl=True, MUJOCO_GL="disable")
    with pytest.raises(opengl.NoOpenGLError, match="MUJOCO_GL=disable switches drawing off"):
        opengl.choose_backend()


def test_a_context_that_fails_says_so(machine, monkeypatch):
    def fail(backend):
        raise AttributeError("glGetError")

    machine(egl=True)
    monkeypatch.setattr(opengl, "_context_class", fail)
    with pytest.raises(opengl.NoOpenGLError, match=r"with egl \(AttributeError: glGetError\); .*libosmesa6"):
        opengl.create_context(64, 64)


def test_a_library_that_is_not_there(monkeypatch):
    monkeypatch.setattr(opengl.ctypes.util, "find_library", lambda name: None)
    monkeypatch.setattr(opengl.ctypes, "CDLL", _missing)
    opengl.egl_works.cache_clear()
    try:
        assert not opengl.egl_works()
        assert not opengl.has_osmesa()
    finally:
        opengl.egl_works.cache_clear()


def _missing(name):
    raise OSError(name)


DRAW = """
import jax, mjx_safety
from mjx_safety.viz import render
env = mjx_safety.make("SafetyPointGoal0-v0", physics="mujoco")
print(len(set(render(env, env.reset(jax.random.key(0)), width=96, height=96).getdata())))
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["egl", "osmesa"])
def test_each_backend_draws_a_picture(backend):
    if not {"egl": opengl.egl_works, "osmesa": opengl.has_osmesa}[backend]():
        pytest.skip(f"{backend} is not installed here: {opengl.ADVICE}")
    environment = os.environ | {"MUJOCO_GL": backend, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", DRAW], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 50  # colours
