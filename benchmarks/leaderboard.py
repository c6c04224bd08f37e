"""Draws the learning curves of the campaign, one picture per environment, with a band over seeds.

    python benchmarks/leaderboard.py      # into benchmarks/results/campaign; `campaign.py` does it after each run

The tables of the page docs/leaderboard.md come from the same files: python docs/generate.py --no-pictures
"""

from __future__ import annotations

import json
from pathlib import Path

from mjx_safety.viz import plots

RESULTS = Path(__file__).parent / "results" / "campaign"


def draw(env: str) -> Path:
    """Draw the trainings of one environment, without Safety and without -v0. Returns the picture."""
    curves = []
    for path in sorted(RESULTS.glob(f"{env}-*-seed*.json")):
        result = json.loads(path.read_text())
        if result["run"]["env"].removeprefix("Safety").removesuffix("-v0") != env:
            continue  # another version of the same name
        columns = result["curve"]
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        curves.append(plots.Curve(result["run"]["algo"], result["run"]["cost_limit"], rows))
    picture = RESULTS / f"curves-{env}.png"
    plots.plot_curves(curves, picture, env)
    return picture


def main() -> None:
    """Draw all environments that have a result."""
    ids = {json.loads(path.read_text())["run"]["env"] for path in RESULTS.glob("*-seed*.json")}
    for env_id in sorted(ids):
        print(draw(env_id.removeprefix("Safety").removesuffix("-v0")))


if __name__ == "__main__":
    main()
