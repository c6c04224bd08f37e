"""Sentences of README, docs and notebooks are short: at most 35 words without code, tables and formulas."""

import json
import re
from pathlib import Path

import pytest

from .pages import PAGES, ROOT

MAX_WORDS = 35
MAX_README_LINES = 150
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NOT_PROSE = re.compile(r"<!--.*?-->|^```.*?^```|^\|.*?$|^:::.*?(?=\n\n|\Z)|^#+ .*?$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)(?:\{[^}]*\})?")
CODE = re.compile(r"(`+).+?\1", re.DOTALL)
BLOCK = re.compile(r"(?:^|\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) ))\s*(?:(?:[-*]|\d+\.) )?")  # before paragraphs and items
END = re.compile(r"(?<=[.!?])[)*_\"]*\s+(?=\S)")
SHORTHAND = re.compile(r"\b(e\.g|i\.e|cf|vs)\.")


def sentences(text: str) -> list[str]:
    """The sentences of a page in Markdown. A piece of code counts as one word."""
    text = NOT_PROSE.sub("\n\n", text)
    text = SHORTHAND.sub(r"\1", LINK.sub(r"\1", CODE.sub("code", text)))
    parts = (" ".join(part.split()) for block in BLOCK.split(text) for part in END.split(block))
    return [part for part in parts if num_words(part)]


def text_of(page: Path) -> str:
    """A page, or the text between the code of a notebook."""
    if page.suffix == ".md":
        return page.read_text()
    cells = json.loads(page.read_text())["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def num_words(sentence: str) -> int:
    return sum(any(letter.isalnum() for letter in word) for word in sentence.split())


def test_sentences_are_found():
    page = "# Title\n\nOne `a b. c` two.  [Three four](x.md). Five,\ne.g. six (`d`).\n\n| a | b |\n"
    page += "\n```\nx. y\n```\n- an item\n1. next"
    found = sentences(page)
    assert found == ["One code two.", "Three four.", "Five, e.g six (code).", "an item", "next"]
    assert [num_words(sentence) for sentence in found] == [3, 2, 4, 2, 1]


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda page: str(page.relative_to(ROOT)))
def test_no_sentence_is_long(page):
    long = [text for text in sentences(text_of(page)) if num_words(text) > MAX_WORDS]
    assert not long, "\n".join(f"{num_words(text)} words: {text}" for text in long)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= MAX_README_LINES
