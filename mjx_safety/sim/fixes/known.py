"""The version of MJX whose private parts the other modules here replace. Warp's kernels come with it."""

from __future__ import annotations

from importlib.metadata import version

KNOWN = ("3.17",)  # of mujoco-mjx; tests/sim/fixes/test_patched_places.py says which place another one has changed


def require_known() -> None:
    """Raise ImportError for a version of mujoco-mjx for which the corrections have not been checked."""
    found = version("mujoco-mjx")
    if ".".join(found.split(".")[:2]) not in KNOWN:
        raise ImportError(
            f"mujoco-mjx {found} is installed, and mjx_safety corrects private parts of {', '.join(KNOWN)} only: "
            f"pip install 'mujoco-mjx=={KNOWN[-1]}.*'"
        )
