"""Overview: `python -m mjx_safety` lists environments, algorithms, engines, extras and commands."""

from mjx_safety.cli.overview import main

if __name__ == "__main__":
    raise SystemExit(main())
