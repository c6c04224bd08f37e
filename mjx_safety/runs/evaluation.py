"""Evaluates trained policies and functions: the worlds, the episodes, and the content of evaluation.json (host)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mjx_safety.agents import ALGORITHMS, Episodes, actor, checkpoint
from mjx_safety.agents.evaluate import compare, run_episodes, run_episodes_on_host, summarise
from mjx_safety.agents.saute import BudgetWorlds
from mjx_safety.agents.types import Actor
from mjx_safety.env.vector import VecEnv, vectorize
from mjx_safety.runs import environments, functions, loading, run_folder, scores, training_options
from mjx_safety.runs.errors import UsageError
from mjx_safety.runs.policy import Policy
from mjx_safety.runs.training_options import RunFlags
from mjx_safety.world.randomize import Randomize

EVALUATION = 0x6576616C  # "eval"; folded into the seed's key, see `evaluation_key`
NOT_SETTINGS = training_options.WITHOUT_EFFECT - {"total_steps"}  # of RunFlags

NEEDED = ("env", "algo", "seed", "physics", "cost_limits", "env_steps")  # what a policy must say of its training

Result = dict[str, Any]  # the content of evaluation.json


class WorldsKey(NamedTuple):
    """What decides the worlds of an evaluation."""

    env_id: str
    engine: str
    randomize: tuple[str, ...]  # words of --randomize
    cost_budget: float | None  # cost that ends an episode


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A policy to judge, with what is known of its training."""

    name: str  # as in the command line
    path: Path | None  # its run folder
    config: Mapping[str, Any]  # of its training, as in config.json; of a function only `run`, in part
    engine: str | None  # of its training
    env_steps: int | None
    actor: Any  # `Actor`, or `functions.ExternalPolicy` for a policy from outside this package
    rows: list[run_folder.Row]
    diverged: str = ""  # why its training has diverged; empty if it has not

    @property
    def run_flags(self) -> Mapping[str, Any]:
        """The flags `run` of its training."""
        return self.config["run"]

    @property
    def settings(self) -> str:
        """The settings shared by runs that differ only in the seed, as text."""
        run = {name: value for name, value in self.run_flags.items() if name not in NOT_SETTINGS}
        return json.dumps({**self.config, "run": run}, sort_keys=True, default=str)


def evaluation_key(seed: int) -> jax.Array:
    """Key of all random numbers of an evaluation.

    A training splits key(seed), and the keys from it, into at most some thousands. The n-th part of a split is the fold
    with n, and EVALUATION is far larger. No key of a training is therefore this key, up to a chance of 2^-64. Even the
    training's own seed gives layouts that it has never seen.
    """
    return jax.random.fold_in(jax.random.key(seed), EVALUATION)


class Evaluator:
    """Compiles one program for all policies of the same shape, and for both modes of acting."""

    def __init__(
        self,
        num_episodes: int,
        seed: int,
        trust: bool = False,
        randomize: Sequence[str] = (),
        ends_at_limit: bool = False,
        cost_limit: float | None = None,
    ):
        """Prepare an evaluation; nothing compiles before the first episode.

        num_episodes: one per world, all side by side. trust: import the environments of runs that name
        package.module:factory. randomize: words of `--randomize`, on top of those of the training. ends_at_limit: end
        episodes once their cost reaches the limit. cost_limit: of the report; None: that of the training.
        """
        self.num_episodes: int = num_episodes
        self.seed: int = seed
        self.trust: bool = trust
        self.randomize: tuple[str, ...] = tuple(randomize)
        self.ends_at_limit: bool = ends_at_limit
        self.cost_limit: float | None = cost_limit
        self._venvs: dict[WorldsKey, VecEnv[Any]] = {}
        self._programs: dict[tuple[WorldsKey, float | None], Any] = {}

    def venv(self, run_flags: Mapping[str, Any], engine: str) -> VecEnv[Any]:
        """Worlds for one episode each. run_flags: the flags `run` of a training."""
        key = self._worlds_key(run_flags, engine)
        if key not in self._venvs:
            env = environments.build_env(key.env_id, key.engine, randomize=key.randomize)
            self._venvs[key] = vectorize(env, self.num_episodes, cost_budget=key.cost_budget)
        return self._venvs[key]

    def limit(self, run_flags: Mapping[str, Any]) -> float:
        """Cost limit of the report. run_flags: the flags `run` of a training."""
        return float(run_flags["cost_limit"]) if self.cost_limit is None else self.cost_limit

    def _worlds_key(self, run_flags: Mapping[str, Any], engine: str) -> WorldsKey:
        budget = self.limit(run_flags) if self.ends_at_limit else None
        if budget == 0.0:
            raise UsageError("--end-at-limit with --cost-limit 0 ends each episode at once; the limit must be above 0")
        return WorldsKey(run_flags["env"], engine, (*run_flags.get("randomize", ()), *self.randomize), budget)

    def worlds(self, run_flags: Mapping[str, Any], engine: str) -> Any:
        """Worlds as an algorithm sees them. run_flags: the flags `run` of its training."""
        venv, choice = self.venv(run_flags, engine), ALGORITHMS.get(run_flags["algo"])
        return BudgetWorlds(venv, run_flags["cost_limit"]) if choice is not None and choice.sees_budget else venv

    def load(self, name: str | Path, engine: str) -> Candidate:
        """Read a policy, or raise a UsageError that says why not. Compiles nothing. engine: of the evaluation."""
        path, file = Path(name), loading.find_file(name)
        try:
            if file is None and run_folder.holds_run(path):
                options = run_folder.read_options(path / run_folder.CONFIG)
                run_folder.check_trust(options.run.env, path, self.trust)
                found = checkpoint.latest(path / "checkpoints")
                if found is None:
                    raise UsageError(f"{path} has no checkpoint to evaluate")
                flags = dataclasses.asdict(options.run)
                self._check_observed(name, flags, engine)
                loaded = loading.of_checkpoint(found, run_folder.read_config(path), self.venv(flags, engine))
            else:
                path, loaded = None, loading.load_policy(name)
                for env_id in (loaded.env_id, _trained_on(loaded)):
                    run_folder.check_trust(env_id, name, self.trust)
        except ValueError as error:
            raise UsageError(str(error)) from error
        run = loaded.origin["config"]["run"]
        if self.cost_limit is None and not _is_limit(run.get("cost_limit")):
            raise UsageError(
                f"{name} has the cost limit {run.get('cost_limit')}; say one of at least 0 with --cost-limit"
            )
        self._check_sizes(str(name), loaded, run, engine)
        return Candidate(
            name=str(name),
            path=path,
            config=loaded.origin["config"],
            engine=environments.resolve_physics("auto") if run["physics"] == "auto" else run["physics"],
            env_steps=loaded.origin["env_steps"],
            actor=loaded.actor,
            rows=run_folder.read_rows(path) if path else [],
            diverged=run_folder.why_diverged(path) if path else "",
        )

    def load_function(self, source: str, env_id: str, engine: str) -> Candidate:
        """Find a function or a file, or raise a UsageError that says why not. env_id: empty to take its own.

        A file of this package gets the cost limit of its training, and in its own environment the same dynamics.
        """
        try:
            function = functions.find_function(source, self.trust)
        except ImportError as error:
            if error.name != "onnxruntime":
                raise
            raise UsageError(f"--policy {source} needs onnxruntime: pip install 'mjx-safety[onnx]'") from error
        except ValueError as error:
            raise UsageError(f"--policy {source}: {error}") from error
        if not env_id and not function.is_code:
            run_folder.check_trust(function.env_id, source, self.trust)
        env_id = env_id or function.env_id
        if not env_id:
            raise UsageError(f"--policy {source} does not name its environment; say it with --env")
        limit, own = function.run.get("cost_limit"), function.run if env_id == function.env_id else {}
        run = {
            "env": env_id,
            "algo": source,
            "seed": None,
            "cost_limit": limit if _is_limit(limit) else RunFlags.cost_limit,
            "cost_limits": own.get("cost_limits", []),
            "randomize": own.get("randomize", []),
        }
        self._check_sizes(source, function, run, engine)
        return Candidate(source, None, {"run": run}, None, None, function, [])

    def run_episodes(self, candidate: Candidate, engine: str, modes: Sequence[str]) -> dict[str, Episodes]:
        """Run episodes, in the same worlds for each mode of acting and each engine."""
        venv, key = self.worlds(candidate.run_flags, engine), evaluation_key(self.seed)
        limit = float(candidate.run_flags["cost_limit"]) if isinstance(venv, BudgetWorlds) else None
        name = self._worlds_key(candidate.run_flags, engine), limit
        if isinstance(candidate.actor, functions.ExternalPolicy):
            act_fn = functions.checked(candidate.actor, venv.num_envs, venv.action_size)
            try:
                return {mode: jax.device_get(run_episodes_on_host(venv, act_fn, key)) for mode in modes}
            except functions.BadActionError as error:
                raise UsageError(f"--policy {error}") from error
        if name not in self._programs:
            self._programs[name] = jax.jit(partial(_run_actor, venv))
        return {mode: jax.device_get(self._programs[name](candidate.actor, key, mode == "sampled")) for mode in modes}

    def judge(self, candidate: Candidate, engine: str, modes: Sequence[str], compares: bool) -> Result:
        """Evaluate one policy. compares: also evaluate it on its own engine, and report the differences."""
        flags = candidate.run_flags
        limit = self.limit(flags)
        limits = training_options.parse_limits(flags["cost_limits"])
        venv = self.venv(flags, engine)
        describe = partial(summarise, cost_limit=limit, cost_names=venv.cost_names, cost_limits=limits)
        facts = scores.training_facts(candidate.rows, limit, by_violation=bool(limits or flags.get("risk_level")))
        episodes = self.run_episodes(candidate, engine, modes)
        summaries = {mode: describe(done) for mode, done in episodes.items()}
        config = getattr(venv.env, "config", None)
        choice = ALGORITHMS.get(flags["algo"])
        result = {
            "run": candidate.name,
            "env": flags["env"],
            "algo": flags["algo"],
            "seed": flags["seed"],
            "env_steps": candidate.env_steps,
            "cost_limit": limit,
            "cost_limits": limits,
            "trained_with": candidate.engine,
            "physics": engine,
            "trained_in_episodes_that_end_at_the_limit": choice is not None and choice.ends_at_limit,
            "episodes_end_at_the_limit": self.ends_at_limit,
            "layouts": "fixed" if getattr(config, "layouts", "") == "fixed" else "fresh",
            "randomize": _plain(getattr(config, "randomize", None)),
            "evaluation_seed": self.seed,
            "num_episodes": self.num_episodes,
            "diverged": candidate.diverged or None,
            "policies": summaries,
            "training": facts,
            "normalised": scores.normalise_all(flags["env"], summaries, facts, limit),
            "references": scores.references(flags["algo"], flags["env"]),
        }
        if compares and candidate.engine is not None:
            own = self.run_episodes(candidate, candidate.engine, modes)
            gap = {mode: compare(own[mode], episodes[mode], limit) for mode in modes}
            result["sim_to_sim"] = {
                "first": candidate.engine,
                "second": engine,
                "policies_on_first": {mode: describe(done) for mode, done in own.items()},
                "second_minus_first": gap,
            }
        return result

    def _check_sizes(
        self, name: str, loaded: Policy | functions.ExternalPolicy, run_flags: Mapping[str, Any], engine: str
    ) -> None:
        """Refuse a policy of other sizes than its worlds. A function that does not say its sizes passes."""
        if loaded.obs_size is not None:
            self._check_observed(name, run_flags, engine)
        venv = self.worlds(run_flags, engine)
        for kind in ("obs_size", "action_size"):
            mine, its = getattr(loaded, kind), getattr(venv, kind)
            if mine not in (its, None):
                raise UsageError(f"{name} has {kind} {mine}, and {run_flags['env']} has {its}; they must be equal")

    def _check_observed(self, name: str | Path, run_flags: Mapping[str, Any], engine: str) -> None:
        """Refuse to add the factors of the dynamics to the observations of a policy that was trained without them."""
        if "observed" not in self.randomize:
            return
        own = environments.build_env(run_flags["env"], engine, randomize=run_flags.get("randomize", ()))
        if own.obs_size != self.venv(run_flags, engine).obs_size:
            raise UsageError(f"--randomize observed adds to the observations, and {name} was trained without it")


def _is_limit(value: Any) -> bool:
    return isinstance(value, int | float) and value >= 0.0


def _trained_on(policy: Policy) -> str:
    """Return the environment of a policy's training. Raises ValueError if its file does not say how it was trained."""
    try:
        known = {**policy.origin, **policy.origin["config"]["run"]}
        for name in NEEDED:
            known[name]  # KeyError if it is missing
        return str(known["env"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"the policy of {policy.env_id} does not say how it was trained: it lacks {error}") from error


def _plain(randomize: Randomize | None) -> dict[str, Any] | None:
    return None if randomize is None else dataclasses.asdict(randomize)


def _run_actor(venv: Any, agent: Actor, key: jax.Array, sampled: jax.Array) -> Episodes:
    def act(obs: jax.Array, noise: jax.Array) -> jax.Array:
        return actor.act(agent, obs, jnp.where(sampled, noise, 0.0))

    return run_episodes(venv, act, key)
