"""Rays against MuJoCo's own, shapes in a specification."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from mjx_safety.core.shapes import Shape, add_to, as_column, nearest_hit, ray_distance

NUM_POSES, NUM_RAYS = 5, 100  # per shape
OFFSET = (0.1, -0.2, 0.05)
SHAPES = [
    Shape(kind="box", size=(0.1, 0.1, 0.1)),
    Shape(kind="box", size=(0.3, 0.05, 0.2), pos=OFFSET),
    Shape(kind="cylinder", size=(0.2, 0.5)),
    Shape(kind="cylinder", size=(0.4, 0.03), pos=OFFSET),
    Shape(kind="sphere", size=(0.1,)),
    Shape(kind="sphere", size=(0.5,), pos=OFFSET),
]
IDENTITY = [1.0, 0.0, 0.0, 0.0]


def grown(shape, by):
    return shape.replace(size=tuple(length + by for length in shape.size))


def inner_box(shape):
    """Half edges [3] of a box that fits inside."""
    first, last = shape.size[0], shape.size[-1]
    if shape.kind == "box":
        return 0.99 * np.array(shape.size)
    return np.array([0.7 * first, 0.7 * first, 0.99 * last]) if shape.kind == "cylinder" else np.full(3, 0.57 * first)


def world_of(*bodies):
    """A model with one body per tuple of shapes, each with its mocap pose."""
    spec = mujoco.MjSpec()
    for shapes in bodies:
        body = spec.worldbody.add_body(mocap=True)
        for shape in shapes:
            add_to(body, shape)
    model = spec.compile()
    return model, mujoco.MjData(model)


def mj_rays(world, pos, quat, origins, directions):
    """Distances [R] of MuJoCo's rays to bodies at pos [N, 3], quat [N, 4]; inf without a hit."""
    model, data = world
    data.mocap_pos[:], data.mocap_quat[:] = pos, quat
    mujoco.mj_kinematics(model, data)
    hits = [
        mujoco.mj_ray(model, data, origin, way, None, True, -1, np.zeros(1, np.int32))
        for origin, way in zip(origins, directions, strict=True)
    ]
    return np.array([hit if hit >= 0 else np.inf for hit in hits])


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def random_quats(rng, num):
    return unit(rng.normal(size=(num, 4)))


@jax.jit
def our_rays(shapes, pos, quat, origins, directions):
    """The same with ours, a ray at a time: each has an origin of its own."""
    pos, quat, origins, directions = (jnp.asarray(x, jnp.float32) for x in (pos, quat, origins, directions))
    return jax.vmap(lambda origin, way: nearest_hit(shapes, pos, quat, origin, way[None])[0])(origins, directions)


def check_against_mujoco(shape, pos, quat, origins, directions):
    """Compare all rays but those that graze an edge: where a tenth of a millimetre more or less decides much."""
    small, exact, large = (
        mj_rays(world_of((grown(shape, by),)), pos, quat, origins, directions) for by in (-1e-4, 0.0, 1e-4)
    )
    with np.errstate(invalid="ignore"):
        clear = np.where(np.isinf(exact), np.isinf(large), np.abs(small - large) < 2e-3)
    assert clear.mean() > 0.9
    ours = np.asarray(our_rays((shape,), pos[None], quat[None], origins, directions))
    np.testing.assert_allclose(ours[clear], exact[clear], atol=1e-5, rtol=0)
    return exact


@pytest.mark.parametrize("shape", SHAPES)
def test_rays_from_outside_are_mujocos(shape):
    rng = np.random.default_rng(0)
    for quat in random_quats(rng, NUM_POSES):
        pos = rng.uniform(-0.5, 0.5, 3)
        origins = pos + 1.5 * unit(rng.normal(size=(NUM_RAYS, 3)))
        directions = unit(pos + rng.uniform(-0.4, 0.4, (NUM_RAYS, 3)) - origins)
        directions[::10] *= -1  # away from it
        exact = check_against_mujoco(shape, pos, quat, origins, directions)
        assert np.isfinite(exact).any() and np.isinf(exact).sum() >= NUM_RAYS / 10


@pytest.mark.parametrize("shape", SHAPES)
def test_rays_from_inside_go_out_as_mujocos_do(shape):
    rng = np.random.default_rng(1)
    half = inner_box(shape)
    for quat in random_quats(rng, NUM_POSES):
        pos, mat = rng.uniform(-0.5, 0.5, 3), np.zeros(9)
        mujoco.mju_quat2Mat(mat, quat)
        inside = np.array(shape.pos) + rng.uniform(-1, 1, (NUM_RAYS, 3)) * half
        origins = pos + inside @ mat.reshape(3, 3).T
        exact = check_against_mujoco(shape, pos, quat, origins, unit(rng.normal(size=(NUM_RAYS, 3))))
        assert np.isfinite(exact).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("axis", range(3))
def test_rays_along_an_axis_are_mujocos(shape, axis):
    along = np.linspace(-0.93, 0.94, 12)
    origins = np.stack(np.meshgrid(along, along, [-2.0, 0.011], indexing="ij"), axis=-1).reshape(-1, 3)
    origins = np.roll(origins, axis + 1, axis=-1)
    directions = np.broadcast_to(np.eye(3)[axis], origins.shape)
    check_against_mujoco(shape, np.zeros(3), np.array(IDENTITY), origins, directions)


@pytest.mark.parametrize("kind, size", [("box", (0.3, 0.3, 0.0)), ("cylinder", (0.3, 0.0)), ("sphere", (0.0,))])
def test_flat_shapes_and_rays_in_their_plane_give_numbers(kind, size):
    ways = jnp.concatenate([jnp.eye(3), -jnp.eye(3)])
    distances = jax.vmap(lambda way: ray_distance(Shape(kind=kind, size=size), jnp.array([1.0, 0.0, 0.0]), way))(ways)
    assert not np.any(np.isnan(distances))
    np.testing.assert_allclose(distances[3], 1.0 - size[0], rtol=1e-6)
    assert np.isinf(np.delete(distances, 3)).all()


@pytest.mark.parametrize(
    "shape, outline",
    [
        (Shape(kind="box", size=(0.2, 0.3, 0.01)), (0.2, 0.3)),
        (Shape(kind="cylinder", size=(0.2, 0.01)), (0.2, 0.2)),
        (Shape(kind="sphere", size=(0.2,)), (0.2, 0.2)),
    ],
)
@pytest.mark.parametrize("height", [-7.0, 0.0, 0.1, 30.0])
def test_a_column_is_met_at_any_height(shape, outline, height):
    for axis in range(2):
        way = -jnp.eye(3)[axis]
        origin = jnp.zeros(3).at[axis].set(2.0).at[2].set(height)
        np.testing.assert_allclose(ray_distance(as_column(shape), origin, way), 2.0 - outline[axis], rtol=1e-6)
        past = origin.at[1 - axis].set(1.01 * outline[1 - axis])
        assert jnp.isinf(ray_distance(as_column(shape), past, way))


def test_a_ray_straight_up_never_leaves_a_column():
    up = jnp.array([0.0, 0.0, 1.0])
    for shape in SHAPES:
        assert jnp.isinf(ray_distance(as_column(shape), jnp.array(shape.pos), up))
        assert jnp.isinf(ray_distance(as_column(shape), jnp.array([3.0, 3.0, 0.0]), up))


def test_the_nearest_of_several_bodies_of_several_shapes_is_mujocos():
    rng = np.random.default_rng(2)
    shapes = (SHAPES[1], SHAPES[3], Shape(kind="sphere", size=(0.15,), pos=(-0.3, 0.0, 0.0)))
    world = world_of(*[shapes] * 4)
    pos, quat = rng.uniform(-1, 1, (4, 3)), random_quats(rng, 4)
    origin, directions = np.array([0.1, 0.2, 1.5]), unit(rng.normal(size=(300, 3)) - [0, 0, 1])
    exact = mj_rays(world, pos, quat, [origin] * 300, directions)
    arrays = (jnp.asarray(x, jnp.float32) for x in (pos, quat, origin, directions))
    ours = np.asarray(jax.jit(nearest_hit)(shapes, *arrays))
    assert 30 < np.isfinite(exact).sum() < 270
    np.testing.assert_allclose(ours, exact, atol=1e-5, rtol=0)


def test_without_bodies_nothing_is_hit():
    distances = nearest_hit((SHAPES[0],), jnp.zeros((0, 3)), jnp.zeros((0, 4)), jnp.zeros(3), jnp.eye(3))
    np.testing.assert_array_equal(distances, np.full(3, np.inf))


def test_sizes_can_be_swept():
    def distance(radius):
        shape = Shape(kind="cylinder", size=(radius, 0.5 * radius))
        return ray_distance(shape, jnp.array([2.0, 0.0, 0.0]), jnp.array([-1.0, 0.0, 0.0]))

    radii = jnp.array([0.1, 0.3, 0.5])
    np.testing.assert_allclose(jax.jit(jax.vmap(distance))(radii), 2.0 - radii, rtol=1e-6)
    many = Shape(kind="sphere", size=(radii,))
    lengths = jax.vmap(ray_distance, in_axes=(Shape(kind="sphere", size=(0,), pos=None), None, None))
    np.testing.assert_allclose(
        lengths(many, jnp.array([0.0, 2.0, 0.0]), jnp.array([0.0, -1.0, 0.0])), 2.0 - radii, rtol=1e-6
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_becomes_a_geom(shape):
    spec = mujoco.MjSpec()
    body = spec.worldbody.add_body()
    geom = add_to(body, shape, density=2.0, rgba=[0, 1, 0, 0.25], group=3, contype=0, conaffinity=0)
    model = spec.compile()
    assert geom.id == 0 and model.ngeom == 1
    np.testing.assert_allclose(model.geom_size[0, : len(shape.size)], shape.size)
    np.testing.assert_allclose(model.geom_pos[0], shape.pos)
    np.testing.assert_allclose(model.geom_quat[0], IDENTITY)
    np.testing.assert_allclose(model.geom_rgba[0], [0, 1, 0, 0.25])
    assert (model.geom_group[0], model.geom_contype[0]) == (3, 0)
    volume = {"box": lambda x, y, z: 8 * x * y * z, "cylinder": lambda r, h: 2 * np.pi * r * r * h}
    volume["sphere"] = lambda r: 4 / 3 * np.pi * r**3
    np.testing.assert_allclose(model.body_mass[body.id], 2.0 * volume[shape.kind](*shape.size))


@pytest.mark.parametrize(
    "field, options",
    [
        ("kind", {"kind": "capsule", "size": (0.1, 0.1)}),
        ("size", {"kind": "box", "size": (0.1, 0.1)}),
        ("size", {"kind": "cylinder", "size": (0.1,)}),
        ("size", {"kind": "sphere", "size": ()}),
        ("pos", {"kind": "sphere", "size": (0.1,), "pos": (0.0, 0.0)}),
    ],
)
def test_a_wrong_shape_is_refused_by_name(field, options):
    with pytest.raises(ValueError, match=rf"Shape\.{field} is .*must"):
        Shape(**options)
