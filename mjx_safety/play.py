"""Drive a robot by keyboard: `python -m mjx_safety.play --help`."""

from mjx_safety.cli.play import main

if __name__ == "__main__":
    raise SystemExit(main())
