"""The code in README and docs: its blocks, and what the comment before a block says about testing it.

<!-- test: WORDS --> before a fence, words separated by "; ":

- `old -> new`: the text to run has `new` where the page has `old`, so that it takes seconds;
- `continues`: it goes on where the block before it ended, in the same namespace;
- `slow`: it runs with the slow tests only; `needs NAME`: only where that package is installed;
- `skip: WHY`: it cannot be run in a test; commands are still read.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"(?:<!-- test: (?P<words>[^\n]*?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE
)


@dataclasses.dataclass(frozen=True)
class Block:
    """A fence of a page."""

    page: Path
    language: str
    text: str  # as on the page
    words: tuple[str, ...]
    title: str  # heading above it

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.title}"

    @property
    def is_slow(self) -> bool:
        return "slow" in self.words

    @property
    def is_skipped(self) -> bool:
        return any(word.startswith("skip: ") for word in self.words)

    @property
    def continues(self) -> bool:
        return "continues" in self.words

    @property
    def needs(self) -> list[str]:
        return [word.removeprefix("needs ") for word in self.words if word.startswith("needs ")]

    @property
    def shortened(self) -> str:
        """The text to run."""
        text = self.text
        for word in self.words:
            if " -> " in word:
                old, new = word.split(" -> ")
                assert old in text, f"{self.name}: nothing to replace: {old}"
                text = text.replace(old, new)
        return text

    def commands(self, text: str) -> list[list[str]]:
        """The words of each command line."""
        return [words for line in text.splitlines() if (words := shlex.split(line, comments=True))]


def blocks(*languages: str) -> list[Block]:
    """All fences in these languages, page by page."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in FENCE.finditer(text):
            if match["language"] in languages:
                headings = re.findall(r"^#+ (.*)$", text[: match.start()], re.MULTILINE)
                words = tuple(filter(None, (match["words"] or "").split("; ")))
                found.append(Block(page, match["language"], match["text"], words, headings[-1] if headings else ""))
    return found


def stories() -> list[list[Block]]:
    """Python blocks, those that continue each other together."""
    told: list[list[Block]] = []
    for block in blocks("python"):
        if block.continues:
            assert told and told[-1][0].page == block.page, f"{block.name} continues nothing"
            told[-1].append(block)
        else:
            told.append([block])
    return told
