"""Attributes of what is wrapped, found on the wrapper, as in Gymnasium up to 0.29. Code for the reference uses this."""

from __future__ import annotations

from typing import Any


class Forwarding:
    """Finds a public name that a wrapper lacks in what it wraps: `env.obs_rms` below a `SafeUnsqueeze`."""

    env: Any

    def __getattr__(self, name: str) -> Any:
        """Look further inside. Raises AttributeError if no layer has the name."""
        if not name.startswith("_") and "env" in vars(self):
            find = getattr(self.env, "get_wrapper_attr", None)  # of one world; a batch has none
            try:
                return getattr(self.env, name) if find is None else find(name)
            except AttributeError:
                pass
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}, nor has what it wraps")
