"""An OpenGL context without a display: EGL if it works on this machine, else OSMesa.

MuJoCo reads `MUJOCO_GL` once, at import, and uses a window system by default. A picture comes long after the import, so
this module creates MuJoCo's context classes itself. PyOpenGL binds to the backend that is imported first. This module
therefore tests the backends without PyOpenGL.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import os
import sys
from typing import Any

PLATFORM_DEVICE = 0x313F  # EGL_PLATFORM_DEVICE_EXT
MAX_DEVICES = 16
ADVICE = (
    "on Debian and Ubuntu, `apt-get install libosmesa6` draws on any machine, and `apt-get install libegl1"
    " libgl1 libgl1-mesa-dri` with the graphics driver where there is one"
)


class NoOpenGLError(RuntimeError):
    """This machine cannot draw. The message says what to install."""


def create_context(width: int, height: int) -> Any:
    """Return a MuJoCo context (`make_current`, `free`) for pictures of a size in pixels.

    The variable MUJOCO_GL (egl, osmesa, glfw) decides if it is set. Raises NoOpenGLError if nothing works.
    """
    backend = choose_backend()
    try:
        return _context_class(backend)(width, height)
    except Exception as error:  # each backend and driver raises its own errors
        raise NoOpenGLError(
            f"MuJoCo's renderer could not start with {backend} ({type(error).__name__}: {error}); {ADVICE}"
        ) from error


def choose_backend() -> str:
    """Return the name of the backend. Raises NoOpenGLError if there is none."""
    asked = os.environ.get("MUJOCO_GL", "").strip().lower()
    if asked in ("disable", "disabled", "off", "false", "0"):
        raise NoOpenGLError(f"MUJOCO_GL={asked} switches drawing off; unset it, or set it to egl or osmesa")
    if asked in ("egl", "osmesa"):
        return asked
    if asked or not sys.platform.startswith("linux"):
        return "mujoco"  # as MuJoCo itself chose when it was imported
    if egl_works():
        return "egl"
    if has_osmesa():
        return "osmesa"
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return "mujoco"
    raise NoOpenGLError(f"MuJoCo's renderer needs EGL or OSMesa, and this machine has neither: {ADVICE}")


@functools.cache
def egl_works() -> bool:
    """Return whether EGL finds a device for drawing and OpenGL itself is installed."""
    try:
        egl = ctypes.CDLL(ctypes.util.find_library("EGL") or "libEGL.so.1")
        if not (ctypes.util.find_library("OpenGL") or ctypes.util.find_library("GL")):
            return False
        get_address = egl.eglGetProcAddress
        get_address.restype, get_address.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
        query_address, display_address = map(get_address, (b"eglQueryDevicesEXT", b"eglGetPlatformDisplayEXT"))
    except (OSError, AttributeError):
        return False
    if not (query_address and display_address):
        return False
    pointer = ctypes.c_void_p
    query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, pointer, pointer)(query_address)
    get_display = ctypes.CFUNCTYPE(pointer, ctypes.c_uint, pointer, pointer)(display_address)
    initialize = egl.eglInitialize
    initialize.restype, initialize.argtypes = ctypes.c_uint, [pointer] * 3
    devices, count = (pointer * MAX_DEVICES)(), ctypes.c_int()
    if not query(MAX_DEVICES, devices, ctypes.byref(count)):
        return False
    displays = (get_display(PLATFORM_DEVICE, device, None) for device in devices[: count.value])
    return any(display and initialize(display, None, None) for display in displays)


def has_osmesa() -> bool:
    """Return whether Mesa's off-screen library is installed."""
    return ctypes.util.find_library("OSMesa") is not None


def _context_class(backend: str) -> Any:
    if backend == "egl":
        from mujoco.egl import GLContext
    elif backend == "osmesa":
        from mujoco.osmesa import GLContext
    else:
        from mujoco.gl_context import GLContext
    return GLContext
