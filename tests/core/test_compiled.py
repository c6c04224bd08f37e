"""Methods of environments compile once per structure, and programs of structures used long ago are freed."""

import gc

import jax
import jax.numpy as jnp
import pytest
from flax import struct
from worlds import counted_programs

from mjx_safety.core.compiled import KEPT, compiled


@struct.dataclass
class Toy:
    gain: float
    size: int = struct.field(pytree_node=False, default=1)

    @compiled
    def scale(self, value):
        """Multiply by the gain and the size."""
        return jnp.ones(self.size) * self.gain * value


def num_programs():
    gc.collect()
    return len(jax.devices()[0].client.live_executables())


def test_equal_structures_share_a_program():
    with counted_programs() as programs:
        for gain in (2.0, 3.0):
            assert Toy(gain, 41).scale(2.0).tolist() == [2.0 * gain] * 41
    assert programs.count("jit(scale)") == 1


def test_it_reads_like_the_function():
    assert Toy.scale.__doc__ == "Multiply by the gain and the size."
    assert jax.vmap(Toy(2.0, 3).scale)(jnp.arange(2.0)).tolist() == [[0.0] * 3, [2.0] * 3]
    assert jax.grad(lambda gain: Toy(gain, 3).scale(2.0).sum())(1.0) == pytest.approx(6.0)


def test_programs_end():
    """Without an end, a few hundred environments use up the memory maps of a process."""
    for size in range(100, 100 + KEPT):
        Toy(1.0, size).scale(1.0)
    before = num_programs()
    for size in range(100 + KEPT, 110 + KEPT):
        Toy(1.0, size).scale(1.0)
    assert num_programs() <= before
    with counted_programs() as programs:
        Toy(1.0, 109 + KEPT).scale(1.0)
        Toy(1.0, 100).scale(1.0)
    assert programs.count("jit(scale)") == 1  # of the structure that was forgotten
