"""Refuses a training that cannot work, before anything compiles."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from mjx_safety.agents import ALGORITHMS, AlgorithmChoice, risk
from mjx_safety.agents.checks import RANGES, SIGNED, UNBOUNDED, is_inside
from mjx_safety.agents.constraint_settings import SoftplusAdamSettings
from mjx_safety.runs.errors import INT32_MAX, NUM_SEEDS, UsageError, check_at_least, check_at_most, check_seed
from mjx_safety.runs.training_options import (
    PARTS,
    SAMPLES,
    USUAL_ITERATIONS,
    USUAL_UNROLL,
    Options,
    choose_algorithm,
    parse_limits,
    parse_sweep,
)

_UNBOUNDED = ("cost_limit", *UNBOUNDED)


def advice(options: Options, cost_names: Sequence[str] | None = None) -> str:
    """What a user may want to change before a long training, or nothing. cost_names: of the environment, if known."""
    if cost_names is not None and not cost_names and choose_algorithm(options.run.algo).has_limit:
        return f"Note: {options.run.env} has no source of cost, so the limit of --algo {options.run.algo} has no effect"
    worlds, unroll = options.run.num_envs, options.train.unroll_length
    ahead = getattr(options.algorithm, "num_target_steps", 1)
    if ahead > unroll and ahead != type(options.algorithm)().num_target_steps:
        return f"Note: unrolls have {unroll} steps, so --num-target-steps {ahead} has the effect of {unroll}"
    most = SAMPLES // USUAL_UNROLL
    if choose_algorithm(options.run.algo).is_off_policy or worlds <= most or unroll >= USUAL_UNROLL:
        return ""
    enough = worlds * USUAL_UNROLL * USUAL_ITERATIONS
    short = f"with {worlds} worlds and {options.run.total_steps:.0e} steps, unrolls have only {unroll} steps"
    return f"Note: {short} and learn badly; take at most --num-envs {most}, or --total-steps {enough:.0e}"


def check(options: Options) -> None:
    """Refuse a training that cannot work, before compilation."""
    run, unroll = options.run, options.train.unroll_length
    check_at_least("--num-envs", run.num_envs, 1)
    check_at_least("--unroll-length", unroll, 1)
    check_at_least("--cost-limit", run.cost_limit, 0)
    _check_seeds(run.seed, run.num_seeds)
    check_at_least("--save-every", run.save_every or 0.0, 0)
    choice = choose_algorithm(run.algo)
    if choice.has_budget and not 0.0 < run.cost_limit < math.inf:
        needs = f"--algo {run.algo} needs a budget of cost, so it must be above 0 and finite"
        raise UsageError(f"--cost-limit is {run.cost_limit}; {needs}")
    if (choice.has_budget or not choice.has_limit) and getattr(options.train, "limit_start", 1.0) != 1.0:
        has = "a budget instead of a limit" if choice.has_budget else "no limit"
        raise UsageError(f"--limit-start is {options.train.limit_start}; --algo {run.algo} has {has}, so it must be 1")
    samples = run.num_envs * unroll
    _check_numbers(options)
    _check_ranges(options)
    _check_risk(options, choice)
    parse_limits(run.cost_limits)
    sweep = parse_sweep(options)
    if run.cost_limits and ("cost-limit" in sweep or choice.has_budget):
        culprit = f"--algo {run.algo}" if choice.has_budget else "--sweep cost-limit"
        raise UsageError(f"{culprit} is for the limit of the whole cost; it must come without --cost-limits")
    sizes = options.algorithm.hidden_sizes
    if not sizes or min(sizes) < 1:
        raise UsageError(f"--hidden-sizes is {sizes}; it must be one or more numbers of units, each at least 1")
    try:
        options.build()
    except ValueError as error:
        culprit = f"--algo {run.algo} with --cost-limits" if run.cost_limits else f"--algo {run.algo}"
        raise UsageError(f"{culprit}: {error}") from error
    for field in dataclasses.fields(options.algorithm):
        value, flag = getattr(options.algorithm, field.name), "--" + field.name.replace("_", "-")
        if field.name.startswith("num_"):
            check_at_least(flag, value, 1)
        if field.name == "random_steps" and value >= run.total_steps:
            raise UsageError(f"{flag} is {value}; it must be below --total-steps {run.total_steps}")
        if field.name == "replay_capacity" and value < samples:
            raise UsageError(f"{flag} is {value}; it must be at least the {samples} steps of one iteration")
        if field.name == "num_minibatches" and value > samples:
            raise UsageError(f"{flag} is {value}; it must be at most the {samples} samples of one iteration")
    for field in dataclasses.fields(options.train):
        value, flag = getattr(options.train, field.name), "--" + field.name.replace("_", "-")
        if field.name in ("limit_start", "num_iterations"):
            check_at_least(flag, value, 1)
        elif isinstance(value, float) and not 0.0 <= value <= 1.0:
            raise UsageError(f"{flag} is {value}; it must lie between 0 and 1")
    if options.train.cost_smoothing == 1.0:
        raise UsageError("--cost-smoothing is 1.0; it must be below 1, or the estimate never learns of a new cost")
    if run.total_steps < 2 * samples:
        first = "" if choice.is_off_policy else ", of which the first only fills the observation normaliser"
        raise UsageError(
            f"--total-steps is {run.total_steps}; it must be at least {2 * samples}: two iterations of "
            f"{run.num_envs} worlds x {unroll} steps{first}"
        )


def _check_seeds(seed: int, num_seeds: int) -> None:
    """Refuse seeds that JAX does not take."""
    check_seed(seed)
    check_at_least("--num-seeds", num_seeds, 1)
    if seed + num_seeds > NUM_SEEDS:
        most = f"from --seed {seed} on, it must be at most {NUM_SEEDS - seed}, because seeds lie below 2^32"
        raise UsageError(f"--num-seeds is {num_seeds}; {most}")


def _check_ranges(options: Options) -> None:
    """Refuse values outside the range of a setting."""
    for part in PARTS:
        settings = getattr(options, part)
        for field in dataclasses.fields(settings):
            bounds, value = RANGES.get(field.name), getattr(settings, field.name)
            if field.name == "multiplier_init" and isinstance(settings, SoftplusAdamSettings):
                bounds = 0.0, math.inf, "above 0"
            if bounds is None:
                continue
            if not is_inside(value, bounds):
                raise UsageError(f"--{field.name.replace('_', '-')} is {value}; it must be {bounds[2]}")


def _check_risk(options: Options, choice: AlgorithmChoice) -> None:
    """Refuse a limit on the CVaR that means nothing."""
    run = options.run
    if run.risk_level == 0.0:
        return
    if not choice.limits_risk:
        able = ", ".join(name for name, other in ALGORITHMS.items() if other.limits_risk)
        raise UsageError(f"--risk-level is not for --algo {run.algo}; the algorithm must be one of: {able}")
    if not run.risk_level <= risk.MAX_LEVEL:
        raise UsageError(f"--risk-level is {run.risk_level}; it must lie between 0 and {risk.MAX_LEVEL}")
    if options.train.use_completed_episodes:
        raise UsageError("--use-completed-episodes has no use beside --risk-level, which always takes ended episodes")


def _check_numbers(options: Options) -> None:
    """Refuse numbers that no training can have: infinite or negative ones, and integers beyond those of JAX."""
    for part in ("run", *PARTS):
        for field in dataclasses.fields(getattr(options, part)):
            value, flag = getattr(getattr(options, part), field.name), "--" + field.name.replace("_", "-")
            if isinstance(value, float) and not math.isfinite(value):
                if not (value > 0.0 and field.name in _UNBOUNDED):
                    raise UsageError(f"{flag} is {value}; it must be a finite number")
            if isinstance(value, float) and field.name not in SIGNED:
                check_at_least(flag, value, 0)
            if isinstance(value, int) and field.name not in ("seed", "total_steps"):
                check_at_most(flag, value)
            if part != "run" and isinstance(value, int) and not isinstance(value, bool):
                check_at_least(flag, value, 1)
    run, unroll = options.run, options.train.unroll_length
    if run.num_envs * unroll > INT32_MAX:
        raise UsageError(f"--num-envs x --unroll-length is {run.num_envs} x {unroll}; it must be at most {INT32_MAX}")
    if run.total_steps > INT32_MAX * run.num_envs * unroll:
        raise UsageError(f"--total-steps is {run.total_steps}; it must be at most {INT32_MAX} iterations")


def check_sources(options: Options, cost_names: Sequence[str]) -> None:
    """Refuse a limit for a source of cost that the environment lacks."""
    for name in parse_limits(options.run.cost_limits):
        if name not in cost_names:
            allowed = ", ".join(cost_names) or "none: this environment has no costs"
            raise UsageError(
                f"--cost-limits {name}: {options.run.env} has no such source; it must be one of: {allowed}"
            )
