"""Draw learning curves: `python -m mjx_safety.plot --help`."""

from mjx_safety.cli.plot import main

if __name__ == "__main__":
    raise SystemExit(main())
