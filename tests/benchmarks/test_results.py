"""Files of results: whole, with the origin of each row, and without results of other kinds or of too few trials."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import campaign
import learning
import parity
import randomize
import result_file
import scaling
import tune
import versions

RESULTS = Path(result_file.__file__).parent / "results"
ORIGIN = {"started", "git_commit", "command"}


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("agreement", "envs"),
        ("velocity_agreement", "robots"),
        ("velocity_throughput", "robots"),
        *((name, "origins") for name in ("parity", "parity_mjx", "parity_warp", "velocity_parity")),
    ],
)
def test_each_row_of_a_file_of_several_calls_has_its_origin(name, part):
    result = result_file.read(RESULTS / f"{name}.json")
    assert all(row.keys() >= ORIGIN for row in result[part].values())
    if part == "origins":
        assert result["origins"].keys() == result["rows"].keys()


def test_a_row_that_is_kept_keeps_its_origin(tmp_path):
    file = tmp_path / "new" / "parity.json"
    old = {"started": "then", "git_commit": "a", "command": "b"}
    result_file.write(file, {"rows": {"first": 1, "second": 2}, "origins": {"first": old, "second": old}})
    kept = result_file.with_kept(file, {"second": 3})
    assert kept["rows"] == {"first": 1, "second": 3}
    assert kept["origins"] == {"first": old, "second": result_file.origin()}
    assert json.loads(file.read_text())["started"] == result_file.BEGUN["started"]  # not the end of the run


def folder_of_a_run(path, *evaluations, total_steps=64):
    path.mkdir()
    config = {"run": {"env": "a", "total_steps": total_steps}, "machine": {"command": ["python", "train.py"]}}
    (path / "config.json").write_text(json.dumps(config))
    names = ("episode_return", "episode_cost", "multiplier", "cost_rate", "steps_per_second", "seconds")
    rows = [{"env_steps": steps, **dict.fromkeys(names, 1.0)} for steps in (32, 64)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in evaluations:
        (path / f"{name}.json").write_text(json.dumps({"name": name}))
    return path


def test_the_evaluation_is_that_of_whole_episodes_in_the_worlds_of_the_training(tmp_path):
    others = ("evaluation-end-at-limit", "evaluation-randomize", "evaluation-mjx-randomize")
    for number, (there, judged) in enumerate(
        [((), None), (("evaluation-mjx",), "evaluation-mjx"), (("evaluation", "evaluation-mjx"), "evaluation")]
    ):
        run = folder_of_a_run(tmp_path / str(number), *others, *there)
        (run / "learning_curve.png").write_bytes(b"picture")
        kept = learning.keep(run, "one", tmp_path / "kept")["evaluation"]
        assert kept == (judged and {"name": judged})


def test_a_result_without_its_picture_is_not_kept(tmp_path, monkeypatch):
    run = folder_of_a_run(tmp_path / "run")
    with pytest.raises(FileNotFoundError):
        learning.keep(run, "PointGoal1-ppo-seed0", tmp_path)
    monkeypatch.setattr(campaign, "RESULTS", tmp_path)
    mine = campaign.Run("PointGoal1", "ppo", 0)
    assert not mine.is_kept()
    (run / "learning_curve.png").write_bytes(b"picture")
    learning.keep(run, "PointGoal1-ppo-seed0", tmp_path)
    assert mine.is_kept() and mine.is_kept(64) and not mine.is_kept(128)


def test_missed_bars_of_rows_that_are_kept_stay_missed():
    rows = {f"Hopper {engine}": {"next_qpos": error} for engine, error in (("mujoco", 1.0), ("mjx", 0.0))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity.velocity_parity, "missed", lambda row, *_: ["far"] if row["next_qpos"] else [])
        assert parity.velocity_parity.missed_by(rows) == ["Hopper mujoco far"]


def test_a_recording_that_is_not_there_is_named():
    with pytest.raises(SystemExit, match="has no recording PointGaol1; it has: CarButton0"):
        parity.main(parity.Args(envs=("PointGaol1",)))


def test_the_dynamics_are_judged_by_what_evaluate_prints(monkeypatch):
    asked = []

    def call(*words):
        asked.append(words)
        return json.dumps({"policies": {"mean": dict.fromkeys(randomize.KEPT, float(len(asked)))}})

    monkeypatch.setattr(randomize.programs, "call", call)
    rows = [randomize.judge(Path("runs/a"), words) for words in ("none", "mass=0.5,1.5")]
    assert [row["episode_return_mean"] for row in rows] == [1.0, 2.0]
    assert all("--json" in words for words in asked)


def trial(env, candidate, scores, num_diverged=0):
    row = dict(zip(tune.KEYS, ("ppo", env, candidate, 100, 2), strict=True))
    return row | {"returns": scores, "costs": scores, "scores": scores, "num_diverged": num_diverged}


def test_candidates_are_ranked_over_the_same_tasks():
    rows = [trial("A", "one", [0.9, 0.7]), trial("B", "one", [0.1, 0.1]), trial("A", "half", [0.9, 0.9])]
    rows += [trial("A", "lucky", [2.0], 1), trial("B", "lucky", [2.0, 2.0]), trial("A", "two", [0.3, 0.1])]
    rows += [trial("B", "two", [0.0, 0.0])]
    lines = tune.table(rows)
    assert [line.split("seeds, ")[1].split(":")[0] for line in lines] == ["one", "two", "lucky", "half"]
    assert "1 seeds diverged" in lines[2] and "lacks B" in lines[3]


def test_a_limit_of_0_has_no_relative_excess():
    with pytest.raises(SystemExit, match="the cost limit is 0; the excess over it is relative"):
        tune.score("SafetyPointGoal1-v0", 1.0, 1.0, 0.0, True)


def test_unequal_lists_are_refused_before_training():
    with pytest.raises(SystemExit, match="--num-envs has 1 numbers and --num-seeds 4"):
        scaling.main(scaling.Args(num_envs=(64,)))


@pytest.mark.parametrize(("status", "tests", "passed"), [(0, 3, 3), (5, 0, None), (4, 0, None), (0, 0, None)])
def test_a_run_without_tests_has_not_passed(status, tests, passed, tmp_path, monkeypatch):
    report = tmp_path / "report.xml"

    def run(command, **_):
        report.write_text(f'<testsuites><testsuite tests="{tests}" failures="0" errors="0" skipped="0"/></testsuites>')
        return versions.subprocess.CompletedProcess(command, status, "no tests ran", "")

    monkeypatch.setattr(versions, "environment", lambda *_: (tmp_path / "bin" / "python", ""))
    monkeypatch.setattr(versions, "call", lambda *_: versions.subprocess.CompletedProcess([], 0, "[]", ""))
    monkeypatch.setattr(versions, "origin", dict)
    monkeypatch.setattr(versions.subprocess, "run", run)
    case = versions.test("3.11", "newest", versions.Args())
    assert case.get("passed") == passed and ("problem" in case) == (passed is None)
