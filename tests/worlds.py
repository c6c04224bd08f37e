"""For tests: environments on the C engine compiled once per process, scenes by hand, readings by hand, comparisons."""

import collections
import contextlib
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

import mjx_safety
from mjx_safety.world.readings import Readings

B = 8  # worlds side by side in all tests, so that each function is compiled once
OUTCOMES = (  # fields of `State` that are 0 at the start of an episode
    *("reward", "cost", "costs", "goal_met", "terminated", "truncated"),
    *("step_count", "placement_failed", "blew_up"),
)


def built(**settings):
    """An environment of these settings of `EnvConfig`, on the C engine."""
    return mjx_safety.make(mjx_safety.EnvConfig(**settings), physics="mujoco")


class World:
    """One environment with its compiled functions, of one world and of B worlds; `traces` counts their tracings."""

    def __init__(self, env, **overrides):
        self.env = mjx_safety.make(env, physics="mujoco", **overrides)
        self.traces = collections.Counter()
        names = ("reset", "step", "restore", "snapshot")
        self.reset, self.step, self.restore, self.snapshot = map(self._compile, names)
        self.resets, self.steps, self.restores, self.snapshots = (self._compile(name, jax.vmap) for name in names)

    def _compile(self, name, transform=lambda function: function):
        function = getattr(self.env, name)
        counted_as = f"{name}s" if transform is jax.vmap else name

        def traced(*args):
            self.traces[counted_as] += 1
            return function(*args)

        return jax.jit(transform(traced))

    def actions(self, *shape, seed=5):
        """Uniform random actions [*shape, A]."""
        return jax.random.uniform(jax.random.key(seed), (*shape, self.env.action_size), minval=-1, maxval=1)

    def scene(self, **changes):
        """The world of one key, with some things changed; memories of the reward follow the positions."""
        snapshot = self.snapshot(self.reset(jax.random.key(0)))
        known = {name: getattr(snapshot, name) for name in changes}
        memories = {name: None for name in vars(snapshot) if name.startswith("last_")}
        given = {
            name: jnp.broadcast_to(jnp.asarray(value, known[name].dtype), known[name].shape)
            for name, value in changes.items()
        }
        return self.restore(snapshot.replace(**memories | given))

    def go(self, state, action, num_steps):
        """States after each of some steps with one action."""
        states = []
        for _ in range(num_steps):
            state = self.step(state, jnp.asarray(action, jnp.float32))
            states.append(state)
        return states

    def cost(self, state, name):
        """Raw value of one source of cost."""
        return state.costs[..., self.env.cost_names.index(name)]

    def seen(self, state, name):
        """One entry of the observation."""
        return np.asarray(state.obs[..., self.env.obs_slices[name]])


class Batch:
    """B worlds of one id: states after reset and after each of some random steps, snapshots, restored states."""

    def __init__(self, env_id, num_steps):
        self.world, self.num_steps = World(env_id), num_steps
        self.env = self.world.env

    @functools.cached_property
    def states(self):
        states = [self.world.resets(keys(0))]
        for actions in self.world.actions(self.num_steps, B):
            states.append(self.world.steps(states[-1], actions))
        return states

    @functools.cached_property
    def last(self):
        return self.world.snapshots(self.states[-1])

    @functools.cached_property
    def restored(self):
        return self.world.restores(self.last, keys(1))

    def assert_same_forms(self):
        """All states have the structure, shapes and types of the first one."""
        first = self.states[0]
        for state in (first, self.states[1], self.states[-1], self.restored):
            assert jax.tree.structure(state) == jax.tree.structure(first)
            leaves = jax.tree_util.tree_leaves_with_path(state)
            for (path, leaf), expected in zip(leaves, jax.tree.leaves(first), strict=True):
                name = jax.tree_util.keystr(path)
                assert not getattr(leaf, "weak_type", False), f"{name} has a weak type"
                assert (leaf.shape, leaf.dtype) == (expected.shape, expected.dtype), name


world_of = functools.cache(World)  # by id: shared by the tests that run in one process


def keys(seed):
    """Keys of B worlds."""
    return jax.random.split(jax.random.key(seed), B)


def batch_of(tree, num=B):
    """The same world `num` times."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num, *jnp.shape(leaf))), tree)


def row(tree, i):
    """One world of a batch."""
    return jax.tree.map(lambda leaf: leaf[i], tree)


def plain(tree):
    """The same with keys as numbers."""
    is_key = jax.dtypes.prng_key
    return jax.tree.map(lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, is_key) else x, tree)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, plain(a), plain(b))


def assert_close(a, b, tolerance):
    chex.assert_trees_all_close(plain(a), plain(b), atol=tolerance, rtol=0)


def assert_same_snapshot(a, b, tolerance):
    """Equal up to the sign of quaternions."""

    def signed(path, leaf):
        is_quat = jax.tree_util.keystr(path).endswith("quat")
        return leaf * jnp.where(leaf[..., :1] + 1e-3 * leaf[..., 3:] < 0, -1, 1) if is_quat else leaf

    assert_close(*(jax.tree_util.tree_map_with_path(signed, snapshot) for snapshot in (a, b)), tolerance)


def close_by(env, num, seed=0):
    """Snapshots [num] with everything so close to the robot that much is touched."""
    rng = np.random.default_rng(seed)
    default = jax.eval_shape(lambda key: env.snapshot(env.reset(key)), jax.random.key(0))
    height = {name: kind.height for name, kind in env.config.objects.items()}
    fields = {"root_pos": np.tile((0.0, 0.0, env.config.robot.start_height), (num, 1))}
    for name in env.scene.solid_kinds:
        shape = (num, *getattr(default, f"{name}_pos").shape)
        reach = 0.25 + {"pillars": 0.2, "walls": 0.5, "push_box": 0.2}.get(name, 0.0)
        angle, distance = rng.uniform(0, 2 * np.pi, shape[:-1]), rng.uniform(0.5, 1.4, shape[:-1]) * reach
        pos = np.stack([distance * np.cos(angle), distance * np.sin(angle), np.full(shape[:-1], height[name])], axis=-1)
        if name in ("vases", "gremlins"):
            pos[..., 2] += rng.uniform(0, 0.15, shape[:-1])
        fields[f"{name}_pos"] = pos
    fields["gremlins_start_pos"] = fields["gremlins_pos"]
    return mjx_safety.Snapshot(**{name: jnp.asarray(value, jnp.float32) for name, value in fields.items()})


def by_hand(root_pos=(0.0, 0.0, 0.1), root_linvel=(0.0, 0.0, 0.0), linvel=None, contacts=None, start_pos=None, **pos):
    """Readings of a robot that looks along +x. pos: kind=[[x, y, z], ...]; the rest by kind; contacts: points."""

    def by_kind(values):
        return {name: jnp.asarray(value, jnp.float32) for name, value in (values or {}).items()}

    return Readings(
        root_pos=jnp.array(root_pos, jnp.float32),
        root_quat=jnp.array([1.0, 0.0, 0.0, 0.0]),
        root_linvel=jnp.array(root_linvel, jnp.float32),
        root_angvel=jnp.zeros(3),
        ctrl=jnp.zeros(0),
        sensors=jnp.zeros(0),
        pos=by_kind(pos),
        quat={},
        linvel=by_kind(linvel),
        angvel={},
        contacts=by_kind(contacts),
        start_pos=by_kind(start_pos),
        com=None,
        hidden={},
    )


@contextlib.contextmanager
def counted_programs():
    """Yield a list that fills with the names of the functions that are compiled meanwhile."""
    names = []

    def listen(event, _, fun_name="", **__):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
