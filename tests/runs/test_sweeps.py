"""Members of a group: one name, one label and one folder for each value."""

import json

import pytest

from mjx_safety.cli import common
from mjx_safety.runs import sweeps
from mjx_safety.runs.errors import UsageError
from mjx_safety.runs.training_options import Options


def members(*words):
    return sweeps.expand(common.parse(["--algo", "ppo-lag", "--sweep", *words]))


def test_values_that_print_alike_have_different_names():
    pairs = {
        "cost-limit=1000000,1000001": ["cost-limit1000000.0-seed0", "cost-limit1000001.0-seed0"],
        "learning-rate=0.001,0.0010000001": ["learning-rate0.001-seed0", "learning-rate0.0010000001-seed0"],
        "cost-limit=0.1234567,1000000,5": [f"cost-limit{text}-seed0" for text in ("0.123457", "1e+06", "5")],
    }
    for words, names in pairs.items():
        found = members(words)
        assert [member.name for member in found] == names
        assert len({member.label for member in found}) == len(names)


def test_all_members_of_a_wide_sweep_have_folders_of_their_own():
    close = ",".join(repr(25.0 + step * 2.0**-40) for step in range(50))
    found = members(f"cost-limit={close}", "learning-rate=1e-4,0.00010000000001")
    assert len({member.name for member in found}) == len({member.label for member in found}) == 100
    assert all("/" not in member.name for member in found)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["cost-limit=5,5"], "--sweep cost-limit=5,5 has 5.0 twice; each of its values must be another one"),
        (["cost-limit=5,8,5e0"], "has 5.0 twice"),
        (["cost-limit=0,-0"], "has 0.0 twice"),
        (["cost-limit=5", "cost-limit=10"], "--sweep has cost-limit twice; all its values must stand together"),
        (["cost-limit=5", "learning-rate=1e-3", "cost-limit=5"], "--sweep has cost-limit twice"),
    ],
)
def test_what_is_there_twice_is_refused(words, sentence):
    with pytest.raises(UsageError, match=sentence):
        members(*words)


def test_a_group_keeps_the_run_it_starts_from(tmp_path):
    options = common.parse(["--init-from", str(tmp_path / "first"), "--num-seeds", "2"])
    sweeps.write(tmp_path / "group", options, sweeps.expand(options))
    assert sweeps.read(tmp_path / "group") == options
    plain = json.loads(json.dumps(options.to_config()))
    assert Options.from_config(plain) == options and Options.from_config(plain).difference(options) is None
