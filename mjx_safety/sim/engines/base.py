"""The interface between the environment and its physics. Code above it does not know the engine."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import mujoco

from mjx_safety.sim.state import Measurements, PhysicsState
from mjx_safety.world.objects import AbstractObject


class EngineScene(Protocol):
    """The part of a scene that an engine needs. `Scene` (a robot among objects) and `LoneRobot` implement it.

    The robot comes first in all vectors of the model, and its root body is named `robot`. A geom `floor` lies below.
    """

    @property
    def model(self) -> mujoco.MjModel:
        """The engine's model."""
        ...

    @property
    def true_model(self) -> mujoco.MjModel:
        """The model with the true shapes and the same coordinates, for drawing."""
        ...

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields of `mjData` to read into `Measurements.fields`."""
        ...

    @property
    def objects(self) -> Mapping[str, AbstractObject]:
        """Kinds of objects around the robot: name -> settings."""
        ...

    @property
    def moving_kinds(self) -> tuple[str, ...]:
        """Kinds with coordinates in qpos."""
        ...

    @property
    def driven_kinds(self) -> tuple[str, ...]:
        """Kinds that circle their places."""
        ...

    @property
    def mocap_kinds(self) -> tuple[str, ...]:
        """Kinds with a pose in mocap_pos."""
        ...

    @property
    def solid_kinds(self) -> tuple[str, ...]:
        """Kinds that the robot can touch, in the order of `Measurements.contacts`."""
        ...

    @property
    def solid_bodies(self) -> Sequence[str]:
        """Names of the bodies behind `Measurements.contacts`."""
        ...

    @property
    def starts_alike(self) -> bool:
        """Whether at reset the inner joints of the robot are always as in the model."""
        ...

    @property
    def robot_nq(self) -> int:
        """Coordinates of the robot in qpos."""
        ...

    @property
    def robot_nv(self) -> int:
        """Coordinates of the robot in qvel."""
        ...

    def split(self, kinds: tuple[str, ...], rows: Any) -> dict[str, Any]:
        """Cut an array [sum of N, ...] into its kinds."""
        ...

    def travel(self, name: str) -> float:
        """Radius of the circle that a driven kind follows, m."""
        ...

    def mocap_pos(self, data: PhysicsState, time: Any) -> Any:
        """Positions [..., M, 3] m of the mocap bodies in a physics step that begins at `time` [...] s."""
        ...

    def last_mocap_pos(self, data: PhysicsState, time: Any) -> Any:
        """Positions [..., M, 3] m in the physics step that led to `time` [...] s."""
        ...


def is_measured(scene: EngineScene) -> bool:
    """Whether a scene has anything to measure after a step, which takes an extra forward pass."""
    return bool(scene.model.nsensordata or scene.solid_bodies or scene.fields)


def field_sizes(scene: EngineScene) -> dict[str, int]:
    """Length of each entry of `Measurements.fields`."""
    blank = mujoco.MjData(scene.model)
    return {name: getattr(blank, name).size for name in scene.fields}


def fields_of(scene: EngineScene, full: Any) -> dict[str, jax.Array]:
    """Entries of `Measurements.fields`. full: `mjx.Data` of one world. Some fields are private in MJX."""
    homes = {name: full if name in full.__dataclass_fields__ else full._impl for name in scene.fields}
    return {name: getattr(home, name).ravel() for name, home in homes.items()}


class Scenes(NamedTuple):
    """What a solver may get of a world. Scenes of equal content are one object (`build_scene`)."""

    full: EngineScene  # everything
    near: EngineScene | None = None  # the robot, and slots for the objects that matter; None: all have one
    alone: EngineScene | None = None  # the robot by itself; None: worlds are not sorted
    share: float = 1.0  # of the worlds that step near objects at a time


class AbstractPhysics(abc.ABC):
    """An engine for one scene. All methods are pure and vmappable. State and reading always belong together.

    `mujoco.mj_step` and `mjx.step` return sensors and contacts of the state before the last substep. Every method here
    ends with a forward pass, so its reading belongs to the final state.
    """

    name: ClassVar[str]  # of the engine
    scene: Any  # the `EngineScene` with this engine's model

    @abc.abstractmethod
    def start(self, data: PhysicsState) -> tuple[PhysicsState, Measurements]:
        """Read the first state of an episode: all bodies at rest."""

    @abc.abstractmethod
    def forward(self, data: PhysicsState) -> tuple[PhysicsState, Measurements]:
        """Read any state."""

    @abc.abstractmethod
    def step(
        self, data: PhysicsState, ctrl: jax.Array, max_substeps: int, num_substeps: jax.Array | None = None
    ) -> tuple[PhysicsState, Measurements]:
        """Hold ctrl [A] for `num_substeps` [] physics steps, at most `max_substeps` (None: all of them).

        The targets of driven objects move before each physics step.
        """

    @abc.abstractmethod
    def data(self, data: PhysicsState) -> Any:
        """Return the engine's own complete data of a state, if it has them in JAX."""
