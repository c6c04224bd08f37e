"""The shared types: the state of an environment, its snapshot, and the protocols that agents rely on.

Shape letters: B worlds, O observation size, A action size, C cost sources, N objects of one kind. Scalars are [].
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Places:
    """Positions outside the physics: kind -> [N, 3] m, world frame."""

    markers: dict[str, jax.Array]  # of kinds without a body, such as hazards and the goal
    starts: dict[str, jax.Array]  # at reset, of kinds whose displacement costs


@struct.dataclass
class Dynamics:
    """Factors of one world on the constants of its model: 1 is the model as it is. `Randomize` draws them.

    R bodies, A actuators and J joints of the robot, in the order of the model.
    """

    mass: jax.Array  # [R] on mass and inertia of each body of the robot
    objects: dict[str, jax.Array]  # kind of objects that move -> [], on the mass and inertia of all of that kind
    friction: jax.Array  # [] on the friction of all contacts
    gain: jax.Array  # [A] on the force of each actuator
    damping: jax.Array  # [J] on the damping of each joint


@struct.dataclass
class State:
    """One world between two steps. All fields belong to the same instant."""

    obs: jax.Array  # [O] float32, mixed units: see `Env.obs_slices`
    reward: jax.Array  # [] float32, reward of the step that led here; 0 after reset
    cost: jax.Array  # [] float32, cost of that step as in the reference: 0 or 1 with the indicator on
    costs: jax.Array  # [C] float32 >= 0, raw value of each source, order `Env.cost_names`
    goal_met: jax.Array  # [] bool, this step met the goal
    terminated: jax.Array  # [] bool, terminal state; values do not bootstrap
    truncated: jax.Array  # [] bool, the time limit
    step_count: jax.Array  # [] int32, steps since reset
    placement_failed: jax.Array  # [] bool, the search for a layout or a goal ran out of tries
    data: Any  # physics state; fields in `sim.state.PhysicsState`
    places: Places  # positions outside the physics
    memory: Any  # the task's memory
    key: jax.Array  # [] typed PRNG key for the rest of the episode
    # [] bool, the physics of this step was not finite; the world is as before it, and terminated
    blew_up: jax.Array = struct.field(default_factory=lambda: jnp.bool_(False))

    @property
    def dynamics(self) -> Dynamics | None:
        """The world's own factors on masses, friction, gains and damping, with `randomize`; else None."""
        return self.data.dynamics


@struct.dataclass
class Snapshot:
    """A world as plain arrays: world frame unless said otherwise, SI units, quaternions (w, x, y, z).

    None: absent, or not given.

    `root_linvel` and `root_angvel` are both in the world frame, at the origin of the robot's root body.
    """

    time: Any = None  # [] s
    ctrl: Any = None  # [A] the last control, in the units of the actuators
    act: Any = None  # [na] activations of actuators that have a state
    qpos: Any = None  # [nq] all coordinates; this and the next two: of robots without objects
    qvel: Any = None  # [nv]
    qacc_warmstart: Any = None  # [nv] first guess of the constraint solver
    root_pos: Any = None  # [3] m
    root_quat: Any = None  # [4]
    root_linvel: Any = None  # [3] m/s
    root_angvel: Any = None  # [3] rad/s
    joint_qpos: Any = None  # inner joints in model order, rad or quaternions
    joint_qvel: Any = None  # inner joints in model order, rad/s
    goal_pos: Any = None  # [3] m (a leading axis of 1 is accepted)
    hazards_pos: Any = None  # [N, 3] m
    pillars_pos: Any = None  # [N, 3] m
    buttons_pos: Any = None  # [N, 3] m
    walls_pos: Any = None  # [N, 3] m
    circle_pos: Any = None  # [1, 3] m
    boundary_pos: Any = None  # [N, 3] m
    vases_pos: Any = None  # [N, 3] m
    vases_quat: Any = None  # [N, 4]
    vases_linvel: Any = None  # [N, 3] m/s
    vases_angvel: Any = None  # [N, 3] rad/s
    vases_start_pos: Any = None  # [N, 3] m, at reset; only if displacement costs
    push_box_pos: Any = None  # [1, 3] m
    push_box_quat: Any = None  # [1, 4]
    push_box_linvel: Any = None  # [1, 3] m/s
    push_box_angvel: Any = None  # [1, 3] rad/s
    gremlins_pos: Any = None  # [N, 3] m
    gremlins_quat: Any = None  # [N, 4]
    gremlins_linvel: Any = None  # [N, 3] m/s
    gremlins_angvel: Any = None  # [N, 3] rad/s
    gremlins_start_pos: Any = None  # [N, 3] m, at reset: the centre of their circle; None: computed from the time
    gremlins_start_quat: Any = None  # [N, 4] at reset
    # [N, 3] m, their moving targets relative to `gremlins_start_pos`; follow from the time, `restore` ignores them
    gremlin_mocaps_pos: Any = None
    gremlin_mocaps_quat: Any = None  # [N, 4]
    goal_button: Any = None  # [] int32, index of the button to press
    buttons_timer: Any = None  # [] int32, steps until wrong buttons cost again
    last_dist_goal: Any = None  # [] m, robot to goal after the previous step
    last_dist_box: Any = None  # [] m, robot to box after the previous step
    last_box_goal: Any = None  # [] m, box to goal after the previous step
    last_root_pos: Any = None  # [3] m, the robot after the previous step
    memory: Any = None  # the memory of any other task
    dynamics: Dynamics | None = None  # factors on the constants of the model, in worlds that draw them


class EnvState(Protocol):
    """The part of a state that `vectorize` and the agents rely on."""

    obs: jax.Array  # [O]
    reward: jax.Array  # []
    cost: jax.Array  # []
    costs: jax.Array  # [C], raw
    goal_met: jax.Array  # [] bool
    terminated: jax.Array  # [] bool
    truncated: jax.Array  # [] bool
    step_count: jax.Array  # [] int32, steps since reset

    def replace(self, **changes: Any) -> Any:
        """Return a copy with some fields changed."""
        ...


class Sizes(Protocol):
    """The fixed sizes of an environment."""

    @property
    def obs_size(self) -> int:
        """Observation size O, the number of entries."""
        ...

    @property
    def action_size(self) -> int:
        """Action size A, the number of entries."""
        ...

    @property
    def cost_names(self) -> tuple[str, ...]:
        """Names of the C entries of `State.costs`."""
        ...

    @property
    def episode_length(self) -> int:
        """Steps until `truncated`."""
        ...


S = TypeVar("S")


class Environment(Sizes, Protocol[S]):
    """One world as pure functions. The caller adds `jax.vmap`. All agents train on any world that follows this."""

    def reset(self, key: jax.Array) -> S:
        """Start an episode. key: typed PRNG key []."""
        ...

    def step(self, state: S, action: jax.Array) -> S:
        """Advance by one step. action: [A] in [-1, 1]."""
        ...


class VectorState(Protocol):
    """A batch of B worlds after one step of `vectorize`.

    With `autoreset="same_step"`, the default, ended episodes are already replaced. Act on `obs`. Bootstrap values from
    `final_obs`, the observation before any replacement. The `episode_*` fields belong to the episode of the step. Where
    `done`, they are its totals.
    """

    @property
    def obs(self) -> jax.Array: ...  # [B, O]
    @property
    def final_obs(self) -> jax.Array: ...  # [B, O]
    @property
    def reward(self) -> jax.Array: ...  # [B]
    @property
    def cost(self) -> jax.Array: ...  # [B]
    @property
    def costs(self) -> jax.Array: ...  # [B, C]
    @property
    def goal_met(self) -> jax.Array: ...  # [B] bool
    @property
    def terminated(self) -> jax.Array: ...  # [B] bool
    @property
    def truncated(self) -> jax.Array: ...  # [B] bool
    @property
    def done(self) -> jax.Array: ...  # [B] bool, terminated or truncated
    @property
    def episode_return(self) -> jax.Array: ...  # [B]
    @property
    def episode_cost(self) -> jax.Array: ...  # [B]
    @property
    def episode_costs(self) -> jax.Array: ...  # [B, C] raw
    @property
    def episode_cost_steps(self) -> jax.Array: ...  # [B, C] steps in which the source cost anything
    @property
    def episode_goals(self) -> jax.Array: ...  # [B] int32
    @property
    def episode_length(self) -> jax.Array: ...  # [B] int32
    @property
    def partial(self) -> jax.Array: ...  # [B] bool, first episode, shortened by a staggered start; not for statistics


VS = TypeVar("VS")


class VectorEnvironment(Sizes, Protocol[VS]):
    """B worlds with auto-reset. Agents train on this."""

    @property
    def num_envs(self) -> int:
        """Number of worlds B."""
        ...

    def reset(self, key: jax.Array) -> VS:
        """Start B episodes. key: typed PRNG key []."""
        ...

    def step(self, states: VS, actions: jax.Array) -> VS:
        """Advance all worlds by one step. actions: [B, A] in [-1, 1]."""
        ...
