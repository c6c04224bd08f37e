"""Policy files that are damaged, or that a stranger wrote: one sentence, whatever is in them."""

import json
import random
import zipfile

import numpy as np
import pytest

import mjx_safety
from mjx_safety.cli import evaluate, export, play
from mjx_safety.runs import loading


@pytest.fixture(scope="module")
def arrays():
    with np.load(loading.SHIPPED / "SafetyPointGoal1-v0" / "ppo-lag.npz") as file:
        return dict(file)


def written(path, arrays, change=None, **replaced):
    """Write a policy file. change: function that changes what `about` holds."""
    about = json.loads(str(arrays["about"]))
    if change:
        change(about)
    np.savez(path, **arrays | {"about": np.array(json.dumps(about))} | replaced)
    return path


def reason(path):
    with pytest.raises(ValueError, match=rf"{path.name} is no policy of mjx_safety.export: ") as caught:
        mjx_safety.load_policy(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("replaced", "sentence"),
    [
        ({"weight_0": np.zeros((3, 3), np.float32)}, r"its weight_0 has shape \(3, 3\); it must have \(60, 64\)"),
        ({"obs_mean": np.zeros(59, np.float32)}, r"its obs_mean has shape \(59,\); it must have \(60,\)"),
        ({"obs_mean": np.zeros(60, complex)}, "its obs_mean has entries that are no finite numbers"),
        ({"bias_0": np.full(64, np.nan, np.float32)}, "its bias_0 has entries that are no finite numbers"),
        ({"obs_std": np.zeros(60, np.float32)}, "its obs_std must be above 0"),
        ({"log_std": np.zeros(3, np.float32)}, r"its log_std has shape \(3,\); it must have \(2,\)"),
    ],
)
def test_arrays_that_are_no_network_are_refused(replaced, sentence, arrays, tmp_path):
    path = written(tmp_path / "a.npz", arrays, **replaced)
    with pytest.raises(ValueError, match=sentence):
        mjx_safety.load_policy(path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda about: about["network"].update(activation="eval"), "its activation is 'eval'; it must be one of: tanh"),
        (lambda about: about["network"].update(obs_clip=float("nan")), "the bound nan, which is no number"),
        (lambda about: about["action"].update(size="2"), "its action has the size '2'"),
        (lambda about: about["observation"].update(slices=[1]), "no attribute 'items'"),
        (lambda about: about.update(origin=[]), "its origin"),
        (lambda about: about["origin"].update(config=3), "its origin has config '3'; it must be of type dict"),
        (lambda about: about["origin"]["config"].update(run=[1]), "its training"),
        (lambda about: about["origin"]["config"]["run"].update(cost_limits=3), "cost_limits '3'; it must be a list of"),
        (lambda about: about["origin"]["config"]["run"].update(randomize=[3]), "it must be a list of texts"),
    ],
)
def test_descriptions_of_other_types_are_refused(change, sentence, arrays, tmp_path, capsys):
    path = written(tmp_path / "a.npz", arrays, change)
    assert sentence in reason(path)
    for main in (evaluate.main, export.main, play.main):
        assert main([str(path)]) == 2
        assert "is no policy of mjx_safety.export" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("name", ["algo", "seed", "physics", "cost_limits"])
def test_a_policy_must_say_how_it_was_trained_to_be_evaluated(name, arrays, tmp_path, capsys):
    path = written(tmp_path / "a.npz", arrays, lambda about: about["origin"]["config"]["run"].pop(name))
    assert evaluate.main([str(path)]) == 2
    assert f"does not say how it was trained: it lacks '{name}'" in " ".join(capsys.readouterr().err.split())


def test_an_array_that_is_larger_than_the_memory_is_refused(arrays, tmp_path):
    path = written(tmp_path / "a.npz", arrays)
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,), }".ljust(117) + "\n"
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("more.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    assert "allocate" in reason(path)


def test_one_wrong_bit_is_refused_or_changes_nothing(tmp_path):
    """Bits of the compressed arrays, and of the tables of the archive."""
    path = loading.SHIPPED / "SafetyPointGoal1-v0" / "ppo-lag.npz"
    whole, chance = path.read_bytes(), random.Random(0)
    good = mjx_safety.load_policy(path)
    table = whole.index(b"PK\x01\x02")
    places = [*range(30), *range(table, table + 46), *(chance.randrange(len(whole)) for _ in range(60))]
    refused = 0
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.randrange(8)
        (tmp_path / "a.npz").write_bytes(damaged)
        try:
            policy = mjx_safety.load_policy(tmp_path / "a.npz")
        except ValueError as error:
            assert "is no policy of mjx_safety.export: " in str(error)
            refused += 1
            continue
        for mine, its in zip(policy.actor.weights, good.actor.weights, strict=True):
            np.testing.assert_array_equal(mine, its)
    assert refused > 80
