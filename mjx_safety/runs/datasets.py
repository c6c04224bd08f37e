"""Data sets of episodes with costs: DSRL's HDF5 files and Minari's data sets, written batch after batch (host)."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mjx_safety.runs.recording import Episode

KEYS = ("observations", "next_observations", "actions", "rewards", "costs", "terminals", "timeouts")  # of DSRL
MINARI = "minari:"
ROWS = 4096  # of a chunk of the file


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
        self._file = h5py.File(self._partial, "w")
        self._file.attrs["about"] = json.dumps(about, default=str)
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
            data: Any = self._file[name]
            start = data.shape[0]
            data.resize(start + len(values), axis=0)
            data[start:] = values
        self._policies += [episode.policy for episode in episodes]

    def close(self) -> None:
        """Finish the file and give it its name."""
        self._file.attrs["episode_policies"] = np.array(self._policies, np.int32)
        self._file.close()
        os.replace(self._partial, self._path)


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
                description=json.dumps(self._about, default=str),
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
    """Read the arrays of `KEYS` from an .hdf5 file with DSRL's keys, or from minari:NAME, and what `record` says of it.

    The second is {} for data of others. Raises ValueError for other sources, and ImportError without the library.
    """
    return _read_minari(source.removeprefix(MINARI)) if source.startswith(MINARI) else _read_hdf5(Path(source))


def _read_hdf5(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    import h5py

    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    try:
        with h5py.File(path) as file:
            missing = [name for name in KEYS if name not in file]
            if missing:
                raise ValueError(f"{path} lacks {', '.join(missing)}; it must have DSRL's keys: {', '.join(KEYS)}")
            arrays = {name: np.asarray(file[name]) for name in KEYS}
            return arrays, json.loads(str(file.attrs.get("about", "{}")))
    except OSError as error:
        raise ValueError(f"{path} is no HDF5 file: {error}") from error


def _read_minari(name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    import minari

    try:
        data = minari.load_dataset(name)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"{MINARI}{name} cannot be loaded: {error}") from error
    episodes = []
    for found in data.iterate_episodes():
        if "cost" not in (found.infos or {}):
            raise ValueError(f"{MINARI}{name} has no costs: its infos lack 'cost'")
        cost = np.asarray(found.infos["cost"], np.float32)[1:]
        obs, action, reward = (np.asarray(x, np.float32) for x in (found.observations, found.actions, found.rewards))
        episodes.append(Episode(obs, action, reward, cost, bool(found.terminations[-1]), 0))
    try:
        about = json.loads(str(data.storage.metadata.get("description", "")))
    except json.JSONDecodeError:
        about = {}
    return flatten(episodes), about


def episode_bounds(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Indices [E + 1] at which the E episodes begin, and at which the last one ends. Later steps are left out."""
    ends = np.flatnonzero(np.asarray(arrays["terminals"], bool) | np.asarray(arrays["timeouts"], bool)) + 1
    return np.concatenate([[0], ends])


def episode_sums(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Sum of `rewards` or `costs` over each episode [E]."""
    bounds = episode_bounds(arrays)
    totals = np.concatenate([[0.0], np.cumsum(arrays[name], dtype=np.float64)])
    return np.diff(totals[bounds])
