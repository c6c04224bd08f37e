"""Measure throughput: `python -m mjx_safety.benchmark --help`."""

from mjx_safety.cli.benchmark import main

if __name__ == "__main__":
    raise SystemExit(main())
