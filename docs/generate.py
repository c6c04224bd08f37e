"""Write the generated parts of the documentation from the package and its results.

    python docs/generate.py                 # text and pictures; compiles a reset for each environment: minutes
    python docs/generate.py --no-pictures   # text only: seconds
    python docs/generate.py --check         # fail where a text is out of date or a picture is missing

This writes the pages of the environments whole. In README.md and all other pages, it replaces the text between
`<!-- generated: NAME WORDS -->` and `<!-- end -->` by the result of the function NAME for the words.
At the end it writes all pages as plain Markdown into build/docs, from which the site is built.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import algorithm_tables
import engine_tables
import environment_pages
import fault_tables
import headline
import leaderboard_tables
import plain_pages
import speed_tables
import tyro
import velocity_pages

from mjx_safety import NAVIGATION_IDS

DOCS = Path(__file__).resolve().parent
README = DOCS.parent / "README.md"
PLAIN = DOCS.parent / "build" / "docs"
GENERATED = re.compile(r"(<!-- generated: (?P<words>.*?) -->\n)(?P<text>.*?)(?P<end><!-- end -->)", re.DOTALL)
FUNCTIONS: dict[str, Callable[..., str]] = {
    "settings": algorithm_tables.settings,
    "run-flags": algorithm_tables.run_flags,
    "reached": algorithm_tables.reached,
    "catalogue": algorithm_tables.catalogue,
    "which": algorithm_tables.which,
    "shipped": algorithm_tables.shipped,
    "headline": headline.headline,
    "parity": engine_tables.worst,
    "deviations": engine_tables.deviations,
    "missed": engine_tables.bars,
    "sample": engine_tables.sample,
    "agreement": engine_tables.agreement,
    "velocity-parity": engine_tables.velocity_parity,
    "velocity-agreement": engine_tables.velocity_agreement,
    "start": engine_tables.start,
    "leaderboard": leaderboard_tables.leaderboard,
    "learning": algorithm_tables.learning,
    "spread": algorithm_tables.spread,
    "scaling": algorithm_tables.scaling,
    "randomized": algorithm_tables.randomized,
    "throughput-cpu": speed_tables.throughput_cpu,
    "throughput-velocity": speed_tables.velocity,
    "throughput-gpu": speed_tables.throughput_gpu,
    "size": speed_tables.size,
    "fast-scenes": speed_tables.fast_scenes,
    "overhead": speed_tables.overhead,
    "training": speed_tables.training,
    "recording": speed_tables.recording,
    "kills": fault_tables.kills,
    "long-run": fault_tables.long_run,
    "versions": fault_tables.versions,
}


def fill(text: str) -> str:
    """Return a page with updated parts. Raises SystemExit for an unknown name."""

    def replace(match: re.Match[str]) -> str:
        name, *words = match["words"].split()
        if name not in FUNCTIONS:
            raise SystemExit(f"<!-- generated: {name} -->: there is no such table; known: {', '.join(FUNCTIONS)}")
        return f"{match[1]}\n{FUNCTIONS[name](*words)}\n\n{match['end']}"

    return GENERATED.sub(replace, text)


def pages() -> Iterator[tuple[Path, str]]:
    """Yield each generated page, whole or in part, and its text."""
    written = environment_pages.pages()
    for name, text in written.items():
        yield DOCS / name, text
    for path in (README, *sorted(DOCS.rglob("*.md"))):
        if path == README or (str(path.relative_to(DOCS)) not in written and GENERATED.search(path.read_text())):
            yield path, fill(path.read_text())


def out_of_date() -> list[str]:
    """Return the pages that are out of date."""
    return [
        str(path.relative_to(DOCS.parent)) for path, text in pages() if not path.is_file() or path.read_text() != text
    ]


def main(check: bool = False, pictures: bool = True, envs: tuple[str, ...] = NAVIGATION_IDS) -> None:
    """Write or check the generated parts of the documentation.

    Args:
        check: Write nothing; fail where a text is out of date or a picture is missing.
        pictures: Draw the environments too.
        envs: Environments of navigation to draw.
    """
    if check:
        if out_of_date():
            raise SystemExit(f"out of date: {', '.join(out_of_date())}; run python docs/generate.py")
        if environment_pages.missing_images():
            raise SystemExit(
                f"docs/images lacks {', '.join(environment_pages.missing_images())}: run python docs/generate.py"
            )
        return
    for path, text in pages():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    for env_id in envs if pictures else ():
        environment_pages.draw(env_id)
    for robot in velocity_pages.robots() if pictures else ():
        velocity_pages.draw(robot)
    plain_pages.write(PLAIN)


if __name__ == "__main__":
    tyro.cli(main)
