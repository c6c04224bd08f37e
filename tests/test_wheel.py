"""What is published works: source archive -> wheel -> an empty virtual environment, away from the checkout."""

import os
import re
import shutil
import site
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

pytest.importorskip("hatchling")

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mjx_safety"
CHECK = """
import jax, mjx_safety
env = mjx_safety.make("SafetyPointGoal1-v0", physics="mujoco")
state = env.step(env.reset(jax.random.key(0)), jax.numpy.zeros(env.action_size))
assert state.obs.shape == (env.obs_size,) and not state.terminated
from mjx_safety.viz import replay
assert all(replay.PARTS.with_suffix(end).exists() for end in (".html", ".css", ".js"))
print(mjx_safety.__file__)
"""


def run(command, folder):
    """Run a program as if there were no checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache"), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(kind, source, folder):
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", folder], cwd=source, check=True)
    return next(folder.iterdir())


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """Built from the source archive, as installers do where there is no wheel."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return build("wheel", next(folder.iterdir()), tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """Interpreter of a virtual environment that has the wheel and, borrowed, the dependencies of this one."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=os.name != "nt")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    where = Path(run([python, "-c", "import site; print(site.getsitepackages()[0])"], folder).strip())
    with zipfile.ZipFile(wheel) as archive:  # a pure wheel without scripts: unpacking is installing
        archive.extractall(where)
    # What a .pth file names is searched for modules, but its own .pth files, the editable install's, are not followed.
    (where / "dependencies.pth").write_text("\n".join([*site.getsitepackages(), ""]))
    return python


def test_the_source_archive_has_what_a_packager_needs(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for needed in ("README.md", "LICENSE", "pyproject.toml", "Makefile", "tests/conftest.py", "docs/interop.md"):
        assert needed in names
    assert not [name for name in names if "__pycache__" in name or name.startswith(("runs/", ".venv"))]


def test_the_wheel_has_the_whole_package_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    mine = {name.removeprefix("mjx_safety/") for name in names if ".dist-info/" not in name}
    here = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*") if path.is_file()}
    assert mine == {name for name in here if "__pycache__" not in name}
    assert {
        "py.typed",
        "world/robots/assets/point.xml",
        "viz/replay.html",
        "viz/replay.css",
        "viz/replay.js",
        "runs/published_scores.json",
        "policies/SafetyPointGoal1-v0/ppo-lag.npz",
    } <= mine


def test_the_metadata_name_the_package_and_its_licence(wheel):
    archive = zipfile.ZipFile(wheel)
    name = next(name for name in archive.namelist() if name.endswith("/METADATA"))
    metadata = Parser().parsestr(archive.read(name).decode())
    assert metadata["Name"] == "mjx-safety" and metadata["License-Expression"] == "Apache-2.0"
    assert {"cuda", "warp", "gym", "brax", "viz", "dev"} <= set(metadata.get_all("Provides-Extra"))
    needed = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert all(">=" in line for line in needed)  # a lower bound, that has been tried, for each


def test_it_works_away_from_the_checkout(python, tmp_path):
    where = Path(run([python, "-c", CHECK], tmp_path).strip())
    assert where.is_relative_to(python.parent.parent)
    said = run([python, "-m", "mjx_safety"], tmp_path)
    assert "SafetyPointGoal1-v0" in said and "pip install 'mjx-safety[cuda]'" in said


@pytest.mark.slow
def test_a_real_installation(wheel, tmp_path):
    """With nothing borrowed: pip finds all dependencies of the wheel and of its extras by itself."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = shutil.which("python", path=tmp_path / "venv" / "bin")
    run([python, "-m", "pip", "install", "--quiet", f"{wheel}[gym,viz]"], tmp_path)
    run([python, "-c", CHECK], tmp_path)
    run(
        [python, "-m", "mjx_safety.train", "--total-steps", "1024", "--num-envs", "8", "--unroll-length", "16"],
        tmp_path,
    )
    assert "Wrote film.mp4" in run(
        [python, "-m", "mjx_safety.render", "SafetyPointGoal1-v0", "--steps", "10"], tmp_path
    )


@pytest.mark.slow
def test_what_an_index_would_refuse(sdist, wheel):
    """Metadata and README render, and the wheel has no stray files."""
    for package in ("twine", "check_wheel_contents"):
        pytest.importorskip(package)
    run([sys.executable, "-m", "twine", "check", "--strict", sdist, wheel], ROOT)
    run([sys.executable, "-m", "check_wheel_contents", wheel], ROOT)


@pytest.mark.slow
def test_types_are_complete():
    """Users' type checkers know what the package exports."""
    pytest.importorskip("pyright")
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--verifytypes", "mjx_safety"]
    path = {**os.environ, "PYTHONPATH": str(ROOT)}  # pyright does not follow every editable installation
    done = subprocess.run([*command, "--ignoreexternal"], cwd=ROOT, env=path, capture_output=True, text=True)
    share = re.search(r"Type completeness score: ([0-9.]+)%", done.stdout)
    assert share and float(share[1]) >= 95.0, done.stdout[-2000:] + done.stderr
