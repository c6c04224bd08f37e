"""Draw films, pictures and replays: `python -m mjx_safety.render --help`.

The package also has a function of this name. Importing this module replaces it, so the module can be called too.
"""

import sys
from types import ModuleType

import mjx_safety
from mjx_safety.cli.render import main

_draw = mjx_safety.render


class _Callable(ModuleType):
    """A module that draws a state when called, as `mjx_safety.render` does."""

    def __call__(self, *args, **kwargs):
        return _draw(*args, **kwargs)


if __name__ == "__main__":
    raise SystemExit(main())

sys.modules[__name__].__class__ = _Callable
