"""Data sets of episodes with costs: DSRL's HDF5 files and Minari's data sets, written batch after batch (host)."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mjx_safety.core import files
from mjx_safety.runs.recording import Episode

KEYS = ("observations", "next_observations", "actions", "rewards", "costs", "terminals", "timeouts")  # of DSRL
MINARI = "minari:"
ROWS = 4096  # of a chunk of the file
MATRICES = ("observations", "next_observations", "actions")  # [N, ...]; the other arrays are [N]
LARGEST = np.finfo(np.float32).max
# What `clone` takes from a description: name -> type.
ABOUT = {"env": str, "randomize": list, "physics": str, "policies": list, "machine": dict}


class Writer(Protocol):
    """Takes episodes."""

    def add(self, episodes: Sequence[Episode]) -> None:
        """Append episodes."""
        ...

    def close(self) -> None:
        """Finish. HDF5 keeps nothing without this call."""
        ...


class HDF5Writer:
    """Writes an .hdf5 as DSRL reads it: flat arrays, episode after episode. Needs h5py.

    The attributes of the file hold `about` as JSON, and `episode_policies` [episodes]: who acted.
    """

    def __init__(self, path: Path, obs_size: int, action_size: int, about: Mapping[str, Any]):
        import h5py

        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._partial = path, path.with_name(f"{path.name}.partial")
        with naming(self._partial):
            self._file = h5py.File(self._partial, "w", libver=("v108", "latest"))  # with attributes above 64 KiB
        self._file.attrs["about"] = files.to_json(about)
        self._policies: list[int] = []
        shapes = {"observations": (obs_size,), "next_observations": (obs_size,), "actions": (action_size,)}
        for name in KEYS:
            shape, kind = shapes.get(name, ()), bool if name in ("terminals", "timeouts") else np.float32
            options = {
                "chunks": (ROWS, *shape),
                "maxshape": (None, *shape),
                "compression": "gzip",
                "compression_opts": 1,
            }
            self._file.create_dataset(name, (0, *shape), kind, shuffle=True, **options)

    def add(self, episodes: Sequence[Episode]) -> None:
        """Append episodes."""
        for name, values in flatten(episodes).items():
            with naming(self._partial):
                data: Any = self._file[name]
                start = data.shape[0]
                data.resize(start + len(values), axis=0)
                data[start:] = values
        self._policies += [episode.policy for episode in episodes]

    def close(self) -> None:
        """Finish the file and give it its name."""
        with naming(self._partial):
            self._file.attrs["episode_policies"] = np.array(self._policies, np.int32)
            self._file.close()
        os.replace(self._partial, self._path)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn HDF5's errors, which do not name the file, into an OSError that does."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        code = getattr(error, "errno", None) or errno.EIO
        reason = os.strerror(code) if isinstance(error, OSError) and error.errno else str(error)
        raise OSError(code, reason, str(path)) from error


class MinariWriter:
    """Writes a Minari data set, with `cost` in the infos, aligned with observations. Needs minari."""

    def __init__(self, name: str, spaces: tuple[Any, Any], env_spec: Any, about: Mapping[str, Any]):
        """spaces: Gymnasium's of observations and actions; env_spec: of a registered environment, or None."""
        self._name, self._spaces, self._env_spec, self._about = name, spaces, env_spec, about
        self._data: Any = None
        self._num_episodes = 0

    def add(self, episodes: Sequence[Episode]) -> None:
        """Append episodes."""
        import minari
        from minari.data_collector import EpisodeBuffer

        buffers = []
        for episode in episodes:
            ends = np.zeros(len(episode.reward), bool)
            ends[-1] = True
            buffers.append(
                EpisodeBuffer(
                    id=self._num_episodes + len(buffers),
                    observations=episode.obs,  # pyright: ignore[reportArgumentType]  # arrays serve as lists
                    actions=episode.action,  # pyright: ignore[reportArgumentType]
                    rewards=episode.reward,  # pyright: ignore[reportArgumentType]
                    terminations=ends & episode.terminated,  # pyright: ignore[reportArgumentType]
                    truncations=ends & (not episode.terminated),  # pyright: ignore[reportArgumentType]
                    infos={"cost": np.concatenate([[0.0], episode.cost]).astype(np.float32)},
                )
            )
        self._num_episodes += len(buffers)
        if self._data is not None:
            self._data.update_dataset_from_buffer(buffers)
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that author and link to the code are missing
            self._data = minari.create_dataset_from_buffers(
                self._name,
                buffers,
                env=self._env_spec,
                observation_space=self._spaces[0],
                action_space=self._spaces[1],
                algorithm_name=", ".join(self._about["policies"]),
                description=files.to_json(self._about),
                requirements=["mjx-safety"],
            )

    def close(self) -> None:
        """Nothing is left to do: Minari writes at once."""


def flatten(episodes: Iterable[Episode]) -> dict[str, np.ndarray]:
    """The arrays of DSRL [steps, ...], episode after episode."""
    rows: dict[str, list[np.ndarray]] = {name: [] for name in KEYS}
    for episode in episodes:
        last = np.arange(len(episode.reward)) == len(episode.reward) - 1
        values = (episode.obs[:-1], episode.obs[1:], episode.action, episode.reward, episode.cost)
        for name, value in zip(
            KEYS, (*values, last & episode.terminated, last & (not episode.terminated)), strict=True
        ):
            rows[name].append(value)
    return {name: np.concatenate(parts) for name, parts in rows.items()}


def read(source: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read an .hdf5 file with DSRL's keys, or minari:NAME. Returns the arrays of `KEYS`, and the description.

    The description is what `record` writes, {} for data of other programs. Raises ValueError for other sources and for
    data that no policy can learn from, and ImportError without the library.
    """
    is_minari = source.startswith(MINARI)
    arrays, about = _read_minari(source.removeprefix(MINARI)) if is_minari else _read_hdf5(Path(source))
    _check_shapes(source, arrays)
    for name, values in arrays.items():
        if values.size and not -LARGEST <= values.min() <= values.max() <= LARGEST:
            raise ValueError(f"{source} has {name} that are not finite numbers of float32")
    _check_about(source, about)
    return arrays, about


def _read_hdf5(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    import h5py

    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    try:
        with h5py.File(path) as file:
            missing = [name for name in KEYS if name not in file]
            if missing:
                raise ValueError(f"{path} lacks {', '.join(missing)}; it must have DSRL's keys: {', '.join(KEYS)}")
            found = {name: file.get(name) for name in KEYS}
            arrays = {name: np.asarray(each) for name, each in found.items() if isinstance(each, h5py.Dataset)}
            about = str(file.attrs.get("about", "{}"))
    except OSError as error:
        raise ValueError(f"{path} is no HDF5 file: {error}") from error
    except MemoryError as error:
        raise ValueError(f"{path} does not fit into the memory: {error}") from error
    wrong = [name for name in KEYS if name not in arrays or arrays[name].dtype.kind not in "biuf"]
    if wrong:
        raise ValueError(f"{path} has no numbers in {', '.join(wrong)}; each must be an array of numbers")
    try:
        return arrays, files.with_numbers(json.loads(about))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} has an attribute 'about' that is no JSON: {error}") from error


def _check_shapes(source: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse arrays that cannot be those of the same steps."""
    for name, values in arrays.items():
        rank = 2 if name in MATRICES else 1
        if values.ndim != rank:
            raise ValueError(f"{source} has {name} of shape {values.shape}; its number of axes must be {rank}")
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"{source} has arrays of different lengths ({listed}); they must be equal")
    shapes = [arrays[name].shape for name in MATRICES[:2]]
    if shapes[0] != shapes[1]:
        raise ValueError(f"{source} has observations {shapes[0]} and next_observations {shapes[1]}; they must be equal")


def _check_about(source: str, about: Any) -> None:
    """Refuse a description that is not like that of `record`."""
    if not isinstance(about, dict):
        raise ValueError(f"{source} has a description 'about' of type {type(about).__name__}; it must be a mapping")
    for name, kind in ABOUT.items():
        if not isinstance(about.get(name, kind()), kind):
            its = type(about[name]).__name__
            raise ValueError(f"{source} has {name} of type {its} in 'about'; it must be of type {kind.__name__}")


def _read_minari(name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    import minari

    try:
        data = minari.load_dataset(name)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"{MINARI}{name} cannot be loaded: {error}") from error
    try:
        arrays = flatten(map(_episode, data.iterate_episodes()))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{MINARI}{name} cannot be read as flat arrays of numbers: {error}") from error
    try:
        about = files.with_numbers(json.loads(str(data.storage.metadata.get("description", ""))))
    except (ValueError, RecursionError):
        about = {}
    return arrays, about if isinstance(about, dict) else {}  # others may describe theirs in any words


def _episode(found: Any) -> Episode:
    """Take an episode of Minari."""
    if "cost" not in (found.infos or {}):
        raise ValueError("its infos lack 'cost'")
    values = (found.observations, found.actions, found.rewards, found.infos["cost"])
    obs, action, reward, cost = (np.asarray(each, np.float32) for each in values)
    return Episode(obs, action, reward, cost[1:], bool(found.terminations[-1]), 0)


def episode_bounds(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Indices [E + 1] at which the E episodes begin, and at which the last one ends. Later steps are left out."""
    ends = np.flatnonzero(np.asarray(arrays["terminals"], bool) | np.asarray(arrays["timeouts"], bool)) + 1
    return np.concatenate([[0], ends])


def episode_sums(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Sum of `rewards` or `costs` over each episode [E]."""
    bounds = episode_bounds(arrays)
    totals = np.concatenate([[0.0], np.cumsum(arrays[name], dtype=np.float64)])
    return np.diff(totals[bounds])
