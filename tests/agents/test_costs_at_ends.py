"""Whether a true end, such as a fall, saves the cost of the steps that would have followed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from mjx_safety.agents.off_policy import Objective, Step
from mjx_safety.agents.q_critics import init_critics, n_step_targets
from mjx_safety.agents.sac import SACConfig
from mjx_safety.agents.types import OffPolicyTrainConfig
from mjx_safety.cli.common import parse
from mjx_safety.env.vector import vectorize

from . import probe_envs
from .test_constrained_optimum import learner, trained


class MayFall(probe_envs.ProbeEnv):
    """Every step costs 1, and an action a ends the episode with a chance of (1 + a) / 10. Reward 1 - a^2."""

    def outcome(self, state, action, key):
        return 1.0 - jnp.square(jnp.clip(action[0], -1.0, 1.0)), jnp.float32(1.0)

    def step(self, state, action):
        key = jax.random.fold_in(state.key, 1)
        falls = jax.random.uniform(key) < 0.1 * (1.0 + jnp.clip(action[0], -1.0, 1.0))
        return super().step(state, action).replace(terminated=falls)


@pytest.mark.parametrize("risk_level", [0.0, pytest.param(0.9, marks=pytest.mark.thorough)])
def test_no_policy_learns_to_fall_if_costs_bootstrap(risk_level):
    """Reward alone asks for an action below 0, as life goes on. A multiplier asks for a higher one, as costs end."""
    venv = vectorize(MayFall(), 64, stagger=True)
    algorithm = learner("ppo-lag", 0.0, risk_level, multiplier_init=5.0, multiplier_learning_rate=0.0)
    falls, stays = (trained(venv, algorithm, 150, bootstrap_costs_at_ends=flag)[1][-50:] for flag in (False, True))
    assert np.mean(falls) > 0.03
    assert np.mean(stays) < -0.1


@pytest.mark.parametrize("bootstraps", [False, True])
def test_off_policy_targets_follow_the_same_setting(bootstraps, key):
    """Reward 2 and cost 3 on a step that may be a true end, against the critics' values of the next one."""
    sizes = vectorize(MayFall(), 1)
    critics = init_critics(SACConfig(hidden_sizes=(4,)), sizes, 1, key)
    obs, action = jax.random.normal(key, (2, 3)), jnp.zeros((2, 1))
    batch = Step(obs, action, jnp.full(2, 2.0), jnp.full((2, 1), 3.0), obs, jnp.array([False, True]))
    config = OffPolicyTrainConfig(bootstrap_costs_at_ends=bootstraps, discount=0.9, cost_discount=0.8)
    target, cost_target = n_step_targets(Objective(config, jnp.zeros(1)), critics, batch, action, 0.0)
    rest = 0.9 * np.min(critics.rewards(obs, action), axis=0)
    cost_rest = 0.8 * np.maximum(np.mean(critics.costs(obs, action), axis=0), 0.0)
    assert_allclose(target, 2.0 + rest * np.array([1.0, 0.0]), rtol=1e-5)
    assert_allclose(cost_target, 3.0 + cost_rest * np.array([[1.0], [bootstraps]]), rtol=1e-5)


@pytest.mark.parametrize(("env", "bootstraps"), [("SafetyHopperVelocity-v1", True), ("SafetyPointGoal1-v0", False)])
@pytest.mark.parametrize("algo", ["ppo-lag", "trpo-lag", "cpo", "sac-lag"])
def test_the_velocity_family_bootstraps(algo, env, bootstraps):
    assert parse(["--algo", algo, "--env", env]).train.bootstrap_costs_at_ends == bootstraps
    chosen = parse(["--algo", algo, "--env", env, "--no-bootstrap-costs-at-ends"])
    assert not chosen.train.bootstrap_costs_at_ends
