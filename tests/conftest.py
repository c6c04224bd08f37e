"""What every test shares: the platform, quick compilation, the compilation cache, strictness, keys."""

import ctypes
import gc
import mmap
import os
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

# Plain machine code takes a fifth of the time to compile; also in processes that a test starts.
PLAIN_CODE = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": "false",
    "xla_cpu_parallel_codegen_split_count": 1,  # test processes fill the cores already
}
if Version(version("jaxlib")) >= Version("0.11"):
    # XLA has only fusion emitters there. A flag that it does not know ends the process. At level 0 their code rounds
    # one world otherwise than a batch, and Point's servo amplifies that. At level 1 both agreed, as at that of users.
    PLAIN_CODE = {"xla_backend_optimization_level": 1}
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before jax is imported; JAX_PLATFORMS=cuda runs the `gpu` tests
if os.environ["JAX_PLATFORMS"] == "cpu":
    flags = [f"--{name}={value}" for name, value in PLAIN_CODE.items()]
    os.environ["XLA_FLAGS"] = " ".join([*flags, os.environ.get("XLA_FLAGS", "")])

import jax  # noqa: E402

LARGE = 1_000_000_000  # bytes
RARELY = (200_000, 20, 50)  # thresholds of Python's garbage collector: tracing makes many objects that live on
CACHE = Path(__file__).resolve().parent.parent / ".jax_cache"

gc.set_threshold(*RARELY)
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # s: keep all
jax.config.update("jax_legacy_prng_key", "error")  # typed keys only


EXPECTED_SKIPS = (  # what a machine with the extra `dev` and without a GPU may lack; .ci/run refuses all others
    "could not import 'torch'",
    "needs the extra 'launches'",
    "minari cannot be installed",
    "is not installed here",  # a second way to draw
    "mounting a file system is not permitted here",
    "needs an NVIDIA GPU",
    "the history of this checkout does not hold the commit",
)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With REFUSE_SKIPS, fail after tests that were skipped for another reason than the expected ones."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("REFUSE_SKIPS") or reporter is None or hasattr(session.config, "workerinput"):
        return
    for report in reporter.stats.get("skipped", []):
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(expected in reason for expected in EXPECTED_SKIPS):
            reporter.write_line(f"Unexpected skip: {report.nodeid}: {reason}", red=True)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True, scope="module")
def programs_end_with_their_module() -> Iterator[None]:
    """Forget what was compiled once the process is large, and worlds that count it. The cache on disk still has it."""
    yield
    if resident_bytes() > LARGE:
        if "worlds" in sys.modules:
            sys.modules["worlds"].world_of.cache_clear()
        jax.clear_caches()
        gc.collect()
        give_back_memory()


def give_back_memory() -> None:
    """Let the C library return free memory, so that the process counts as small again. Only glibc can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident_bytes() -> int:
    """Memory of this process; 0 where Linux does not tell."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * mmap.PAGESIZE if statm.exists() else 0


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(0)


@pytest.fixture
def strict_ranks() -> Iterator[None]:
    """Refuse broadcasting between ranks. A test module chooses it, because MJX itself relies on such broadcasting."""
    with jax.numpy_rank_promotion("raise"):
        yield
