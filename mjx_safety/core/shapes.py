"""Primitive shapes, declared once for the physics, the rays and the pictures.

A ray meets a convex solid in one interval of distances [enter, leave]. A solid is the intersection of slabs, discs and
balls, so its interval is the intersection of theirs. Without a hit, enter is inf and leave is -inf.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import mujoco
from flax import struct

from mjx_safety.core.geometry import mat_from_quat, to_frame

Interval = tuple[jax.Array, jax.Array]  # [] m, distances at which a ray enters and leaves

NUM_SIZES = {"box": 3, "cylinder": 2, "sphere": 1}
GEOMS = {
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
}
PARALLEL = 1e-12  # (1), a ray whose unit direction has a component below this is parallel to the walls of that axis


@struct.dataclass
class Shape:
    """A box, an upright cylinder or a sphere in its body's frame, without rotation."""

    kind: Literal["box", "cylinder", "sphere"] = struct.field(pytree_node=False)
    size: tuple[Any, ...]  # m, box: half edges x, y, z; cylinder: radius, half length along z; sphere: radius
    pos: tuple[Any, Any, Any] = (0.0, 0.0, 0.0)  # m, centre in the body's frame

    def __post_init__(self) -> None:
        if self.kind not in NUM_SIZES:
            raise ValueError(f"Shape.kind is {self.kind!r}; it must be one of {', '.join(NUM_SIZES)}")
        count = NUM_SIZES[self.kind]
        for field, length in (("size", count), ("pos", 3)):
            value = getattr(self, field)
            if isinstance(value, (tuple, list)) and len(value) != length:  # JAX also rebuilds trees with other leaves
                raise ValueError(f"Shape.{field} is {value!r}; for a {self.kind} it must hold {length} numbers in m")

    @property
    def planar_radius(self) -> Any:
        """Largest distance of the solid from its body's upright axis, m."""
        half = math.hypot(*self.size[:2]) if self.kind == "box" else self.size[0]
        return math.hypot(*self.pos[:2]) + half


def as_column(shape: Shape) -> Shape:
    """Return the shape's outline seen from above, unlimited along z."""
    if shape.kind == "box":
        return shape.replace(size=(*shape.size[:2], math.inf))
    return Shape(kind="cylinder", size=(shape.size[0], math.inf), pos=shape.pos)


def ray_distance(shape: Shape, origin: jax.Array, direction: jax.Array) -> jax.Array:
    """Distance [] m along a ray to the shape's surface, inf without a hit. From inside: to the exit point.

    origin: [3] m; direction: [3] of length 1; both in the body's frame. Equals MuJoCo's `mj_ray`.
    """
    intervals = _INTERVALS[shape.kind](shape.size, origin - jnp.stack(shape.pos), direction)
    enter, leave = (jnp.stack(ends) for ends in zip(*intervals, strict=True))
    enter, leave = jnp.max(enter), jnp.min(leave)
    hit = (enter <= leave) & (leave >= 0)
    return jnp.where(hit, jnp.where(enter >= 0, enter, leave), jnp.inf)


def nearest_hit(
    shapes: tuple[Shape, ...], pos: jax.Array, quat: jax.Array, origin: jax.Array, directions: jax.Array
) -> jax.Array:
    """Distances [R] m along R rays from one origin to the nearest of N equal bodies, inf without a hit.

    shapes: of one body; pos: [N, 3] m, quat: [N, 4], origin: [3] m, directions: [R, 3] of length 1, all in the world
    frame.
    """
    along = jax.vmap(ray_distance, in_axes=(None, None, 0))

    def of_body(body_pos: jax.Array, body_quat: jax.Array) -> jax.Array:
        mat = mat_from_quat(body_quat)
        start, ways = to_frame(origin - body_pos, mat), to_frame(directions, mat)
        return jnp.stack([along(shape, start, ways) for shape in shapes])  # [S, R]

    return jnp.min(jax.vmap(of_body)(pos, quat), axis=(0, 1), initial=jnp.inf)


def add_to(body: mujoco.MjsBody, shape: Shape, **attributes: Any) -> mujoco.MjsGeom:
    """Add the shape to a body of a specification as a geom. attributes: of the geom, such as density or rgba."""
    size = [float(length) for length in shape.size] + [0.0] * (3 - len(shape.size))
    return body.add_geom(type=GEOMS[shape.kind], size=size, pos=[float(x) for x in shape.pos], **attributes)


def _box(size: tuple, origin: jax.Array, direction: jax.Array) -> list[Interval]:
    return [_slab(half, origin[axis], direction[axis]) for axis, half in enumerate(size)]


def _cylinder(size: tuple, origin: jax.Array, direction: jax.Array) -> list[Interval]:
    radius, half_length = size
    return [_ball(radius, origin[:2], direction[:2]), _slab(half_length, origin[2], direction[2])]


def _sphere(size: tuple, origin: jax.Array, direction: jax.Array) -> list[Interval]:
    return [_ball(size[0], origin, direction)]


_INTERVALS = {"box": _box, "cylinder": _cylinder, "sphere": _sphere}


def _slab(half: Any, origin: jax.Array, direction: jax.Array) -> Interval:
    """Where |origin + t direction| <= half. origin: [] m; direction: [] (1)."""
    parallel = jnp.abs(direction) < PARALLEL
    speed = jnp.where(parallel, 1.0, direction)
    low, high = (-half - origin) / speed, (half - origin) / speed
    return _unless(parallel, jnp.abs(origin) <= half, jnp.minimum(low, high), jnp.maximum(low, high))


def _ball(radius: Any, origin: jax.Array, direction: jax.Array) -> Interval:
    """Where |origin + t direction| <= radius, in a plane or in space. origin: [2 or 3] m; direction: alike (1)."""
    speed = jnp.sqrt(jnp.sum(direction * direction))
    parallel = speed < PARALLEL
    speed = jnp.where(parallel, 1.0, speed)
    way = jnp.where(parallel, 0.0, direction / speed)
    middle = -jnp.sum(origin * way)
    closest = origin + middle * way  # its length keeps more digits than the discriminant of the quadratic
    room = radius * radius - jnp.sum(closest * closest)
    half = jnp.sqrt(jnp.maximum(room, 0.0))
    crosses = room >= 0
    enter = jnp.where(crosses, (middle - half) / speed, jnp.inf)
    leave = jnp.where(crosses, (middle + half) / speed, -jnp.inf)
    return _unless(parallel, crosses, enter, leave)


def _unless(parallel: jax.Array, inside: jax.Array, enter: jax.Array, leave: jax.Array) -> Interval:
    """Replace the interval of a ray parallel to the walls: all distances if inside them, none if outside."""
    always = jnp.where(inside, jnp.inf, -jnp.inf)
    return jnp.where(parallel, -always, enter), jnp.where(parallel, always, leave)
