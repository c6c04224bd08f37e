"""Randomize: how far the constants of a model differ between worlds, as a value."""

from __future__ import annotations

from mjx_safety.core.settings import (
    Range,
    freeze,
    is_range,
    require,
    require_at_least,
    require_bools,
    settings,
    static,
)

AS_IT_IS: Range = (1.0, 1.0)


@settings
class Randomize:
    """Ranges of factors on the constants of a model, and noise on the sensors.

    Each world draws its factors at reset, uniformly and independently (see `Dynamics`). It keeps them for the episode.
    """

    mass: Range = AS_IT_IS
    """Smallest and largest factor on mass and inertia, drawn for each body of the robot and each kind that moves."""
    friction: Range = AS_IT_IS
    """Smallest and largest factor on the friction of all contacts, drawn once per world."""
    gain: Range = AS_IT_IS
    """Smallest and largest factor on the force of an actuator and its limits, drawn for each actuator."""
    damping: Range = AS_IT_IS
    """Smallest and largest factor on the damping of a joint, drawn for each joint of the robot."""
    sensor_noise: float = static(default=0.0)
    """Standard deviation of the noise on each number of the robot's sensors, in the units of the observation."""
    observed: bool = False
    """Whether the factors are an entry of the observation, `dynamics`: the last one, but for the profile 2019."""

    def __post_init__(self) -> None:
        freeze(self, "mass", "friction", "gain", "damping")
        for field in ("mass", "friction"):
            ok = is_range(getattr(self, field)) and getattr(self, field)[0] > 0
            require(ok, self, field, "(lowest, highest), two finite factors above 0 in this order")
        for field in ("gain", "damping"):
            ok = is_range(getattr(self, field)) and getattr(self, field)[0] >= 0
            require(ok, self, field, "(lowest, highest), two finite factors of at least 0 in this order")
        require_at_least(self, sensor_noise=0.0)
        require_bools(self, "observed")
