"""Every command line of README and docs can be read by what it calls, and with small sizes it runs."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib

import jax
import pytest
import tyro

import mjx_safety
from mjx_safety.cli import common, train
from mjx_safety.runs import sweeps, training_checks
from mjx_safety.viz.opengl import NoOpenGLError, choose_backend

from .pages import PAGES, ROOT, blocks

MODULES = (
    "evaluate",
    "render",
    "plot",
    "play",
    "benchmark",
    "export",
    "record",
    "clone",
)  # with a class `Flags`; `train` has its own
BATCH = 8 * 16  # steps per iteration of a small training
SMALL = {
    "train": ["--num-envs", "8", "--unroll-length", "16", "--total-steps", f"{4 * BATCH}", "--hidden-sizes", "8"],
    "evaluate": ["--episodes", "4"],
    "render": ["--steps", "10", "--size", "96", "96"],
    "benchmark": ["--num-envs", "8", "--num-steps", "4", "--repeats", "1"],
    "plot": [],
    "export": [],
    "record": ["--episodes", "4", "--num-envs", "2"],
    "clone": ["--num-updates", "4", "--cost-limit", "1000"],
}
SMALL_SAC = ["--updates-per-step", "0.01", "--batch-size", "16", "--replay-capacity", "1000", "--random-steps", "200"]
SIZES = (
    "--num-envs",
    "--unroll-length",
    "--total-steps",
    "--hidden-sizes",
    "--episodes",
    "--steps",
    "--size",
    "--repeats",
    "--num-updates",
)
RUN = re.compile(r"runs/[\w-]+")
TRAINED: set[tuple[str, ...]] = set()  # command lines that have run, on whatever page


def lines():
    """Each command line: page and words."""
    for block in blocks("bash", "sh", "shell", "console"):
        for words in block.commands(block.text):
            yield pytest.param(words, id=f"{block.page.relative_to(ROOT)}: {' '.join(words)}")


def without_environment(words):
    """Leave out `NAME=value` before a command."""
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    return words


def test_every_command_is_found():
    text = "\n".join(page.read_text() for page in PAGES)
    assert len(list(lines())) == len(
        re.findall(r"^(?:[A-Z_]+=\S+ )?(?:python|pip|make|\.venv/bin/pytest) ", text, re.MULTILINE)
    )


@pytest.mark.parametrize("words", list(lines()))
def test_the_called_program_reads_the_command_line(words):
    program, *rest = without_environment(words)
    if program == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert rest[0] in targets
    elif program == "pip":
        known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        asked = re.findall(r"\[(.*?)\]", " ".join(rest))
        assert set(",".join(asked).split(",")) - {""} <= set(known)
    elif program == "python" and rest[0] == "-m":
        read_module(rest[1].removeprefix("mjx_safety."), rest[2:])
    else:
        assert program == "python" and (ROOT / rest[0]).is_file()
        source = (ROOT / rest[0]).read_text()
        flags = [word[2:].replace("-", "_") for word in rest[1:] if word.startswith("--")]
        assert [flag for flag in flags if not re.search(rf"\b{flag}\b", source)] == []


def read_module(name, argv):
    """Let a module of the command line read its flags, and refuse what it would refuse before it starts."""
    if "--help" in argv:
        argv = [word for word in argv if word != "--help"]
    if name == "mjx_safety":
        assert not argv
    elif name == "submit":
        split = argv.index("--")
        tyro.cli(importlib.import_module("mjx_safety.cli.submit").Flags, args=argv[:split])
        read_module("train", argv[split + 1 :])
    elif name != "train":
        assert name in MODULES, f"there is no python -m mjx_safety.{name}"
        tyro.cli(importlib.import_module(f"mjx_safety.cli.{name}").Flags, args=argv)
    elif "--resume" in argv:
        assert {word for word in argv if word.startswith("--")} <= {"--resume", "--total-steps", "--coordinator"}
    else:
        options = common.parse(argv)
        training_checks.check(options)
        assert sweeps.expand(options)
        if options.run.env in mjx_safety.ENV_IDS:
            training_checks.check_sources(options, mjx_safety.make(options.run.env, physics="mujoco").cost_names)


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """A run that was stopped before its end."""
    path = tmp_path_factory.mktemp("docs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "set_up_jax", lambda compilation_cache: None)
        assert train.main([*SMALL["train"], "--out", str(path)]) == 0
    config = json.loads((path / "config.json").read_text())
    config["run"]["total_steps"] = 6 * BATCH
    (path / "config.json").write_text(json.dumps(config))
    return path


def shrink(module, argv):
    """Replace sizes by small ones."""
    kept, skipping = [], False
    for word in argv:
        if word.startswith("--"):
            skipping = word in SIZES
        if not skipping:
            kept.append(word)
    if "--resume" in argv:
        return kept + (["--total-steps", f"{8 * BATCH}"] if "--total-steps" in argv else [])
    return [*kept, *SMALL[module], *(SMALL_SAC if "sac-lag" in argv else [])]


def pages_with_commands():
    return sorted({block.page for block in blocks("bash")})


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with_commands(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_run_in_turn(page, small_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(common, "set_up_jax", lambda compilation_cache: None)
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    for block in blocks("bash"):
        if block.page == page and not block.is_skipped:
            for words in block.commands(block.shortened):
                run(without_environment(words), small_run)


def run(words, small_run):
    """Run a command line with small sizes. `make` and `pip` are left out."""
    program, *rest = words
    if program != "python" or "--help" in words or rest == ["-m", "mjx_safety"]:  # tests/cli/test_overview.py runs it
        return
    if rest[0] != "-m":
        names = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, str(ROOT / rest[0]), *rest[1:]], env=names, check=True)
        return
    module, argv = rest[1].removeprefix("mjx_safety."), rest[2:]
    if (module == "render" and not can_draw()) or tuple(words) in TRAINED:
        return
    if module == "train" and not {"--out", "--resume", "--resume-or-start"} & set(argv):
        TRAINED.add(tuple(words))
    provide(argv, small_run)
    assert importlib.import_module(f"mjx_safety.cli.{module}").main(shrink(module, argv)) == 0, " ".join(words)
    jax.clear_caches()


MAKES_ITS_FOLDER = ("--out", "--resume-or-start")


def provide(argv, small_run):
    """Where a command asks for a run folder that nobody has made, put a copy there."""
    for flag, path in zip(["", *argv], argv, strict=False):
        if RUN.fullmatch(path) and flag not in MAKES_ITS_FOLDER and not os.path.exists(path):
            shutil.copytree(small_run, path)


def can_draw():
    try:
        choose_backend()
    except NoOpenGLError:
        return False
    return True
