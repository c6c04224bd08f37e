"""safety-gymnasium's interface: the step returns six values. It does not need that package.

    import mjx_safety.interop.safety_gymnasium as safety_gymnasium
    env = safety_gymnasium.make("SafetyPointGoal1-v0")
    obs, info = env.reset(seed=0)
    obs, reward, cost, terminated, truncated, info = env.step(env.action_space.sample())

`info` has "cost_sum", a "cost_<source>" for each source, and "goal_met" in steps that met the goal. As in the
reference, costs are 1 or 0 while the environment's `indicator` is on. Numbers are float32, not float64.
"""

from mjx_safety.interop.safety_gymnasium import vector, wrappers
from mjx_safety.interop.safety_gymnasium.six_values import SixValues, SixValuesVector, gymnasium_make, make, make_vector

__all__ = ["SixValues", "SixValuesVector", "gymnasium_make", "make", "make_vector", "vector", "wrappers"]
