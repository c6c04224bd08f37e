"""What the command line says to somebody who comes from another package, or expects more of a flag."""

import pytest

from mjx_safety.cli import common, train
from mjx_safety.runs import training_checks

RESUMED = "has no use beside --resume: a run keeps its settings, and only --total-steps can change"


@pytest.mark.parametrize(
    ("name", "near"),
    [("PPOLag", "ppo-lag"), ("ppo_lagrangian", "ppo-lag"), ("TRPOLag", "trpo-lag"), ("CPO", "cpo")],
)
def test_other_names_of_algorithms_are_understood(name, near, capsys):
    assert train.main(["--algo", name]) == 2
    assert f"--algo {name} is unknown (did you mean {near}?)" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("flag", ["--cost-limit=3", "--learning_rate", "--no-keep-policies"])
def test_a_setting_beside_resume_is_explained(flag, capsys):
    assert train.main(["--resume", "runs/mine", flag]) == 2
    name = flag.split("=")[0].replace("_", "-").replace("--no-", "--")
    assert f"{name} {RESUMED}" in " ".join(capsys.readouterr().err.split())


def test_a_limit_without_costs_is_noted():
    def told(algo, costs):
        return training_checks.advice(common.parse(["--env", "SafetyPointGoal0-v0", "--algo", algo]), costs)

    expected = "Note: SafetyPointGoal0-v0 has no source of cost, so the limit of --algo ppo-lag has no effect"
    assert told("ppo-lag", ()) == expected
    assert told("ppo", ()) == "" and told("ppo-lag", ("hazards",)) == ""


def test_targets_beyond_the_unroll_are_noted():
    flags = ["--algo", "sac-lag", "--num-envs", "64", "--unroll-length", "8", "--num-target-steps"]
    assert "--num-target-steps 20 has the effect of 8" in training_checks.advice(common.parse([*flags, "20"]))
    assert training_checks.advice(common.parse([*flags, "8"])) == ""
