"""What every test shares: the platform, the compilation cache, strictness, keys."""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before jax is imported; JAX_PLATFORMS=cuda runs the `gpu` tests

import jax
import pytest

CACHE = Path(__file__).resolve().parent.parent / ".jax_cache"

jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # s: keep all
jax.config.update("jax_legacy_prng_key", "error")  # typed keys only


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(0)


@pytest.fixture
def strict_ranks() -> Iterator[None]:
    """Refuse broadcasting between ranks. A test module chooses it, because MJX itself relies on such broadcasting."""
    with jax.numpy_rank_promotion("raise"):
        yield
