"""What importing the package does not do: touch a device, import engines or agents, print."""

import subprocess
import sys

CHECK = """
import sys
import mjx_safety
from jax._src import xla_bridge
heavy = {"mujoco.mjx", "warp", "optax", "orbax", "matplotlib", "mjx_safety.agents"}
print(sorted(heavy & set(sys.modules)), bool(xla_bridge._backends))
env = mjx_safety.make("SafetyPointGoal0-v0", physics="mjx")
"""


def test_importing_is_light_and_quiet():
    done = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[] False"]
