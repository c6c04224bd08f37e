"""Learn a policy from recorded data: `python -m mjx_safety.clone --help`."""

from mjx_safety.cli.clone import main

if __name__ == "__main__":
    raise SystemExit(main())
