"""The commands: a run folder from start to evaluation, stopping, resuming, and wrong input."""

import dataclasses
import json
import signal
import time

import pytest
from agents import probe_envs

from mjx_safety.agents import checkpoint
from mjx_safety.cli import common, evaluate, train
from mjx_safety.runs import environments, errors, run_folder, sweeps, training_checks, training_options

FLAGS = ["--num-envs", "8", "--unroll-length", "8", "--num-minibatches", "4", "--hidden-sizes", "8"]
FLAGS += ["--cost-limit", "5", "--no-compilation-cache", "--physics", "mujoco"]
BATCH = 64  # steps per iteration under FLAGS


@pytest.fixture(autouse=True)
def probe(monkeypatch):
    """Every command gets a toy world, and leaves JAX's settings alone."""
    monkeypatch.setattr(environments, "build_env", lambda env_id, physics, **_: probe_envs.Random())
    monkeypatch.setattr(common, "set_up_jax", lambda compilation_cache: None)


def without_times(rows):
    return [{name: row[name] for name in row if name not in ("seconds", "steps_per_second")} for row in rows]


def test_a_run_from_start_to_evaluation(tmp_path, capsys):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    flags = [*FLAGS, "--num-iterations", "10"]  # schedules follow the whole training, also in its first half
    assert train.main([*flags, "--total-steps", str(10 * BATCH), "--out", str(whole)]) == 0
    said = capsys.readouterr().out
    assert all(text in said for text in (f"python -m mjx_safety.evaluate {whole}", "Learning curve", "Checkpoint"))
    config = run_folder.read_config(whole)
    assert config["algorithm"]["hidden_sizes"] == [8] and config["machine"]["versions"]["jax"]
    assert (whole / "learning_curve.png").stat().st_size > 1000
    assert list((whole / "tensorboard").iterdir())

    assert train.main([*flags, "--total-steps", str(5 * BATCH), "--out", str(halves)]) == 0
    with (halves / "metrics.jsonl").open("a") as file:  # as if a crash came after the checkpoint
        file.write(json.dumps(run_folder.read_rows(halves)[-1] | {"num_rollouts": 6.0}) + "\n")
    assert train.main(["--resume", str(halves), "--total-steps", str(10 * BATCH)]) == 0
    rows = run_folder.read_rows(whole)
    assert [row["env_steps"] for row in rows] == [BATCH * i for i in range(1, 11)]
    assert without_times(run_folder.read_rows(halves)) == without_times(rows)

    capsys.readouterr()
    assert evaluate.main([str(whole), "--episodes", "16", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((whole / "evaluation.json").read_text())
    assert 0.0 <= result["policies"]["mean"]["over_limit_share"] <= 1.0
    assert result["env_steps"] == 10 * BATCH

    assert train.main(["--resume", str(whole)]) == 2
    assert "already at 640; it must be at least 704" in said_wrong(capsys)


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    record = run_folder.RunFolder.record

    def record_and_interrupt(self, rows, seconds):
        signal.raise_signal(signal.SIGINT)
        return record(self, rows, seconds)

    monkeypatch.setattr(run_folder.RunFolder, "record", record_and_interrupt)
    before = signal.getsignal(signal.SIGINT)
    assert train.main([*FLAGS, "--total-steps", str(100 * BATCH), "--out", str(tmp_path / "run")]) == 0
    assert signal.getsignal(signal.SIGINT) is before
    assert f"--resume {tmp_path / 'run'}" in capsys.readouterr().out
    assert len(run_folder.read_rows(tmp_path / "run")) == 1
    assert (tmp_path / "run" / "checkpoints" / "00000001").is_dir()


@pytest.mark.parametrize(("seconds", "num_saves"), [(0.0, 5), (0.5, 2)])
def test_slow_saves_are_rare(seconds, num_saves, tmp_path, monkeypatch):
    """Four chunks and the end. A save of half a second may come every 100 s only."""
    save, saved = checkpoint.save, []

    def slow_save(folder, state):
        time.sleep(seconds)
        saved.append(int(state.num_rollouts))
        return save(folder, state)

    monkeypatch.setattr(train, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(train, "SAVE_SHARE", 1e3 if seconds == 0.0 else 0.005)
    monkeypatch.setattr(checkpoint, "save", slow_save)
    assert train.main([*FLAGS, "--total-steps", str(8 * BATCH), "--out", str(tmp_path / "run")]) == 0
    assert len(saved) == num_saves and saved[-1] == 8


def said_wrong(capsys):
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--num-envs", "0"], "--num-envs is 0; it must be at least 1"),
        (["--total-steps", "100"], "--total-steps is 100; it must be at least 128"),
        (["--algo", "ppo-lagg"], "did you mean ppo-lag?); it must be one of: ppo, ppo-lag, ppo-lag-adam"),
        (["--cost-limit", "-1"], "--cost-limit is -1.0; it must be at least 0"),
        (["--num-minibatches", "100"], "--num-minibatches is 100; it must be at most the 64 samples"),
        (["--discount", "1.5"], "--discount is 1.5; it must be at least 0 and at most 1"),
        (["--num-seeds", "0"], "--num-seeds is 0; it must be at least 1"),
        (["--sweep", "num-envs=1,2"], "--sweep num-envs cannot be swept; it must be one of: cost-limit, discount"),
        (["--sweep", "cost-limit=1,x"], "--sweep cost-limit=1,x cannot be read; it must look like cost-limit=5,15,25"),
        (["--sweep", "cost-limit=5,5"], "--sweep cost-limit=5,5 has 5.0 twice; each of its values must be another one"),
        (["--sweep", "cost-limit=5", "cost-limit=10"], "--sweep has cost-limit twice; all its values must stand"),
        (["--sweep", "cost-limit=5,-1"], "--cost-limit is -1.0; it must be at least 0"),
        (["--cost-limits", "probe=3", "probe=4"], "--cost-limits has probe twice; each source must have one limit"),
        (["--cost_limits", "--algo", "ppo"], "--cost-limits has no value; name one or more, or leave it out"),
        (["--cost-limits", "probe"], "--cost-limits probe cannot be read; it must look like hazards=20"),
        (
            ["--cost-limits", "hazards=3"],
            "--cost-limits hazards: SafetyPointGoal1-v0 has no such source; it must be one of: probe",
        ),
        (["--cost-limits", "probe=3", "--sweep", "cost-limit=1,2"], "--sweep cost-limit is for the limit of the whole"),
        (["--algo", "cpo", "--cost-limits", "a=3", "b=4"], "cpo holds one limit, not 2 (a, b)"),
        (["--algo", "ppo-early", "--cost-limit", "0"], "--cost-limit is 0.0; --algo ppo-early needs a budget of cost"),
        (["--algo", "ppo-simmer", "--cost-limit", "inf"], "so it must be above 0 and finite"),
        (["--algo", "ppo", "--limit-start", "2"], "--limit-start is 2.0; --algo ppo has no limit, so it must be 1"),
        (["--algo", "trpo-saute", "--limit-start", "2"], "--algo trpo-saute has a budget instead of a limit"),
        (["--algo", "ipo", "--least-room", "0"], "--least-room is 0.0; it must be above 0"),
        (["--algo", "focops", "--temperature", "0"], "--temperature is 0.0; it must be above 0"),
        (["--algo", "ppo-pid", "--smoothing", "1"], "--smoothing is 1.0; it must be at least 0 and below 1"),
        (["--algo", "ppo-lag-softplus", "--multiplier-init", "0"], "--multiplier-init is 0.0; it must be above 0"),
        (["--cost-smoothing", "1"], "--cost-smoothing is 1.0; it must be at least 0 and below 1"),
        (["--hidden-sizes", "0"], "--hidden-sizes is (0,); it must be one or more numbers of units"),
        (["--algo", "ppo-simmer", "--budget-start", "0"], "--budget-start is 0.0; it must be above 0 and at most 1"),
        (["--algo", "ppo-simmer", "--cost-limits", "probe=3"], "--algo ppo-simmer is for the limit of the whole cost"),
        (["--risk-level", "1"], "--risk-level is 1.0; it must lie between 0 and 0.99"),
        (["--risk-level", "-0.5"], "--risk-level is -0.5; it must be at least 0"),
        (
            ["--risk-level", "0.9", "--algo", "cpo"],
            "--risk-level is not for --algo cpo; the algorithm must be one of: ",
        ),
        (
            ["--risk-level", "0.9", "--use-completed-episodes"],
            "--use-completed-episodes has no use beside --risk-level",
        ),
        (
            ["--sweep", "risk-level=0,0.9"],
            "--sweep risk-level cannot be swept; it must be one of: cost-limit, discount",
        ),
    ],
)
def test_wrong_flags_end_with_one_sentence(flags, sentence, tmp_path, capsys):
    assert train.main([*FLAGS, "--out", str(tmp_path), *flags]) == 2
    assert sentence in said_wrong(capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--updates-per-step", "0"], "--updates-per-step is 0.0; it must be above 0"),
        (["--tau", "2"], "--tau is 2.0; it must be above 0 and at most 1"),
        (["--random-steps", "1000000"], "--random-steps is 1000000.0; it must be below --total-steps"),
        (["--replay-capacity", "60", "--batch-size", "4"], "--replay-capacity is 60; it must be at least the 64 steps"),
        (["--replay-capacity", "60"], "replay_capacity is 60; it must be at least batch_size, "),
    ],
)
def test_wrong_flags_of_sac_end_with_one_sentence(flags, sentence, tmp_path, capsys):
    shared = [word for word in FLAGS if word not in ("--num-minibatches", "4")]
    assert train.main([*shared, "--algo", "sac-lag", "--out", str(tmp_path), *flags]) == 2
    assert sentence in said_wrong(capsys)
    assert not list(tmp_path.iterdir())


def test_sac_has_no_settings_of_advantages(capsys):
    with pytest.raises(SystemExit):
        train.main(["--algo", "sac-lag", "--gae-lambda", "0.9"])
    assert "gae-lambda" in capsys.readouterr().err
    assert not any("gae" in name for name in common.parse(["--algo", "sac-lag"]).to_config()["train"])


@pytest.mark.parametrize("text", ["2000000", "2_000_000", "2e6"])
def test_steps_may_be_written_as_researchers_do(text):
    assert common.parse(["--total-steps", text]).run.total_steps == 2_000_000


def test_steps_are_whole(capsys):
    for text in ("1.5", "many"):
        with pytest.raises(SystemExit):
            common.parse(["--total-steps", text])
        assert "--total-steps" in capsys.readouterr().err


def test_brackets_in_messages_are_no_markup(capsys):
    def fail(argv):
        raise errors.UsageError("pip install 'mjx-safety[viz]'")

    assert common.run_command(fail, []) == 2
    assert "'mjx-safety[viz]'" in capsys.readouterr().err


def test_wrong_folders_end_with_one_sentence(tmp_path, capsys):
    assert train.main(["--resume", str(tmp_path)]) == 2
    assert "is not a run folder: it has no config.json" in said_wrong(capsys)
    assert evaluate.main([str(tmp_path)]) == 2
    assert "is not a run folder" in said_wrong(capsys)
    config = common.parse(FLAGS).to_config()
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert train.main(["--resume", str(tmp_path)]) == 2
    assert "has no checkpoint to continue from" in said_wrong(capsys)
    assert train.main([*FLAGS, "--out", str(tmp_path)]) == 2
    assert "already holds a run" in said_wrong(capsys)


@pytest.mark.parametrize("algo", training_options.ALGORITHMS)
def test_every_algorithm_has_help_and_survives_config_json(algo, capsys):
    with pytest.raises(SystemExit):
        train.main(["--algo", algo, "--help"])
    shown = capsys.readouterr().out
    choice = training_options.ALGORITHMS[algo]
    for config in (choice.config, choice.constraint):
        for field in dataclasses.fields(config):
            assert f"--{field.name.replace('_', '-')}" in shown
    options = common.parse(["--algo", algo, "--hidden-sizes", "8", "--cost-limit", "7"])
    assert training_options.Options.from_config(json.loads(json.dumps(options.to_config()))) == options
    assert options.build().constraint.limits == 7.0


@pytest.mark.parametrize("algo", training_options.ALGORITHMS)
def test_the_command_line_has_the_defaults_of_the_library(algo):
    options, choice = common.parse(["--algo", algo]), training_options.ALGORITHMS[algo]
    train_config = options.train
    if not choice.is_off_policy:  # the library cannot know how long a training will be
        train_config = train_config.replace(num_iterations=float("inf"))
    assert (train_config, options.algorithm) == (choice.train_config(), choice.config())
    assert options.constraint == choice.constraint()


@pytest.mark.slow
def test_a_limit_on_the_cvar_from_start_to_resumption(tmp_path, capsys):
    """The rows name the CVaR once ten whole episodes have ended, and the memory of them is in the checkpoint."""
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    flags = [*FLAGS, "--risk-level", "0.9", "--num-iterations", "10"]
    assert train.main([*flags, "--total-steps", str(10 * BATCH), "--out", str(whole)]) == 0
    assert "CVaR" in capsys.readouterr().out
    assert train.main([*flags, "--total-steps", str(5 * BATCH), "--out", str(halves)]) == 0
    assert train.main(["--resume", str(halves), "--total-steps", str(10 * BATCH)]) == 0
    rows = run_folder.read_rows(whole)
    assert without_times(run_folder.read_rows(halves)) == without_times(rows)
    assert rows[0]["cost_cvar"] is None and rows[0]["limit_acts"] == 0.0
    assert rows[-1]["cost_cvar"] > rows[-1]["cost_estimate"] > 0.0 and rows[-1]["limit_acts"] == 1.0
    assert run_folder.read_config(whole)["run"]["risk_level"] == 0.9


def test_a_group_of_budgets_that_rise(tmp_path):
    """Settings of the controller are swept like any other, and the budget is in the rows."""
    flags = [word for word in FLAGS if word not in ("--cost-limit", "5")]
    assert train.main([*flags, "--algo", "ppo-simmer", "--sweep", "budget-start=0.1,0.5", "--total-steps", "640",
                       "--cost-limit", "20", "--out", str(tmp_path / "group")]) == 0  # fmt: skip
    for member, start in zip(sorted((tmp_path / "group").glob("*/config.json")), (0.1, 0.5), strict=True):
        rows = run_folder.read_rows(member.parent)
        assert rows[0]["cost_budget"] == pytest.approx(20.0 * start, rel=0.2)
        assert all(20.0 * start * 0.999 <= row["cost_budget"] <= 20.0 for row in rows)


@pytest.mark.thorough
def test_a_group_holds_runs_like_any_other(tmp_path, capsys):
    """Two limits and two seeds side by side; then one of them alone; then the group goes on."""
    path, alone = tmp_path / "group", tmp_path / "alone"
    sweep = ["--algo", "ppo-lag", "--sweep", "cost-limit=2,8", "multiplier-learning-rate=0.1", "--num-seeds", "2"]
    assert train.main([*FLAGS, *sweep, "--total-steps", str(3 * BATCH), "--out", str(path)]) == 0
    said = capsys.readouterr().out
    assert "4 x ppo-lag" in said and str(path / "pareto.png") in said
    members = sorted(folder.name for folder in path.iterdir() if run_folder.holds_run(folder))
    one = "cost-limit2-multiplier-learning-rate0.1-seed1"
    assert len(members) == 4 and one in members
    points = json.loads((path / "pareto.json").read_text())
    assert [(point["cost_limit"], point["num_seeds"]) for point in points] == [(2.0, 2), (8.0, 2)]
    assert (path / "pareto.png").stat().st_size > 1000

    limit = ["--cost-limit", "2", "--multiplier-learning-rate", "0.1", "--seed", "1"]
    assert train.main([*FLAGS, *limit, "--total-steps", str(3 * BATCH), "--out", str(alone)]) == 0
    for mine, its in zip(run_folder.read_rows(alone), run_folder.read_rows(path / one), strict=True):
        for name in ("return_estimate", "multiplier", "cost_rate", "value_loss"):
            assert mine[name] == pytest.approx(its[name], rel=1e-4, abs=1e-5)
    config = run_folder.read_config(path / one)["run"]
    assert (config["seed"], config["num_seeds"], config["sweep"], config["cost_limit"]) == (1, 1, [], 2.0)

    assert train.main(["--resume", str(path), "--total-steps", str(5 * BATCH)]) == 0
    assert train.main(["--resume", str(alone), "--total-steps", str(5 * BATCH)]) == 0
    assert len(run_folder.read_rows(path / one)) == 5
    assert run_folder.read_rows(path / one)[-1]["multiplier"] == pytest.approx(
        run_folder.read_rows(alone)[-1]["multiplier"], rel=1e-4
    )


def test_members_whose_values_print_alike_share_no_folder(tmp_path):
    sweep = ["--algo", "ppo-lag", "--sweep", "cost-limit=1000000,1000001", "learning-rate=0.001,0.0010000001"]
    assert train.main([*FLAGS, *sweep, "--total-steps", str(2 * BATCH), "--out", str(tmp_path)]) == 0
    folders = [folder for folder in tmp_path.iterdir() if run_folder.holds_run(folder)]
    assert len(folders) == 4
    for folder in folders:
        assert [row["env_steps"] for row in run_folder.read_rows(folder)] == [BATCH, 2 * BATCH]
    assert len(json.loads((tmp_path / "pareto.json").read_text())) == 4
    assert len({run_folder.read_config(folder)["run"]["cost_limit"] for folder in folders}) == 2


@pytest.mark.thorough
def test_a_member_that_diverges_leaves_the_others_alone(tmp_path, capsys):
    """A critic's step of 1e30 overflows at once. That member ends there, without a checkpoint of a spoilt state."""
    path = tmp_path / "group"
    sweep = ["--algo", "ppo-lag", "--sweep", "critic-learning-rate=1e30,1e-3", "--num-seeds", "2"]
    assert train.main([*FLAGS, *sweep, "--total-steps", str(5 * BATCH), "--out", str(path)]) == 0
    said = capsys.readouterr().out
    assert "Diverged:       critic-learning-rate1e+30-seed0, " in said and str(path / "pareto.png") in said
    lost, kept = path / "critic-learning-rate1e+30-seed0", path / "critic-learning-rate0.001-seed1"
    assert "in iteration" in run_folder.read_config(lost)["diverged"]
    assert "diverged" not in run_folder.read_config(kept)
    rows = run_folder.read_rows(lost)
    assert rows[-1]["diverged"] == 1.0 and len(rows) < 5 and "diverged" not in rows[0]
    assert [row["num_rollouts"] for row in run_folder.read_rows(kept)] == [1, 2, 3, 4, 5]
    assert (kept / "checkpoints" / "00000005").is_dir()
    assert [path.name for path in (lost / "checkpoints").iterdir()] == ["00000001"]  # the warm-up changes no network
    of_lost, of_kept = json.loads((path / "pareto.json").read_text())
    assert (of_lost["num_seeds"], of_lost["num_diverged"], of_lost["return_mean"]) == (0, 2, None)
    assert (of_kept["num_seeds"], of_kept["num_diverged"]) == (2, 0)
    last = [run_folder.read_rows(path / f"critic-learning-rate0.001-seed{seed}")[-1] for seed in (0, 1)]
    gains = [row["episode_return"] if row["has_completed"] else row["return_estimate"] for row in last]
    assert of_kept["return_std"] == pytest.approx(abs(gains[0] - gains[1]) / 2**0.5, rel=1e-5)

    assert train.main(["--resume", str(path), "--total-steps", str(7 * BATCH)]) == 0
    assert len(run_folder.read_rows(kept)) == 7 and run_folder.read_rows(lost) == rows
    assert "in iteration" in run_folder.read_config(lost)["diverged"]


def test_a_run_that_diverges_ends_with_its_last_good_checkpoint(tmp_path, capsys):
    flags = ["--critic-learning-rate", "1e30", "--total-steps", str(9 * BATCH), "--out", str(tmp_path / "run")]
    assert train.main([*FLAGS, *flags]) == 1
    said = said_wrong(capsys)
    assert "error: training diverged: " in said and "try a smaller --learning-rate" in said
    last = tmp_path / "run" / "checkpoints" / "00000001"
    assert f"iteration 1 is saved in {last}" in said and last.is_dir()
    assert run_folder.read_rows(tmp_path / "run")[-1]["diverged"] == 1.0
    assert evaluate.main([str(tmp_path / "run"), "--episodes", "8", "--json"]) == 0


@pytest.mark.slow
def test_a_group_resumes_bit_for_bit(tmp_path):
    seeds = ["--algo", "cpo", "--num-seeds", "2"]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert train.main([*FLAGS, *seeds, "--total-steps", str(6 * BATCH), "--out", str(whole)]) == 0
    assert train.main([*FLAGS, *seeds, "--total-steps", str(3 * BATCH), "--out", str(halves)]) == 0
    assert train.main(["--resume", str(halves), "--total-steps", str(6 * BATCH)]) == 0
    for seed in ("seed0", "seed1"):
        rows = [without_times(run_folder.read_rows(path / seed)) for path in (whole, halves)]
        assert rows[0] == rows[1] and len(rows[0]) == 6


def test_a_limit_for_each_source(tmp_path, capsys):
    flags = ["--cost-limits", "probe=3", "--multiplier-learning-rate", "0.1"]
    assert train.main([*FLAGS, *flags, "--total-steps", str(4 * BATCH), "--out", str(tmp_path)]) == 0
    rows = run_folder.read_rows(tmp_path)
    assert rows[-1]["multiplier_probe"] == rows[-1]["multiplier"] > 0.0
    assert rows[-1]["cost_estimate_probe"] > 3.0
    assert "limit 3)" in capsys.readouterr().out.splitlines()[1]


def test_members_of_a_group():
    options = common.parse(
        ["--algo", "cpo", "--sweep", "cost-limit=5,15", "max-kl=0.01", "--num-seeds", "2", "--seed", "3"]
    )
    members = sweeps.expand(options)
    assert [member.name for member in members][:2] == ["cost-limit5-max-kl0.01-seed3", "cost-limit5-max-kl0.01-seed4"]
    assert members[3].options.run.cost_limit == 15.0 and members[3].options.algorithm.max_kl == 0.01


@pytest.mark.parametrize(("num_envs", "unroll_length"), [(1, 1024), (64, 256), (256, 64), (4096, 4), (65536, 4)])
def test_rollouts_keep_their_size_for_any_number_of_worlds(num_envs, unroll_length):
    assert common.parse(["--num-envs", str(num_envs)]).train.unroll_length == unroll_length


def test_many_worlds_in_a_short_training_are_told_what_fits():
    def told(*flags):
        return training_checks.advice(common.parse(list(flags)))

    assert told("--num-envs", "4096") == (
        "Note: with 4096 worlds and 1e+07 steps, unrolls have only 4 steps and learn badly; take at most --num-envs "
        "1024, or --total-steps 4e+07"
    )
    for fits in (["256"], ["1024"], ["4096", "--total-steps", "4e7"], ["4096", "--algo", "sac-lag"]):
        assert told("--num-envs", *fits) == ""


def test_gradient_steps_and_multipliers_follow_the_size_of_a_run():
    def of(*flags):
        options = common.parse(["--algo", "ppo-lag", *flags])
        return options.algorithm.num_minibatches, options.constraint.multiplier_learning_rate

    for flags in ((), ("--total-steps", "3e6")):  # never faster than the task is learned
        assert of(*flags) == (16, pytest.approx(0.0125, rel=0.01))
    assert of("--total-steps", "1e8") == (16, pytest.approx(0.00125, rel=0.01))
    assert of("--num-envs", "65536", "--total-steps", "1e8") == (64, 0.0125)  # larger iterations, so fewer
