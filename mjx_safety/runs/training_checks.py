"""Refuses a training that cannot work, before anything compiles."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from mjx_safety.agents import ALGORITHMS, AlgorithmChoice, risk
from mjx_safety.agents.checks import RANGES, TRAINING_RANGES, check_settings
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
    sizes = options.algorithm.hidden_sizes
    if not sizes or min(sizes) < 1:
        raise UsageError(f"--hidden-sizes is {sizes}; it must be one or more numbers of units, each at least 1")
    _check_settings(options)
    _check_risk(options, choice)
    parse_limits(run.cost_limits)
    sweep = parse_sweep(options)
    if run.cost_limits and ("cost-limit" in sweep or choice.has_budget):
        culprit = f"--algo {run.algo}" if choice.has_budget else "--sweep cost-limit"
        raise UsageError(f"{culprit} is for the limit of the whole cost; it must come without --cost-limits")
    try:
        options.build()
    except ValueError as error:
        culprit = f"--algo {run.algo} with --cost-limits" if run.cost_limits else f"--algo {run.algo}"
        raise UsageError(f"{culprit}: {error}") from error
    for field in dataclasses.fields(options.algorithm):
        value, flag = getattr(options.algorithm, field.name), "--" + field.name.replace("_", "-")
        if field.name == "random_steps" and value >= run.total_steps:
            raise UsageError(f"{flag} is {value}; it must be below --total-steps {run.total_steps}")
        if field.name == "replay_capacity" and value < samples:
            raise UsageError(f"{flag} is {value}; it must be at least the {samples} steps of one iteration")
        if field.name == "num_minibatches" and value > samples:
            raise UsageError(f"{flag} is {value}; it must be at most the {samples} samples of one iteration")
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


def _check_settings(options: Options) -> None:
    """Refuse what the library refuses, with the name of the flag."""
    of_constraint = dict(RANGES)
    if isinstance(options.constraint, SoftplusAdamSettings):
        of_constraint["multiplier_init"] = 0.0, math.inf, "above 0"
    ranges = {"train": TRAINING_RANGES, "algorithm": RANGES, "constraint": of_constraint}
    for part in PARTS:
        try:
            check_settings(getattr(options, part), ranges[part])
        except ValueError as error:
            name, problem = str(error).split(" ", 1)
            raise UsageError(f"--{name.replace('_', '-')} {problem}") from error


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
    """Refuse infinite or negative flags, and integers beyond those of JAX."""
    for field in dataclasses.fields(options.run):
        value, flag = getattr(options.run, field.name), "--" + field.name.replace("_", "-")
        if isinstance(value, float):
            if math.isnan(value) or (math.isinf(value) and field.name != "cost_limit"):
                raise UsageError(f"{flag} is {value}; it must be a finite number")
            check_at_least(flag, value, 0)
    for part in ("run", *PARTS):
        for field in dataclasses.fields(getattr(options, part)):
            value = getattr(getattr(options, part), field.name)
            if isinstance(value, int) and field.name not in ("seed", "total_steps"):
                check_at_most("--" + field.name.replace("_", "-"), value)
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
