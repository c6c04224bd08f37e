"""Judge trained agents: `python -m mjx_safety.evaluate --help`."""

from mjx_safety.cli.evaluate import main

if __name__ == "__main__":
    raise SystemExit(main())
