"""Every Python block of README and docs runs as it stands, with the numbers that its comment makes smaller."""

import ast
import dataclasses
import importlib
import importlib.util
import re
import warnings

import jax
import pytest

import mjx_safety

from .pages import PAGES, ROOT, blocks, stories

FIELD = re.compile(r"`(?:mjx_safety\.)?([A-Z]\w+)\.(\w+)")  # in text: `Hazards.size`


def story_of(blocks):
    marks = [pytest.mark.slow] if any(block.is_slow for block in blocks) else []
    return pytest.param(blocks, id=blocks[0].name, marks=marks)


@pytest.fixture
def as_for_a_user(monkeypatch, tmp_path):
    """A folder of its own, old keys are allowed, other libraries may warn, and settings of JAX are put back."""
    monkeypatch.chdir(tmp_path)
    names = ("jax_legacy_prng_key", "jax_compilation_cache_dir", "jax_default_matmul_precision")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_legacy_prng_key", "allow")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.parametrize("blocks", [story_of(story) for story in stories() if not story[0].is_skipped])
def test_the_blocks_of_a_page_run_in_order(blocks, as_for_a_user, monkeypatch):
    monkeypatch.setattr(mjx_safety.registry, "_FACTORIES", dict(mjx_safety.registry._FACTORIES))
    names = {"__name__": "snippet"}
    for block in blocks:
        for package in block.needs:
            pytest.importorskip(package)
        exec(compile(block.shortened, block.name, "exec"), names)
    if "model" in names:  # Stable-Baselines3
        assert names["model"].num_timesteps >= 16_384 and names["envs"].states is not None
    if "make_policy" in names:  # Brax
        assert 0 <= names["metrics"]["eval/episode_cost"] <= 20


def has(module, name):
    """Whether `from module import name` works. A submodule becomes an attribute once it is imported."""
    is_submodule = hasattr(module, "__path__") and importlib.util.find_spec(f"{module.__name__}.{name}")
    return hasattr(module, name) or bool(is_submodule)


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.name)
def test_it_names_what_there_is(block, as_for_a_user):
    """Imports of this package, and attributes of it, exist: also of blocks that only run with the slow tests."""
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mjx_safety"):
            if "interop" in node.module:
                pytest.importorskip("gymnasium")
                pytest.importorskip("brax")
            module = importlib.import_module(node.module)
            missing = [alias.name for alias in node.names if not has(module, alias.name)]
            assert not missing, f"{node.module} has no {missing}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "mjx_safety":
            assert node.attr == "interop" or hasattr(mjx_safety, node.attr), f"mjx_safety has no {node.attr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_fields_in_the_text_exist(page):
    for owner, name in FIELD.findall(page.read_text()):
        cls = getattr(mjx_safety, owner, None)
        if not isinstance(cls, type):
            continue
        fields = {field.name for field in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
        assert name in fields or hasattr(cls, name), f"{owner} has no {name}"
