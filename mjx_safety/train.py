"""Train an agent: `python -m mjx_safety.train --help`."""

from mjx_safety.cli.train import main

if __name__ == "__main__":
    from mjx_safety.cli.waiting import leave

    leave(main())
