"""Hand a sweep to SLURM or to local processes: `python -m mjx_safety.submit --help`."""

from mjx_safety.cli.submit import main

if __name__ == "__main__":
    raise SystemExit(main())
