"""Write a policy as a file for other programs: `python -m mjx_safety.export --help`."""

from mjx_safety.cli.export import main

if __name__ == "__main__":
    raise SystemExit(main())
