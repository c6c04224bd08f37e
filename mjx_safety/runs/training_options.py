"""A training as typed values: flags, their defaults, and sweeps."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import jax
from tyro.constructors import PrimitiveConstructorSpec

from mjx_safety.agents import ALGORITHMS, Algorithm, AlgorithmChoice, Training
from mjx_safety.agents.types import OffPolicyTrainConfig
from mjx_safety.env.vector import vectorize
from mjx_safety.registry import VELOCITY_IDS
from mjx_safety.runs.errors import UsageError, check_at_least
from mjx_safety.types import Environment, VectorEnvironment

Physics = Literal["auto", "mjx", "warp", "mujoco"]


def _whole_number(words: list[str]) -> int:
    """Read 1000000, 1_000_000 or 1e6."""
    try:
        return int(words[0])
    except ValueError:
        if float(words[0]).is_integer():
            return int(float(words[0]))
        raise


Steps = Annotated[
    int,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=_whole_number,
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    ),
]

PARTS = ("train", "algorithm", "constraint")  # of Options, beside `run`
OF_A_PROCESS = (  # flags of `run` that a continued training may change: no result depends on them but its length
    *("total_steps", "save_every", "loggers", "keep_policies", "out", "resume", "resume_or_start", "compilation_cache"),
    *("coordinator", "num_processes", "process_id"),
)
# Flags of `run` in which trainings may differ and still count as seeds of the same settings.
WITHOUT_EFFECT = {*OF_A_PROCESS, "seed", "num_seeds", "sweep", "num_devices", "keep_blow_ups"}
SAMPLES = 16_384  # environment steps of an iteration
OFF_POLICY_SAMPLES = 4096  # the same of off-policy algorithms
OFF_POLICY_STEPS = 1_000_000  # environment steps of a training by an off-policy algorithm
MINIBATCH, MOST_MINIBATCHES = 1024, 64  # samples of a gradient step; steps of a pass
USUAL_ITERATIONS = 610  # of 1e7 steps
GAIT_FINAL_STD = 0.1  # `final_std` for robots whose gaits need precision
# Those of the Velocity family, but for the Swimmer: its two actuators learn more with steady noise.
GAIT_IDS = tuple(env for env in VELOCITY_IDS if "Swimmer" not in env)
_RATES = ("multiplier_learning_rate", "integral_gain", "margin_learning_rate")  # of constraints, per iteration
# Settings whose defaults follow from --env, --total-steps and the device; a run keeps those of its start.
DERIVED_DEFAULTS = (
    *("num_iterations", "num_envs", "unroll_length", "num_minibatches", "final_std", "bootstrap_costs_at_ends"),
    *_RATES,
)
MIN_UNROLL, MAX_UNROLL = 4, 1024  # steps; shorter unrolls learn badly, longer ones bring nothing
FEWEST_WORLDS, MOST_WORLDS = 256, 4096  # by default; more than 256 on an accelerator
USUAL_UNROLL = 16  # steps, at least, by default
LONG_UNROLL = 64  # steps; many worlds take unrolls up to this length where enough iterations remain


@dataclasses.dataclass(frozen=True)
class RunFlags:
    """Algorithm, environment, length and place of a training."""

    env: str = "SafetyPointGoal1-v0"
    """Environment id, or package.module:factory of your own."""
    algo: str = "ppo-lag"
    """Algorithm. Its own flags are listed below. --algo NAME --help lists those of another."""
    num_envs: int = 256
    """Number of worlds side by side."""
    total_steps: Steps = 10_000_000
    """Environment steps of all worlds together, such as 1e7, rounded down to whole iterations."""
    cost_limit: float = 25.0
    """Limit of the mean cost of an episode (undiscounted sum)."""
    cost_limits: tuple[str, ...] = ()
    """Instead of --cost-limit: a limit per source of cost, in costly steps, such as hazards=20 vases_contact=5."""
    risk_level: float = 0.0
    """0: limit the mean cost of all episodes. 0.9: of the worst 10 % (CVaR). For PPO and TRPO with a multiplier."""
    seed: int = 0
    """Seed of all random numbers."""
    num_seeds: int = 1
    """Number of seeds, from --seed on, trained side by side in one program."""
    sweep: tuple[str, ...] = ()
    """Values whose combinations train side by side in one program: cost-limit=5,15,25,50 learning-rate=1e-4,3e-4."""
    physics: Physics = "auto"
    """Engine: auto takes mjx on an accelerator and mujoco on a CPU."""
    randomize: tuple[str, ...] = ()
    """Draw the dynamics of each world: mass=0.8,1.2 friction=0.7,1.3 gain=0.9,1.1 damping=0.5,2 sensor-noise=0.01."""
    out: Path | None = None
    """Run folder; by default runs/<env>-<algo>-seed<seed>-<date>."""
    init_from: Path | None = None
    """Start with the networks and the normaliser of this run. Its observation and action sizes must be the same."""
    keep_policies: bool = False
    """Also keep the policy of every checkpoint, in policies/ of the run folder, for `record`."""
    loggers: tuple[Literal["wandb", "mlflow"], ...] = ()
    """Also log to wandb, mlflow or both, beside TensorBoard and metrics.jsonl."""
    num_devices: int = 1
    """Number of devices for the worlds, over all processes; 0: all devices. Only with mjx."""
    coordinator: str = ""
    """For several processes or hosts: host:port of the first; auto: read it from SLURM, Open MPI or Kubernetes."""
    num_processes: int = 1
    """Number of processes that train together."""
    process_id: int = 0
    """Index of this process, from 0 on. Only process 0 writes."""
    resume: Path | None = None
    """Continue this run folder. Its settings stay, and only --total-steps can change."""
    keep_blow_ups: bool = False
    """Keep the newest step whose physics was not finite, in blow_ups/ of the run folder, so that you can repeat it."""
    save_every: float | None = None
    """Seconds between checkpoints; by default 60, or more if saving is slow. The first iteration is always saved."""
    resume_or_start: Path | None = None
    """Continue this run folder if it has a checkpoint, else start there: for jobs that a scheduler repeats."""
    compilation_cache: bool = True
    """Keep compiled programs in the user's cache folder, so that the next start is fast."""


@dataclasses.dataclass(frozen=True)
class Options:
    """A whole training as typed values."""

    run: RunFlags
    train: OffPolicyTrainConfig  # with the settings of advantages, if the algorithm has any
    algorithm: Any  # the algorithm's own config
    constraint: Any  # the constraint's own config

    def build(self) -> Algorithm:
        """Build the algorithm."""
        limit = parse_limits(self.run.cost_limits) or self.run.cost_limit
        return choose_algorithm(self.run.algo).build(self.algorithm, self.constraint, limit, self.run.risk_level)

    def training(self, env: Environment[Any]) -> Training:
        """Build the whole training, on worlds of `env`."""
        budget = self.run.cost_limit if choose_algorithm(self.run.algo).ends_at_limit else None
        keep = self.run.keep_blow_ups
        venv = vectorize(env, self.run.num_envs, stagger=True, cost_budget=budget, keep_blow_up=keep)
        return Training(self.worlds(venv), self.build(), self.train)

    def worlds(self, venv: VectorEnvironment) -> VectorEnvironment:
        """Return the worlds that the algorithm acts in, which are `venv` or worlds around it."""
        return choose_algorithm(self.run.algo).worlds(venv, self.constraint, self.run.cost_limit)

    def with_values(self, values: Mapping[str, Any]) -> Options:
        """Replace settings, named as in `--sweep`."""
        options = self
        for name, value in values.items():
            part = getattr(options, _part_of(options, name))
            changed = dataclasses.replace(part, **{name.replace("-", "_"): value})
            options = dataclasses.replace(options, **{_part_of(options, name): changed})
        return options

    def to_config(self) -> dict[str, Any]:
        """Return plain values for config.json, enough for a restart."""
        run = dataclasses.asdict(self.run) | {"out": None, "resume": None, "resume_or_start": None}
        run["init_from"] = None if self.run.init_from is None else str(self.run.init_from)
        return {"run": run} | {name: dataclasses.asdict(getattr(self, name)) for name in PARTS}

    @staticmethod
    def from_config(config: dict[str, Any]) -> Options:
        """Undo `to_config`."""
        run = _typed(RunFlags, config["run"])
        choice = choose_algorithm(run.algo)
        types: tuple[Any, ...] = (choice.train_config, choice.config, choice.constraint)
        return Options(run, *(_typed(kind, config[name]) for name, kind in zip(PARTS, types, strict=True)))

    def difference(self, other: Options, given: Collection[str] = DERIVED_DEFAULTS) -> str | None:
        """Return a setting in which two trainings differ, with both values; None if there is none.

        given: names of the settings that the user chose in `other`. The others of `DERIVED_DEFAULTS` do not count.
        """
        for name, mine, its in self._unequal(other):
            if name not in DERIVED_DEFAULTS or name in given:
                return f"--{name.replace('_', '-')} {mine}, not {its}"
        return None

    def kept(self, other: Options, given: Collection[str]) -> list[str]:
        """Describe the settings of this run that keep their values although their defaults in `other` differ."""
        unequal = [each for each in self._unequal(other) if each[0] in DERIVED_DEFAULTS and each[0] not in given]
        return [f"--{name.replace('_', '-')} {mine} (the default is now {its})" for name, mine, its in unequal]

    def _unequal(self, other: Options) -> list[tuple[str, Any, Any]]:
        """Names and values of the settings that differ and change results."""
        mine, its = self.to_config(), other.to_config()
        return [
            (name, value, its[part].get(name))
            for part in ("run", *PARTS)
            for name, value in mine[part].items()
            if name not in OF_A_PROCESS and value != its[part].get(name)
        ]


def parse_limits(texts: Sequence[str]) -> dict[str, float]:
    """Read `--cost-limits`: limits by source."""
    limits: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name in limits:
            raise UsageError(f"--cost-limits has {name} twice; each source must have one limit")
        limits[name] = _number("--cost-limits", text, value)
        check_at_least(f"--cost-limits {name}", limits[name], 0)
    return limits


def limit_to_draw(run: Mapping[str, Any]) -> float:
    """Return the limit of the whole cost of a run, by its flags; inf if each source has a limit of its own instead."""
    return math.inf if run.get("cost_limits") else float(run["cost_limit"])


def parse_sweep(options: Options) -> dict[str, tuple[float, ...]]:
    """Read `--sweep`: values by the name of the setting."""
    sweep: dict[str, tuple[float, ...]] = {}
    for text in options.run.sweep:
        name, _, values = text.partition("=")
        if _part_of(options, name) == "":
            raise UsageError(f"--sweep {name} cannot be swept; it must be one of: {', '.join(_sweepable(options))}")
        if name in sweep:
            raise UsageError(f"--sweep has {name} twice; all its values must stand together, as in cost-limit=5,15,25")
        sweep[name] = tuple(_number("--sweep", text, value) for value in values.split(","))
        twice = next((value for value in sweep[name] if sweep[name].count(value) > 1), None)
        if twice is not None:
            raise UsageError(f"--sweep {text} has {twice!r} twice; each of its values must be another one")
    return sweep


def _sweepable(options: Options) -> list[str]:
    """Settings that are floats in the compiled program."""
    return ["cost-limit", *(name for part in PARTS for name in _floats(getattr(options, part)))]


def _floats(part: Any) -> list[str]:
    """Settings of a part that are floats in the compiled program, named as flags."""
    fields = dataclasses.fields(part)
    return [field.name.replace("_", "-") for field in fields if field.metadata.get("pytree_node", True)]


def _part_of(options: Options, name: str) -> str:
    """Return the part of the options that has a sweepable setting; empty if none has it."""
    if name == "cost-limit":
        return "run"
    for part in PARTS:
        if name in _floats(getattr(options, part)):
            return part
    return ""


def _number(flag: str, text: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        example = "cost-limit=5,15,25" if flag == "--sweep" else "hazards=20"
        raise UsageError(f"{flag} {text} cannot be read; it must look like {example}") from None


def choose_algorithm(name: str) -> AlgorithmChoice:
    """Look an algorithm up."""
    if name not in ALGORITHMS:
        usual = name.lower().replace("_", "-").replace("lagrangian", "lag")  # OmniSafe's PPOLag, and similar ones
        near = difflib.get_close_matches(usual, ALGORITHMS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise UsageError(f"--algo {name} is unknown{hint}; it must be one of: {', '.join(ALGORITHMS)}")
    return ALGORITHMS[name]


def on_accelerator() -> bool:
    """Return whether JAX computes on another device than the CPU."""
    return jax.default_backend() != "cpu"


def _worlds_for(total_steps: int) -> int:
    """Return how many worlds to train on an accelerator: a power of 2, with unrolls of at least `USUAL_UNROLL`."""
    room = max(total_steps // (USUAL_ITERATIONS * USUAL_UNROLL), 1)
    return min(max(2 ** (room.bit_length() - 1), FEWEST_WORLDS), MOST_WORLDS)


def default_options(
    algo: str,
    num_envs: int | None = None,
    total_steps: int | None = None,
    unroll_length: int | None = None,
    env: str = RunFlags.env,
) -> Options:
    """Return the defaults for this device, which fit the other arguments: the user's choices, if any.

    An iteration takes `SAMPLES` steps of all worlds together, whatever their number, and a gradient step `MINIBATCH` of
    them. Off-policy algorithms take `OFF_POLICY_SAMPLES`.

    Many worlds then have short unrolls, which learn badly. In long trainings they get longer ones, as long as
    `USUAL_ITERATIONS` remain. With more iterations than these, the multipliers follow more slowly, so that the task is
    learned first. On an accelerator, the number of worlds follows from the length (`_worlds_for`). Exploration falls
    for robots with a gait (`GAIT_IDS`). No robot of the Velocity family learns to save cost by falling.
    """
    choice = choose_algorithm(algo)
    length = total_steps or (OFF_POLICY_STEPS if choice.is_off_policy else RunFlags.total_steps)
    many = on_accelerator() and not choice.is_off_policy
    run = RunFlags(env, algo, num_envs=num_envs or (_worlds_for(length) if many else FEWEST_WORLDS), total_steps=length)
    steps = OFF_POLICY_SAMPLES if choice.is_off_policy else SAMPLES
    unroll = min(max(steps // run.num_envs, MIN_UNROLL), MAX_UNROLL)
    if not choice.is_off_policy:
        unroll = max(unroll, min(run.total_steps // (run.num_envs * USUAL_ITERATIONS), LONG_UNROLL))
    falls = env in VELOCITY_IDS
    train = choice.train_config(unroll_length=unroll_length or unroll, bootstrap_costs_at_ends=falls)
    samples = run.num_envs * train.unroll_length
    config: Any = choice.config()
    constraint: Any = choice.constraint()
    if "num_minibatches" in config.__dataclass_fields__:
        config = config.replace(num_minibatches=min(max(samples // MINIBATCH, 1), MOST_MINIBATCHES))
    if "final_std" in config.__dataclass_fields__ and env in GAIT_IDS:
        config = config.replace(final_std=GAIT_FINAL_STD)
    iterations = max(run.total_steps // samples, 1)
    if "num_iterations" in train.__dataclass_fields__:
        train = train.replace(num_iterations=float(iterations))
    usual = OFF_POLICY_STEPS // OFF_POLICY_SAMPLES if choice.is_off_policy else USUAL_ITERATIONS
    pace = min(1.0, usual / iterations)
    rates = {name: pace * getattr(constraint, name) for name in _RATES if name in constraint.__dataclass_fields__}
    return Options(run, train, config, constraint.replace(**rates) if rates else constraint)


def _typed(kind: type, values: Any) -> Any:
    """Build a config of a class from the values of JSON, whose lists become tuples. Raises TypeError for wrong ones."""
    if not isinstance(values, dict):
        raise TypeError(f"the settings of {kind.__name__} are {values!r}, not a mapping")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    for name, hint in get_type_hints(kind).items():
        if name in values and not _fits(values[name], hint):
            raise TypeError(f"{name} is {values[name]!r}")
        if isinstance(values.get(name), str) and Path in get_args(hint):
            values[name] = Path(values[name])
    return kind(**values)


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value of JSON fits the type of a setting."""
    parts = get_args(hint)
    if get_origin(hint) is Literal:
        return value in parts
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(each, parts[0]) for each in value)
    if parts:
        return any(_fits(value, part) for part in parts)
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    return isinstance(value, (int, float) if hint is float else str if hint is Path else hint)
