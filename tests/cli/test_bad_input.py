"""Hundreds of wrong command lines, over all modules: each ends with status 2 and a message, and writes nothing."""

import collections
import dataclasses
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest

import mjx_safety
from mjx_safety.cli import benchmark, clone, common, evaluate, export, overview, play, plot, record, render, train
from mjx_safety.runs import datasets
from mjx_safety.runs.training_options import ALGORITHMS

h5py = pytest.importorskip("h5py")
DOCS = Path(__file__).resolve().parents[2] / "docs"
NUMBER = 400
NOT_NUMBERS = ("", "many", "1.5.2", "0x", "--", "1,0", "ten", "٣x", "1e", "None", "[1]")
NOT_FINITE = ("nan", "-inf", "-0.1", "1e999", "inf-")
IMPOSSIBLE = ("-1", "-7", "99999999999999999999", "-1e9", "1e30")
NOT_IDS = ("SafetyPointGoal9-v0", "PointGoal1", "", "safetypointgoal1-v0", "os:system", "no.such:thing", ":", "a:", "☃")
PATHS = ("missing", "missing/run", "file", "file/run", "empty", "x" * 300, "nul" * 90 + "/run", "/proc/self/run", "")
FLAGS = {  # module -> flags that take whole numbers, numbers, choices
    "train": (
        (
            "num-envs",
            "seed",
            "num-seeds",
            "unroll-length",
            "num-minibatches",
            "num-passes",
            "num-devices",
            "process-id",
        ),
        ("discount", "gae-lambda", "learning-rate", "cost-limit", "clip-eps", "cost-smoothing", "entropy-coef"),
        ("algo", "physics", "compilation-cach", "sweep", "cost-limits"),
    ),
    "evaluate": (("episodes", "seed"), (), ("physics", "policy")),
    "render": (
        ("num-worlds", "steps", "seed", "moments", "size"),
        ("speed", "cost-limit"),
        ("camera", "policy", "out"),
    ),
    "plot": ((), (), ("out",)),
    "play": (("seed",), (), ()),
    "benchmark": (("num-envs", "num-steps", "repeats", "jobs"), (), ("physics", "accuracy", "modes", "envs")),
    "overview": ((), (), ("version-of",)),
    "export": ((), (), ("out",)),
    "record": (("episodes", "num-envs", "seed"), (), ("physics", "action", "out")),
    "clone": (("num-updates", "batch-size", "seed"), ("best", "learning-rate"), ("out",)),
}
MODULES = (train, evaluate, render, plot, play, benchmark, overview, export, record, clone)
MAINS = {module.__name__.rpartition(".")[2]: module.main for module in MODULES}


def target(module):
    """What a module asks for beside its flags."""
    some = {"render": ["SafetyPointGoal0-v0"], "train": [], "play": [], "benchmark": [], "overview": []}
    some["clone"] = ["data.hdf5"]  # good, so that the flags decide
    return some.get(module, ["missing"])


def wrong_line(module, chance):
    """A command line with one fault, and the kind of the fault."""
    whole, real, choices = FLAGS[module]
    kinds = ["unknown flag", "stray word", "bad choice"]
    kinds += ["not a number", "impossible number", "no value"] if whole else []
    kinds += ["not finite"] if real else []
    kinds += ["unknown id"] if module in ("train", "render", "play", "benchmark") else []
    kinds += (
        ["bad path"]
        if module in ("train", "evaluate", "render", "plot", "benchmark", "export", "record", "clone")
        else []
    )
    kind = chance.choice(kinds)
    name = chance.choice(whole or choices or ("x",))
    if kind == "unknown flag":
        return kind, [
            *target(module),
            f"--{chance.choice(('wrold', 'n-envs', 'Seed', '-', 'é', 'no-such', 'verbose='))}",
        ]
    if kind == "stray word":
        return kind, [*target(module), "stray", "word"]
    if kind == "bad choice":
        return kind, [
            *target(module),
            f"--{chance.choice(choices or ('x',))}",
            chance.choice(("", "wrong", "☃", "-1=x")),
        ]
    if kind == "not a number":
        return kind, [*target(module), f"--{name}", chance.choice(NOT_NUMBERS)]
    if kind == "impossible number":
        return kind, [*target(module), f"--{name}", chance.choice(IMPOSSIBLE)]
    if kind == "no value":
        return kind, [*target(module), f"--{name}"]
    if kind == "not finite":
        return kind, [
            *target(module),
            f"--{chance.choice(real)}",
            chance.choice(NOT_FINITE),
        ]
    if kind == "unknown id":
        flag = {"train": ["--env"], "benchmark": ["--envs"]}.get(module, [])
        return kind, [*flag, chance.choice(NOT_IDS)]
    path = chance.choice(PATHS)
    flags = {
        "train": [[f"--{chance.choice(('resume', 'resume-or-start'))}", path], ["--out", chance.choice(PATHS[3:4])]],
        "evaluate": [[path]],
        "plot": [[path], [path, "--out", "x.png"], ["missing", "--out", "x.docx"]],
        "render": [["./" + path], ["SafetyPointGoal0-v0", "--out", path]],
        "benchmark": [["--peer-python", path + "?"]],
        "export": [[path], [path, "--out", "x.txt"], ["missing", "--out", path]],
        "record": [[path], [path, "--out", "x.txt"]],
        "clone": [[path], [path, "--out", "x.txt"], ["x" * 300]],
    }
    return kind, chance.choice(flags[module])


def lines():
    chance = random.Random(0)
    return [(module, *wrong_line(module, chance)) for module in (list(FLAGS) * NUMBER)[:NUMBER]]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An own working folder, and no real training, should one begin."""
    (tmp_path / "file").write_text("no run\n")
    (tmp_path / "empty").mkdir()
    write_data(tmp_path / "data.hdf5")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(common, "set_up_jax", lambda compilation_cache: None)
    for module, name in (
        (train, "_first_state"),
        (render.episodes, "record"),
        (benchmark, "_measure"),
        (clone, "clone"),
    ):
        monkeypatch.setattr(module, name, began)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def write_data(path):
    """An episode that `clone` can learn from."""
    sizes = {"observations": (8, 60), "next_observations": (8, 60), "actions": (8, 2)}
    with h5py.File(path, "w") as file:
        for name in datasets.KEYS:
            file[name] = np.zeros(sizes.get(name, 8), bool if name in ("terminals", "timeouts") else np.float32)
        file["timeouts"][-1] = True
        file.attrs["about"] = json.dumps({"env": "SafetyPointGoal1-v0"})


def began(*args):
    raise AssertionError("it was accepted")


def status_of(main, words):
    try:
        return main(words)
    except SystemExit as end:  # of the reader of flags
        return end.code


def test_hundreds_of_wrong_command_lines(folder, capsys):
    before = sorted(os.walk(folder))
    crashes, counts = [], collections.Counter()
    for module, kind, words in lines():
        capsys.readouterr()
        counts[module] += 1
        try:
            status = status_of(MAINS[module], words)
        except (Exception, SystemExit) as error:
            status = repr(error)
        said = capsys.readouterr()
        if status != 2 or "Traceback" in said.err or not said.err.strip() or sorted(os.walk(folder)) != before:
            crashes.append((module, kind, words, status, said.err[-200:]))
    assert not crashes, f"{len(crashes)} of {sum(counts.values())}:\n" + "\n".join(map(str, crashes))
    assert sum(counts.values()) == NUMBER and min(counts.values()) >= 40
    assert f"{NUMBER} command lines of a seeded generator" in (DOCS / "faults.md").read_text()


def test_every_number_of_clone_on_good_data(folder, capsys):
    with pytest.raises(AssertionError, match="it was accepted"):
        clone.main(target("clone"))
    whole, real, _ = FLAGS["clone"]
    wrong = [(name, value) for name in whole for value in (*NOT_NUMBERS, *IMPOSSIBLE)]
    wrong += [(name, value) for name in real for value in (*NOT_NUMBERS, *NOT_FINITE, "0", "-1")]
    wrong += [("cost-limit", value) for value in (*NOT_NUMBERS, "nan", "-inf", "-0.1", "inf-")]
    before = sorted(os.walk(folder))
    for name, value in wrong:
        capsys.readouterr()
        assert status_of(clone.main, [*target("clone"), f"--{name}", value]) == 2, (name, value)
        assert f"--{name}" in capsys.readouterr().err, (name, value)
    assert sorted(os.walk(folder)) == before


@pytest.mark.thorough
@pytest.mark.parametrize("algo", ALGORITHMS)
def test_no_setting_of_an_algorithm_may_be_nan(algo, folder, capsys):
    choice = ALGORITHMS[algo]
    for kind in (choice.config, choice.constraint):
        for field in dataclasses.fields(kind):
            if isinstance(field.default, float) or field.type == "float":
                flag = f"--{field.name.replace('_', '-')}"
                assert train.main(["--algo", algo, flag, "nan"]) == 2
                assert f"{flag} is nan; it must be a finite number" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "null", '{"run": {"env": 3}}', '{"run": {"algo": ["ppo"]}}', "\x00"]
)
def test_run_folders_of_strangers(folder, capsys, content, monkeypatch):
    (folder / "run").mkdir()
    (folder / "run" / "config.json").write_text(content)
    (folder / "run" / "metrics.jsonl").write_text('{"env_steps": 1}\n{"env_st')
    for main, words in (
        (train.main, ["--resume", "run"]),
        (evaluate.main, ["run"]),
        (render.main, ["run", "--out", "x.html"]),
        (plot.main, ["run"]),
    ):
        assert main(words) == 2, words
        assert "config.json" in capsys.readouterr().err
    (folder / "run" / "group.json").write_text(content)
    assert train.main(["--resume", "run"]) == 2
    assert "group.json" in capsys.readouterr().err


def test_a_config_with_a_wrong_value_for_every_setting(folder, capsys):
    """Each value is replaced by one of another type, one at a time."""
    (folder / "run").mkdir()
    good = common.parse(["--hidden-sizes", "8"]).to_config() | {"machine": {}}
    for part in ("run", "train", "algorithm", "constraint"):
        for name in good[part]:
            bad = json.loads(json.dumps(good))
            bad[part][name] = {"a": 1}
            (folder / "run" / "config.json").write_text(json.dumps(bad))
            assert train.main(["--resume", "run"]) == 2
            said = " ".join(capsys.readouterr().err.split())
            assert "config.json does not fit" in said and name in said, (name, said)


def test_a_run_does_not_import_what_it_names(folder, capsys, monkeypatch):
    """A module beside the run could be anything."""
    (folder / "evil.py").write_text("open('touched', 'w').close()\n")
    monkeypatch.syspath_prepend(str(folder))
    (folder / "run" / "checkpoints" / "00000001").mkdir(parents=True)
    config = common.parse(["--env", "evil:factory"]).to_config() | {"machine": {}}
    (folder / "run" / "config.json").write_text(json.dumps(config))
    for main, words in (
        (train.main, ["--resume", "run"]),
        (evaluate.main, ["run"]),
        (render.main, ["run", "--out", "x.html"]),
    ):
        assert main(words) == 2
        assert "evil:factory, which is code of a module; allow it with --trust" in " ".join(
            capsys.readouterr().err.split()
        )
    with pytest.raises(ValueError, match="is code of a module"):
        mjx_safety.load_policy("run")
    assert not (folder / "touched").exists()
    assert evaluate.main(["run", "--trust"]) == 2
    assert (folder / "touched").exists()
