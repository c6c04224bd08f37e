"""Record episodes of policies as a data set: `python -m mjx_safety.record --help`."""

from mjx_safety.cli.record import main

if __name__ == "__main__":
    raise SystemExit(main())
