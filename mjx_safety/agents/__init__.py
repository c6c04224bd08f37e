"""Safe-RL agents that train on the device, in one compiled loop with the environments.

venv = vectorize(make("SafetyPointGoal1-v0"), 256, stagger=True)
algorithm = cpo(CPOConfig(), hard_limit(cost_limit=25.0))   # or ppo(PPOConfig(), lagrangian(cost_limit=25.0)), ...
config = TrainConfig()
state = init(venv, algorithm, jax.random.key(0))
for chunk in train(venv, algorithm, config, state, total_steps=1_000_000):
    state = chunk.state  # `train` uses up the one before
    print(chunk.rows[-1])
"""

from __future__ import annotations

from mjx_safety.agents.catalogue import ALGORITHMS, AlgorithmChoice
from mjx_safety.agents.constraints import (
    PIDGains,
    clamped_adam,
    hard_limit,
    lagrangian,
    pid_lagrangian,
    projected_ascent,
    softplus_adam,
    unconstrained,
)
from mjx_safety.agents.cpo import CPOConfig, cpo
from mjx_safety.agents.crpo import CRPOConfig, crpo
from mjx_safety.agents.cup import CUPConfig, cup
from mjx_safety.agents.evaluate import Episodes, evaluate, run_episodes, run_episodes_on_host, summarise
from mjx_safety.agents.focops import FOCOPSConfig, focops
from mjx_safety.agents.ipo import IPOConfig, ipo
from mjx_safety.agents.p3o import P3OConfig, p3o
from mjx_safety.agents.pcpo import PCPOConfig, pcpo
from mjx_safety.agents.ppo import PPOConfig, ppo
from mjx_safety.agents.rcpo import RCPOConfig, rcpo
from mjx_safety.agents.returns import gae
from mjx_safety.agents.risk import limit_cvar
from mjx_safety.agents.sac import SACConfig, sac
from mjx_safety.agents.td3 import TD3Config, td3
from mjx_safety.agents.train import Chunk, Training, init, init_many, iterate, iterate_many, make_chunk, train
from mjx_safety.agents.trpo import TRPOConfig, trpo
from mjx_safety.agents.trust_region import conjugate_gradient, cpo_direction, solve_cpo_dual
from mjx_safety.agents.types import Algorithm, Constraint, OffPolicyTrainConfig, TrainConfig, TrainState

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "AlgorithmChoice",
    "CPOConfig",
    "CRPOConfig",
    "CUPConfig",
    "Chunk",
    "Constraint",
    "Episodes",
    "FOCOPSConfig",
    "IPOConfig",
    "OffPolicyTrainConfig",
    "P3OConfig",
    "PCPOConfig",
    "PIDGains",
    "PPOConfig",
    "RCPOConfig",
    "SACConfig",
    "TD3Config",
    "TRPOConfig",
    "TrainConfig",
    "TrainState",
    "Training",
    "clamped_adam",
    "conjugate_gradient",
    "cpo",
    "cpo_direction",
    "crpo",
    "cup",
    "evaluate",
    "focops",
    "gae",
    "hard_limit",
    "init",
    "init_many",
    "ipo",
    "iterate",
    "iterate_many",
    "lagrangian",
    "limit_cvar",
    "make_chunk",
    "p3o",
    "pcpo",
    "pid_lagrangian",
    "ppo",
    "projected_ascent",
    "rcpo",
    "run_episodes",
    "run_episodes_on_host",
    "sac",
    "softplus_adam",
    "solve_cpo_dual",
    "summarise",
    "td3",
    "train",
    "trpo",
    "unconstrained",
]
