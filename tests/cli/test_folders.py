"""Folders that hold something already: nothing in them is lost, hidden, or taken for something else."""

import json
import math
import shutil

import pytest

import mjx_safety
from mjx_safety.cli import common, evaluate, plan, plot, submit, train
from mjx_safety.cli.plan import Plan
from mjx_safety.runs import loading, run_folder, sweeps
from mjx_safety.runs.errors import UsageError

SMALL = ["--num-envs", "8", "--unroll-length", "8", "--num-minibatches", "4", "--hidden-sizes", "8"]
SMALL += ["--physics", "mujoco", "--total-steps", "640"]


def write_run(path, flags=SMALL, saved=("00000002",), rows=3):
    """What a training with these flags leaves behind, with empty checkpoints."""
    for name in saved:
        (path / "checkpoints" / name).mkdir(parents=True)
    path.mkdir(parents=True, exist_ok=True)
    config = common.parse(flags).to_config() | {"machine": {}}
    (path / "config.json").write_text(json.dumps(config))
    lines = [json.dumps({"env_steps": 64 * i, "num_rollouts": i, "episode_return": 1.0}) for i in range(1, rows + 1)]
    (path / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))
    return path


def write_group(path, flags, saved):
    """saved: names of the checkpoints of each member."""
    options = common.parse(flags)
    members = sweeps.expand(options)
    for member, names in zip(members, saved, strict=True):
        write_run(path / member.name, [*SMALL, "--seed", str(member.options.run.seed)], names)
    sweeps.write(path, options, members)
    return path


def content(folder):
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def refused(capsys, main, *words):
    assert main([str(word) for word in words]) == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("name", ["first", "SafetyPointGoal1-v0/ppo-lag"])
def test_a_run_folder_goes_before_a_file_and_a_shipped_policy_of_its_name(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / name, saved=())
    shutil.copy(loading.SHIPPED / "SafetyPointGoal1-v0" / "ppo-lag.npz", f"{name}.npz")
    assert loading.find_file(name) is None and loading.find_file(f"{name}.npz") is not None
    with pytest.raises(ValueError, match=f"{name} has no checkpoint yet"):
        mjx_safety.load_policy(name)
    assert f"{name} has no checkpoint to evaluate" in refused(capsys, evaluate.main, name)


def test_a_group_goes_before_a_file_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_group(tmp_path / "exp", [*SMALL, "--num-seeds", "2"], [(), ()])
    (tmp_path / "exp.npz").write_text("")
    assert evaluate._check(evaluate.Flags(run=("exp",))) == ["exp/seed0", "exp/seed1"]
    with pytest.raises(ValueError, match=r"no config\.json; name one of the 2 in it, such as exp/seed0"):
        mjx_safety.load_policy("exp")


@pytest.mark.parametrize("flag", ["--out", "--resume-or-start"])
def test_a_group_does_not_start_where_a_run_is(flag, tmp_path):
    write_run(tmp_path / "exp" / "seed0")
    before = content(tmp_path)
    with pytest.raises(UsageError, match=f"{flag} .*exp already holds a run where a member of the group would be, "):
        plan.read([*SMALL, "--num-seeds", "2", flag, str(tmp_path / "exp")])
    assert content(tmp_path) == before


@pytest.mark.parametrize("left", ["metrics.jsonl", "checkpoints"])
def test_a_run_that_lost_its_config_is_not_overwritten(left, tmp_path):
    run = write_run(tmp_path / "exp" / "seed0")
    (run / "config.json").unlink()
    if left == "metrics.jsonl":
        shutil.rmtree(run / "checkpoints")
    else:
        (run / "metrics.jsonl").unlink()
    sentence = f"seed0 has {left}.* of a run but no config.json; bring that file back to continue the run, or choose"
    for words in (["--out", run], ["--resume-or-start", run], ["--num-seeds", "2", "--out", run.parent]):
        with pytest.raises(UsageError, match=sentence):
            plan.read([*SMALL, "--total-steps", "128", *map(str, words)])
    with pytest.raises(UsageError, match=sentence):
        submit.read(["--out", str(run.parent), "--", *SMALL])


def test_a_group_that_was_killed_before_all_had_a_checkpoint_starts_again(tmp_path):
    flags = [*SMALL, "--num-seeds", "2"]
    write_group(tmp_path, flags, [["00000001"], []])
    assert not plan.read([*flags, "--resume-or-start", str(tmp_path)]).resumes


def test_members_that_went_on_alone(tmp_path):
    flags = [*SMALL, "--num-seeds", "2"]
    write_group(tmp_path, flags, [["00000004", "00000006"], ["00000002", "00000003"]])
    sentence = (
        r"no iteration is saved of all members, so they cannot go on as a group \(newest of each: seed0: 6, seed1: 3\)"
        f"; continue each one alone, as in --resume {tmp_path}/seed0"
    )
    for words in (["--resume"], [*flags, "--resume-or-start"]):
        resumed = plan.read([*words, str(tmp_path)])
        assert resumed.resumes
        with pytest.raises(UsageError, match=sentence):
            resumed.restore(lambda: None)


def test_a_damaged_row_is_neither_lost_nor_silent(tmp_path, capsys):
    run = write_run(tmp_path / "run", rows=4)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    lines[1] = lines[1][:20]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    before = content(run)
    with pytest.raises(UsageError, match=f"{run}/metrics.jsonl has a damaged line 2, which is no row in JSON; mend"):
        plan.read(["--resume", str(run)])
    assert content(run) == before
    assert plot.main([str(run), "--out", str(tmp_path / "curves.png")]) == 0
    said = capsys.readouterr()
    assert f"{run}/metrics.jsonl is damaged in line 2; the numbers are without that" in " ".join(said.err.split())
    assert "return 1.00" in said.out


def test_a_run_may_be_extended_though_defaults_follow_its_length(tmp_path, capsys):
    start = ["--algo", "ppo-lag", "--physics", "mujoco"]
    write_run(tmp_path / "run", [*start, "--total-steps", "1e7"])
    command = [*start, "--resume-or-start", str(tmp_path / "run"), "--total-steps", "1e8"]
    longer = plan.read(command)
    assert longer.resumes and longer.options.run.total_steps == 10**8
    stored = run_folder.read_options(tmp_path / "run" / "config.json")
    assert longer.options.constraint == stored.constraint
    assert "keeps its --multiplier-learning-rate 0.0125 (the default is now 0.00124" in capsys.readouterr().err
    assert plan.read([*command, "--multiplier-learning-rate", "0.0125"]).resumes
    for flag, value in (("--multiplier-learning-rate", "0.5"), ("--num_envs", "512"), ("--num-iterations", "7")):
        with pytest.raises(UsageError, match=f"holds a run with other settings: {flag.replace('_', '-')} .*, not "):
            plan.read([*command, flag, value])


def test_a_job_does_not_take_another_run_for_its_own(tmp_path):
    argv = [word for word in SMALL if word not in ("--physics", "mujoco")]
    write_run(tmp_path / "seed0", [*SMALL, "--cost-limit", "5"], ["00000010"])
    sentence = f"{tmp_path}/seed0,? holds a run with other settings: --cost-limit 5.0, not 25.0"
    with pytest.raises(UsageError, match=sentence):
        submit.read(["--out", str(tmp_path), "--", *argv])
    with pytest.raises(UsageError, match=sentence):
        submit.Job([*argv, "--seed", "0"], tmp_path / "seed0")()
    assert not (tmp_path / "group.json").exists()
    _, (job,) = submit.read(["--out", str(tmp_path), "--", *argv, "--cost-limit", "5"])
    assert job() == 0, "its own is done, on whatever engine"


def test_a_limit_that_is_no_number_is_not_drawn(tmp_path, capsys):
    run = write_run(tmp_path / "run")
    config = run_folder.read_config(run)
    for limit in (math.nan, -1.0):
        config["run"]["cost_limit"] = limit
        run_folder.write_config(run, config)
        assert f"has cost_limit {limit}; it must be at least 0" in refused(capsys, plot.main, run)


def test_a_folder_of_a_group_counts_as_begun_once_more_than_its_first_checkpoints_are_there(tmp_path):
    flags = [*SMALL, "--num-seeds", "2"]
    for number, (saved, begun) in enumerate(
        [(((), ()), False), ((["1"], ()), False), ((["1", "2"], ()), True), ((["1"], ["2"]), True)]
    ):
        path, options = tmp_path / str(number), common.parse(flags)
        write_group(path, flags, saved)
        assert Plan(options, sweeps.expand(options), path, resumes=False).has_begun == begun


@pytest.mark.parametrize(
    "change", [{"cost_estimate": "x"}, {"episode_cost": float("nan")}, {"seconds": [1]}, {"env_steps": 10**400}]
)
def test_rows_that_hold_no_numbers_are_damaged(change, tmp_path, capsys):
    run = write_run(tmp_path / "run", rows=4)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [rows[0] | change, *rows[1:]]))
    assert run_folder.damaged_lines(run) == [1] and len(run_folder.read_rows(run)) == 3
    assert "metrics.jsonl has a damaged line 1, which is no row in JSON" in refused(capsys, train.main, "--resume", run)


def test_rows_without_an_iteration_cannot_be_continued(tmp_path, capsys):
    run = write_run(tmp_path / "run", rows=2)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"env_steps": 192}\n')
    before = content(run)
    said = refused(capsys, train.main, "--resume", run)
    assert "metrics.jsonl has a damaged line 3, which lacks num_rollouts; mend or delete that line" in said
    assert content(run) == before


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"machine": "mine"}, "has machine of type str; it must be of type dict"),
        ({"resumed": "twice"}, "has resumed of type str; it must be of type list"),
        ({"diverged": 3}, "has diverged of type int; it must be of type str"),
    ],
)
def test_a_history_of_other_types_is_refused(change, sentence, tmp_path):
    run = write_run(tmp_path / "run")
    (run / "config.json").write_text(json.dumps(json.loads((run / "config.json").read_text()) | change))
    with pytest.raises(UsageError, match=sentence):
        run_folder.read_config(run)
    with pytest.raises(ValueError, match=sentence):
        mjx_safety.load_policy(run)


def test_a_config_that_is_too_deep_is_refused(tmp_path, capsys):
    run = write_run(tmp_path / "run")
    (run / "config.json").write_text("[" * 100_000)
    assert "config.json cannot be read" in refused(capsys, train.main, "--resume", run)


def test_a_group_of_jobs_goes_on_with_the_engine_that_they_chose(tmp_path):
    """`submit` writes "auto" for the group, and each job what that is on its machine."""
    flags = ["--num-seeds", "2", *SMALL, "--physics", "auto"]
    group = write_group(tmp_path / "jobs", flags, [("00000002",), ("00000002",)])
    assert sweeps.read(group).run.physics == "auto"
    for config in group.glob("*/config.json"):
        config.write_text(config.read_text().replace('"mujoco"', '"mjx"'))
    assert plan.read(["--resume", str(group)]).options.run.physics == "mjx"
