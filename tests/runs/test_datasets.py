"""Data of others: what no policy can learn from is refused with one sentence that names the file."""

import json

import numpy as np
import pytest

from mjx_safety.runs import datasets
from mjx_safety.runs.recording import Episode

h5py = pytest.importorskip("h5py")
STEPS = 6


def arrays(**changed):
    """Six steps of a world with three numbers to observe and one to act with, in one episode."""
    shapes = {"observations": (STEPS, 3), "next_observations": (STEPS, 3), "actions": (STEPS, 1)}
    values = {name: np.zeros(shapes.get(name, STEPS), np.float32) for name in datasets.KEYS}
    values["timeouts"] = np.arange(STEPS) == STEPS - 1
    return values | changed


def with_one(name, value, kind=np.float32):
    values = arrays()[name].astype(kind)
    values.flat[2] = value
    return {name: values}


def write(path, values, about=None):
    with h5py.File(path, "w", libver="latest") as file:  # older formats have no long attributes
        for name, array in values.items():
            file[name] = array
        if about is not None:
            file.attrs["about"] = about
    return str(path)


def test_data_of_others_need_no_description(tmp_path):
    found, about = datasets.read(write(tmp_path / "data.hdf5", arrays()))
    assert about == {} and set(found) == set(datasets.KEYS) and datasets.episode_sums(found, "costs").tolist() == [0.0]
    about = {"env": "SafetyPointGoal1-v0", "physics": "mujoco", "policies": ["a"], "machine": {}, "more": [1]}
    assert datasets.read(write(tmp_path / "data.hdf5", arrays(), json.dumps(about)))[1] == about


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"actions": np.zeros((5, 1))}, "arrays of different lengths (observations 6, next_observations 6, actions 5"),
        ({"costs": np.zeros(7)}, "costs 7, terminals 6, timeouts 6); they must be equal"),
        ({"rewards": np.zeros((6, 1))}, "rewards of shape (6, 1); its number of axes must be 1"),
        ({"observations": np.zeros(6)}, "observations of shape (6,); its number of axes must be 2"),
        ({"timeouts": np.bool_(True)}, "timeouts of shape (); its number of axes must be 1"),
        ({"next_observations": np.zeros((6, 4))}, "observations (6, 3) and next_observations (6, 4); they must be"),
        (with_one("observations", np.nan), "observations that are not finite numbers of float32"),
        (with_one("actions", -np.inf), "actions that are not finite numbers of float32"),
        (with_one("rewards", 1e300, float), "rewards that are not finite numbers of float32"),
        (with_one("costs", np.nan), "costs that are not finite numbers of float32"),
        ({"costs": np.array([b"many"] * 6)}, "no numbers in costs; each must be an array of numbers"),
        ({"costs": np.zeros(6, complex)}, "no numbers in costs; each must be an array of numbers"),
    ],
)
def test_arrays_that_do_not_fit(changed, sentence, tmp_path):
    path = write(tmp_path / "data.hdf5", arrays(**changed))
    with pytest.raises(ValueError) as error:
        datasets.read(path)
    assert str(error.value).startswith(path) and sentence in str(error.value)


def test_a_folder_instead_of_an_array(tmp_path):
    path = write(tmp_path / "data.hdf5", arrays())
    with h5py.File(path, "a") as file:
        del file["costs"]
        file.create_group("costs")
    with pytest.raises(ValueError, match="has no numbers in costs"):
        datasets.read(path)


@pytest.mark.parametrize(
    ("about", "sentence"),
    [
        ("{oops", "has an attribute 'about' that is no JSON: Expecting property name"),
        ("", "has an attribute 'about' that is no JSON"),
        ("[" * 100_000, "has an attribute 'about' that is no JSON"),
        ("[1]", "has a description 'about' of type list; it must be a mapping"),
        ("null", "has a description 'about' of type NoneType; it must be a mapping"),
        ('{"env": 3}', "has env of type int in 'about'; it must be of type str"),
        ('{"randomize": "observed"}', "has randomize of type str in 'about'; it must be of type list"),
        ('{"machine": []}', "has machine of type list in 'about'; it must be of type dict"),
    ],
)
def test_descriptions_that_do_not_fit(about, sentence, tmp_path):
    path = write(tmp_path / "data.hdf5", arrays(), about)
    with pytest.raises(ValueError) as error:
        datasets.read(path)
    assert str(error.value).startswith(path) and sentence in str(error.value)


@pytest.mark.filterwarnings("ignore::UserWarning")  # that the author says little
def test_minari_of_others(tmp_path, monkeypatch):
    """Any text may describe a data set of Minari, but its arrays must fit too."""
    minari = pytest.importorskip("minari")
    from gymnasium.spaces import Box
    from minari.data_collector import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    spaces = {"observation_space": Box(-np.inf, np.inf, (3,)), "action_space": Box(-1, 1, (1,))}

    def read(name, description, infos, reward=0.0):
        buffer = EpisodeBuffer(
            id=0,
            observations=np.zeros((3, 3), np.float32),
            actions=np.zeros((2, 1), np.float32),
            rewards=np.full(2, reward),
            terminations=np.array([False, False]),
            truncations=np.array([False, True]),
            infos=infos,
        )
        minari.create_dataset_from_buffers(f"others/{name}-v0", [buffer], description=description, **spaces)
        return datasets.read(f"minari:others/{name}-v0")

    costs = {"cost": np.zeros(3, np.float32)}
    for name, description in (("text", "walks about"), ("list", "[1]"), ("number", "3")):
        found, about = read(name, description, costs)
        assert about == {} and len(found["rewards"]) == 2
    with pytest.raises(ValueError, match=r"minari:others/none-v0 cannot be read .* its infos lack 'cost'"):
        read("none", "", {"speed": np.zeros(3)})
    with pytest.raises(ValueError, match="minari:others/nan-v0 has rewards that are not finite"):
        read("nan", "", costs, np.nan)
    with pytest.raises(ValueError, match="minari:others/short-v0 has arrays of different lengths"):
        read("short", "", {"cost": np.zeros(2, np.float32)})


def test_a_data_set_of_many_episodes_is_finished(tmp_path):
    """The policy of each is an attribute, which older formats limit to 64 KiB."""
    one = np.zeros(1, np.float32)
    episode = Episode(np.zeros((2, 3), np.float32), np.zeros((1, 1), np.float32), one, one, False, 1)
    writer = datasets.HDF5Writer(tmp_path / "many.hdf5", 3, 1, {})
    writer.add([episode] * 20_000)
    writer.close()
    with h5py.File(tmp_path / "many.hdf5") as file:
        assert file.attrs["episode_policies"].shape == (20_000,) and len(file["rewards"]) == 20_000
