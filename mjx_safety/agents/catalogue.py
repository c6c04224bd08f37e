"""The algorithms by name, for the command line.

A new algorithm is one line in ALGORITHMS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from mjx_safety.agents.constraint_settings import (
    ClampedAdamSettings,
    ConstraintSettings,
    HardLimitSettings,
    MarginSettings,
    ProjectedAscentSettings,
    SlowMarginSettings,
    SoftplusAdamSettings,
    WideMarginSettings,
)
from mjx_safety.agents.constraints import CostLimit, PIDGains
from mjx_safety.agents.cpo import CPOConfig, cpo
from mjx_safety.agents.crpo import CRPOConfig, crpo
from mjx_safety.agents.cup import CUPConfig, cup
from mjx_safety.agents.focops import FOCOPSConfig, focops
from mjx_safety.agents.ipo import IPOConfig, ipo
from mjx_safety.agents.p3o import P3OConfig, p3o
from mjx_safety.agents.pcpo import PCPOConfig, pcpo
from mjx_safety.agents.ppo import PPOConfig, ppo
from mjx_safety.agents.rcpo import RCPOConfig, rcpo
from mjx_safety.agents.risk import limit_cvar
from mjx_safety.agents.sac import OffPolicyMultiplierSettings, OffPolicyPIDGains, SACConfig, sac
from mjx_safety.agents.saute import SauteSettings
from mjx_safety.agents.simmer import SimmerSettings
from mjx_safety.agents.td3 import TD3Config, td3
from mjx_safety.agents.trpo import TRPOConfig, trpo
from mjx_safety.agents.types import Algorithm, Constraint, OffPolicyTrainConfig, TrainConfig
from mjx_safety.types import VectorEnvironment


class AlgorithmChoice(NamedTuple):
    """An algorithm of the command line."""

    summary: str
    page: str  # in docs/algorithms, without ending
    make: Callable[[Any, Constraint], Algorithm]
    config: type  # settings of the policy update
    constraint: type[ConstraintSettings] = HardLimitSettings  # settings of the limit
    train_config: type = TrainConfig  # settings of rollouts and returns
    ends_at_limit: bool = False  # train in episodes that terminate once their cost reaches the limit
    sees_budget: bool = False  # train and act in worlds whose observation tells the rest of the cost budget
    has_limit: bool = True  # whether it limits the cost in any way
    limits_risk: bool = False  # its limit may hold for the CVaR of an episode's cost instead of the mean

    @property
    def is_off_policy(self) -> bool:
        """Whether it learns from a replay buffer. Its rollouts are then short, whatever the number of worlds."""
        return self.train_config is OffPolicyTrainConfig

    @property
    def has_budget(self) -> bool:
        """Whether the limit is a budget of the whole cost of each episode."""
        return self.ends_at_limit or self.sees_budget

    def worlds(self, venv: VectorEnvironment[Any], constraint_config: Any, cost_limit: Any) -> VectorEnvironment[Any]:
        """Return the worlds to act in, which are `venv` or worlds around it."""
        if not self.sees_budget:
            return venv
        return constraint_config.worlds(venv, cost_limit)

    def build(
        self, config: Any, constraint_config: ConstraintSettings, cost_limit: CostLimit, risk_level: float = 0.0
    ) -> Algorithm:
        """Build the algorithm. risk_level: of the CVaR that the limit holds for; 0: the mean."""
        return self.make(config, limit_cvar(constraint_config.build(cost_limit), risk_level))


def _off_policy(summary: str, page: str, make: Callable, config: type, constraint: type) -> AlgorithmChoice:
    return AlgorithmChoice(summary, page, make, config, constraint, train_config=OffPolicyTrainConfig)


def _weighed(summary: str, page: str, make: Callable, config: type, constraint: type) -> AlgorithmChoice:
    return AlgorithmChoice(summary, page, make, config, constraint, limits_risk=True)


def _budget(summary: str, page: str, make: Callable, config: type, constraint: type) -> AlgorithmChoice:
    return AlgorithmChoice(summary, page, make, config, constraint, sees_budget=True)


def _early(summary: str, make: Callable, config: type) -> AlgorithmChoice:
    return AlgorithmChoice(summary, "early_termination", make, config, ends_at_limit=True)


_CHOICE, _ASCENT = AlgorithmChoice, ProjectedAscentSettings

ALGORITHMS: dict[str, AlgorithmChoice] = {
    "ppo": _CHOICE("PPO, without a limit", "ppo", ppo, PPOConfig, has_limit=False),
    "ppo-lag": _weighed("PPO-Lagrangian, multiplier by projected ascent", "lagrangian", ppo, PPOConfig, _ASCENT),
    "ppo-lag-adam": _weighed("PPO-Lagrangian, multiplier by Adam", "lagrangian", ppo, PPOConfig, ClampedAdamSettings),
    "ppo-lag-softplus": _weighed(
        "PPO-Lagrangian, Adam on inverse softplus", "lagrangian", ppo, PPOConfig, SoftplusAdamSettings
    ),
    "ppo-pid": _weighed("PPO, multiplier by a PID controller", "pid", ppo, PPOConfig, PIDGains),
    "ppo-early": _early("PPO on episodes that end at the limit", ppo, PPOConfig),
    "trpo": _CHOICE("TRPO, without a limit", "trpo", trpo, TRPOConfig, has_limit=False),
    "trpo-lag": _weighed("TRPO-Lagrangian, multiplier by projected ascent", "lagrangian", trpo, TRPOConfig, _ASCENT),
    "trpo-pid": _weighed("TRPO, multiplier by a PID controller", "pid", trpo, TRPOConfig, PIDGains),
    "trpo-early": _early("TRPO on episodes that end at the limit", trpo, TRPOConfig),
    "ppo-saute": _budget("PPO that observes its remaining cost budget", "saute", ppo, PPOConfig, SauteSettings),
    "trpo-saute": _budget("TRPO that observes its remaining cost budget", "saute", trpo, TRPOConfig, SauteSettings),
    "ppo-simmer": _budget(
        "PPO that observes a cost budget, which grows in training", "simmer", ppo, PPOConfig, SimmerSettings
    ),
    "trpo-simmer": _budget(
        "TRPO that observes a cost budget, which grows in training", "simmer", trpo, TRPOConfig, SimmerSettings
    ),
    "cpo": _CHOICE("Constrained policy optimisation", "cpo", cpo, CPOConfig, MarginSettings),
    "pcpo": _CHOICE("Projection-based constrained policy optimisation", "pcpo", pcpo, PCPOConfig, WideMarginSettings),
    "focops": _CHOICE("First-order constrained optimisation in policy space", "focops", focops, FOCOPSConfig, _ASCENT),
    "cup": _CHOICE("Conservative update policy", "cup", cup, CUPConfig, _ASCENT),
    "p3o": _CHOICE("Penalised PPO", "p3o", p3o, P3OConfig, SlowMarginSettings),
    "ipo": _CHOICE("Interior-point policy optimisation", "ipo", ipo, IPOConfig, SlowMarginSettings),
    "crpo": _CHOICE("Constraint-rectified policy optimisation", "crpo", crpo, CRPOConfig),
    "rcpo": _CHOICE("Reward constrained policy optimisation", "rcpo", rcpo, RCPOConfig, _ASCENT),
    "sac": AlgorithmChoice(
        "SAC, without a limit", "sac", sac, SACConfig, train_config=OffPolicyTrainConfig, has_limit=False
    ),
    "sac-lag": _off_policy(
        "SAC-Lagrangian, multiplier by projected ascent", "sac", sac, SACConfig, OffPolicyMultiplierSettings
    ),
    "sac-pid": _off_policy("SAC, multiplier by a PID controller", "sac", sac, SACConfig, OffPolicyPIDGains),
    "td3-lag": _off_policy("TD3, multiplier by projected ascent", "td3", td3, TD3Config, OffPolicyMultiplierSettings),
    "td3-pid": _off_policy("TD3, multiplier by a PID controller", "td3", td3, TD3Config, OffPolicyPIDGains),
}
