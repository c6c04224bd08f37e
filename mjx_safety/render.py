"""Draw films, pictures and replays: `python -m mjx_safety.render --help`."""

from mjx_safety.cli.render import main

if __name__ == "__main__":
    raise SystemExit(main())
