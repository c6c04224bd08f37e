"""Safe-RL agents that learn where the environments live: on the device, in one compiled loop.

algorithm = ppo(PPOConfig(), lagrangian(cost_limit=25.0))
config = TrainConfig()
state = init(venv, algorithm, jax.random.key(0))
for chunk in train(venv, algorithm, config, state, total_steps=1_000_000):
    print(chunk.rows[-1])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from flax import struct

from mjx_safety.agents.constraints import (
    PIDGains,
    clamped_adam,
    lagrangian,
    pid_lagrangian,
    projected_ascent,
    softplus_adam,
    unconstrained,
)
from mjx_safety.agents.evaluate import Episodes, evaluate, summarise
from mjx_safety.agents.ppo import PPOConfig, ppo
from mjx_safety.agents.returns import gae
from mjx_safety.agents.train import Chunk, TrainConfig, init, iterate, make_chunk, train
from mjx_safety.agents.types import Algorithm, Constraint, TrainState

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "AlgorithmChoice",
    "Chunk",
    "Constraint",
    "Episodes",
    "NoSettings",
    "PIDGains",
    "PPOConfig",
    "ProjectedAscentSettings",
    "TrainConfig",
    "TrainState",
    "clamped_adam",
    "evaluate",
    "gae",
    "init",
    "iterate",
    "lagrangian",
    "make_chunk",
    "pid_lagrangian",
    "ppo",
    "projected_ascent",
    "softplus_adam",
    "summarise",
    "train",
    "unconstrained",
]


@struct.dataclass
class NoSettings:
    """An algorithm without a constraint has none of its settings."""


@struct.dataclass
class ProjectedAscentSettings:
    """How the multiplier follows the violation."""

    multiplier_learning_rate: float = 0.0005  # multiplier per unit of violation (episode cost - limit) and iteration
    multiplier_init: float = 0.0  # weight of cost at the start
    multiplier_max: float = 50.0  # cap of the multiplier


@struct.dataclass
class ClampedAdamSettings:
    """How the multiplier follows the violation: Adam, as in OmniSafe."""

    multiplier_learning_rate: float = 0.035  # about the change of the multiplier per iteration
    multiplier_init: float = 0.001  # weight of cost at the start
    multiplier_max: float = 50.0  # cap of the multiplier


@struct.dataclass
class SoftplusAdamSettings:
    """How the multiplier follows the violation: Adam on its inverse softplus, as in safety-starter-agents."""

    multiplier_learning_rate: float = 0.05  # about the change of the inverse softplus per iteration
    multiplier_init: float = 1.0  # weight of cost at the start


class AlgorithmChoice(NamedTuple):
    """What the command line needs to offer an algorithm: the settings that become flags, and how to build it."""

    config: type  # settings of the policy update
    constraint_config: type  # settings of the constraint
    build: Callable[[Any, Any, float], Algorithm]  # config, constraint_config, cost_limit


ALGORITHMS: dict[str, AlgorithmChoice] = {
    "ppo": AlgorithmChoice(PPOConfig, NoSettings, lambda config, _, limit: ppo(config)),
    "ppo-lag": AlgorithmChoice(PPOConfig, ProjectedAscentSettings, lambda c, m, d: ppo(c, _projected(m, d))),
    "ppo-lag-adam": AlgorithmChoice(PPOConfig, ClampedAdamSettings, lambda c, m, d: ppo(c, _clamped_adam(m, d))),
    "ppo-lag-softplus": AlgorithmChoice(PPOConfig, SoftplusAdamSettings, lambda c, m, d: ppo(c, _softplus_adam(m, d))),
    "ppo-pid": AlgorithmChoice(PPOConfig, PIDGains, lambda c, gains, limit: ppo(c, pid_lagrangian(limit, gains))),
}


def _projected(settings: ProjectedAscentSettings, cost_limit: float) -> Constraint:
    rule = projected_ascent(settings.multiplier_init, settings.multiplier_learning_rate, settings.multiplier_max)
    return lagrangian(cost_limit, rule)


def _clamped_adam(settings: ClampedAdamSettings, cost_limit: float) -> Constraint:
    rule = clamped_adam(settings.multiplier_init, settings.multiplier_learning_rate, settings.multiplier_max)
    return lagrangian(cost_limit, rule)


def _softplus_adam(settings: SoftplusAdamSettings, cost_limit: float) -> Constraint:
    return lagrangian(cost_limit, softplus_adam(settings.multiplier_init, settings.multiplier_learning_rate))
