"""Every snippet of docs/interop.md runs as it stands, with the numbers that the comment before it makes smaller."""

import re
import warnings
from pathlib import Path

import jax
import pytest

pytest.importorskip("gymnasium")

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "interop.md"
SNIPPET = re.compile(r"(?:<!-- test: (.*?) -->\n)?```python\n(.*?)```", re.DOTALL)


def snippets():
    for match in SNIPPET.finditer(PAGE.read_text()):
        words = [word.strip() for word in (match[1] or "").split(", ") if word]
        before = PAGE.read_text()[: match.start()].splitlines()
        title = [line.lstrip("# ") for line in before if line.startswith("#")][-1]
        yield pytest.param(match[2], words, id=title, marks=[pytest.mark.slow] if "slow" in words else [])


def test_every_snippet_is_found():
    assert len(list(snippets())) == PAGE.read_text().count("```python") == 6


@pytest.fixture
def as_for_a_user():
    """Old keys are allowed, and other libraries may warn."""
    before = jax.config.jax_legacy_prng_key
    jax.config.update("jax_legacy_prng_key", "allow")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    jax.config.update("jax_legacy_prng_key", before)


@pytest.mark.parametrize(("text", "words"), list(snippets()))
def test_a_snippet_runs(text, words, as_for_a_user):
    for word in words:
        if word.startswith("needs "):
            pytest.importorskip(word.removeprefix("needs "))
        elif "->" in word:
            old, new = word.split(" -> ")
            assert old in text, f"nothing to replace: {old}"
            text = text.replace(old, new)
    names = {"__name__": "snippet"}
    exec(compile(text, str(PAGE), "exec"), names)
    if "model" in names:
        assert names["model"].num_timesteps >= 16_384 and names["envs"].states is not None
    if "metrics" in names:
        assert 0 <= names["metrics"]["eval/episode_cost"] <= 20
