"""The pages of the velocity environments, one per robot. Numbers come from a `LocomotionEnv`, words are here."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from pathlib import Path

import jax
import mujoco
import numpy as np
from tabular import number, table

import mjx_safety
from mjx_safety import VELOCITY_IDS, LocomotionEnv
from mjx_safety.world.locomotion.config import ANYTHING

DOCS = Path(__file__).resolve().parent
IMAGES = DOCS / "images"
SIZE = (480, 360)  # pixels of a picture
STEPS = 12  # before the picture is taken

AIMS = {
    "HalfCheetah": "Run forwards on two legs, in the vertical plane.",
    "Hopper": "Hop forwards on one leg, in the vertical plane, without falling.",
    "Walker2d": "Walk forwards on two legs, in the vertical plane, without falling.",
    "Swimmer": "Swim forwards with a body of three links, in the horizontal plane.",
    "Ant": "Walk forwards on four legs, without falling or jumping.",
    "Humanoid": "Walk forwards on two legs, without falling.",
}
FIELDS = {  # entry -> unit, meaning
    "cinert": (
        "kg m^2, kg m, kg",
        "inertia of each body about the centre of mass: 6 moments, mass times position (3), mass",
    ),
    "cvel": ("rad/s, m/s", "velocity of each body at the centre of mass: angular (3), linear (3)"),
    "qfrc_actuator": ("N m", "torque of the actuators on each degree of freedom"),
    "cfrc_ext": ("N m, N", "external force on each body at the centre of mass: torque (3), force (3)"),
}
ROOT = {  # type and axis of a joint of the root -> unit, meaning of its coordinate, of its velocity
    ("slide", 0): ("m", "position along x"),
    ("slide", 1): ("m", "position along y"),
    ("slide", 2): ("m", "height of the root"),
    ("hinge", 1): ("rad", "tilt of the root, about +y"),
    ("hinge", 2): ("rad", "heading of the root, about +z"),
}
LAG = (
    "The reference measures in the last stage of the last physics step. Here everything belongs to the final state. In"
    " the recorded steps the speeds differ by {:.2g} m/s at the median, and by at most {:.2g} m/s in 95 % of them."
)


@functools.cache
def robots(env_ids: tuple[str, ...] = VELOCITY_IDS) -> dict[str, dict[str, LocomotionEnv]]:
    """Group environments by robot: name -> id -> environment."""
    groups: dict[str, dict[str, LocomotionEnv]] = {}
    for env_id in env_ids:
        env = mjx_safety.make(env_id, physics="mujoco")
        groups.setdefault(env.config.name, {})[env_id] = env
    return groups


def file_name(robot: str) -> str:
    """File of a robot's page."""
    return f"{robot.lower()}_velocity.md"


def index(env_ids: tuple[str, ...] = VELOCITY_IDS) -> str:
    """Return one line for each environment."""
    rows = []
    for robot, envs in robots(env_ids).items():
        for env_id, env in envs.items():
            limit = f"{number(env.config.threshold)} m/s"
            cells = [
                str(env.obs_size),
                str(env.action_size),
                f"{number(env.dt)} s",
                f"{env.episode_length} steps",
                limit,
            ]
            rows.append([f"[`{env_id}`]({file_name(robot)})", *cells])
    return table(["Id", "Observation", "Action", "Step", "Episode", "Threshold"], rows)


def page(robot: str, envs: dict[str, LocomotionEnv], note: str) -> str:
    """Return all about one robot."""
    env = list(envs.values())[-1]
    parts = {
        "": [AIMS[robot], picture(list(envs)[-1]), facts(envs)],
        "Observation": [observation_table(env)],
        "Action": [action_table(env)],
        "Reward": [reward_text(env)],
        "Cost": [cost_text(envs)],
        "Start and end of an episode": [start_text(env), end_text(env)],
        "Against the reference": [reference_text(env)],
    }
    paragraphs = [f"# {robot} Velocity", note]
    for name, texts in parts.items():
        paragraphs += [f"## {name}"] if name else []
        paragraphs += [text for text in texts if text]
    return "\n\n".join(paragraphs) + "\n"


def picture(env_id: str) -> str:
    """Return the picture."""
    return f"![{env_id}](../images/{env_id}.png)"


def facts(envs: dict[str, LocomotionEnv]) -> str:
    """Return sizes and thresholds of the versions, side by side."""
    rows = {
        "Id": [f"`{env_id}`" for env_id in envs],
        "Threshold": [f"{number(env.config.threshold)} m/s" for env in envs.values()],
        "Observation": [f"[{env.obs_size}]" for env in envs.values()],
        "Action": [f"[{env.action_size}]" for env in envs.values()],
        "Step": [f"{number(env.dt)} s, {env.config.frameskip} physics steps" for env in envs.values()],
        "Episode": [f"{env.episode_length} steps, {number(env.episode_length * env.dt)} s" for env in envs.values()],
    }
    versions = [f"Version {env_id[-1]}" for env_id in envs]
    return table(["", *versions], [[name, *cells] for name, cells in rows.items()])


def observation_table(env: LocomotionEnv) -> str:
    """Return slice, unit and meaning of all entries."""
    rows = []
    for entry, where in env.obs_slices.items():
        if entry in FIELDS:
            unit, meaning = FIELDS[entry]
            rows.append([f"`{entry}`", f"{where.start}:{where.stop}", unit, meaning])
            continue
        start = where.start
        for size, unit, meaning in coordinates(env, of_velocity=entry == "qvel"):
            rows.append([f"`{entry}`", f"{start}:{start + size}", unit, meaning])
            start += size
        assert start == where.stop, (entry, start, where)
    entries = table(["Entry", "Slice", "Unit", "Meaning"], rows)
    clip = env.config.velocity_clip
    return entries if math.isinf(clip) else f"{entries}\n\nThe rates of change are clipped to ±{number(clip)}."


def coordinates(env: LocomotionEnv, *, of_velocity: bool) -> list[tuple[int, str, str]]:
    """Size, unit and meaning of neighbouring coordinates, or of their rates."""
    model, found = env.mj_model, []
    inner: list[str] = []
    for i in range(model.njnt):
        kind = {0: "free", 1: "ball", 2: "slide", 3: "hinge"}[int(model.jnt_type[i])]
        is_root = model.jnt_bodyid[i] == model.body("robot").id
        if kind == "free" and of_velocity:
            found += [
                (3, "m/s", "velocity of the root, world frame"),
                (3, "rad/s", "its angular velocity, root's frame"),
            ]
        elif kind == "free":
            found += [
                (2, "m", "position on the floor"),
                (1, "m", "height of the root"),
                (4, "(1)", "its quaternion (w, x, y, z)"),
            ]
        elif is_root:
            unit, meaning = ROOT[kind, int(np.argmax(np.abs(model.jnt_axis[i])))]
            found.append((1, f"{unit}/s", f"rate of change of the {meaning}") if of_velocity else (1, unit, meaning))
        else:
            inner.append(f"`{model.joint(i).name}`")
    unit, what = ("rad/s", "angular velocities") if of_velocity else ("rad", "angles")
    found.append((len(inner), unit, f"{what}: {', '.join(inner)}"))
    return found if of_velocity else _hide(found, env.config.travel)


def _hide(found: list[tuple[int, str, str]], num: int) -> list[tuple[int, str, str]]:
    """Leave out the first coordinates, which are not observed."""
    hidden = 0
    while hidden < num:
        hidden += found[0][0]
        found = found[1:]
    assert hidden == num
    return found


def action_table(env: LocomotionEnv) -> str:
    """Return joint and largest torque of the actions."""
    model, rows = env.mj_model, []
    for i in range(model.nu):
        largest = model.actuator_ctrlrange[i, 1] * model.actuator_gear[i, 0]
        low, high = model.jnt_range[model.actuator_trnid[i, 0]]
        rows.append([str(i), f"`{model.actuator(i).name}`", f"{number(largest)} N m", f"{low:.3g} to {high:.3g} rad"])
    text = "Actions are torques of the joints. They are clipped to [-1, 1]. 1 is the maximum. Joints have soft limits."
    return f"{text}\n\n{table(['Index', 'Joint', 'Maximum', 'Range of the joint'], rows)}"


def reward_text(env: LocomotionEnv) -> str:
    """Return the formula of the reward."""
    config, high = env.config, number(env.mj_model.actuator_ctrlrange[0, 1])
    point = "root" if config.point == "root" else "centre of mass"
    healthy = f" + {number(config.healthy_reward)}" if config.healthy_reward else ""
    formula = f"{number(config.forward_reward)} * v{healthy} - {number(config.control_cost)} * sum(u^2)"
    scale = "" if high == "1" else f" times {high}"
    where = f"v is the displacement of the {point} along x in a step, divided by the length of the step, in m/s"
    settings = "The settings are `forward_reward`, `healthy_reward` and `control_cost`."
    return f"```\n{formula}\n```\n\nHere {where}. The controls u are the clipped actions{scale}. {settings}"


def cost_text(envs: dict[str, LocomotionEnv]) -> str:
    """Say what costs."""
    texts = {env_id: _speed_text(env) for env_id, env in envs.items()}
    if len(set(texts.values())) == 1:
        speed = f"The speed is {next(iter(texts.values()))}."
    else:
        speed = " ".join(f"In version {env_id[-1]} the speed is {text}." for env_id, text in texts.items())
    return (
        f"`cost` is 1 if the speed is above the threshold, else 0. {speed} The only source is"
        " `velocity`. `costs` holds the excess in m/s."
    )


def _speed_text(env: LocomotionEnv) -> str:
    point = "root" if env.config.point == "root" else "centre of mass"
    if env.config.direction == "ahead":
        return "v with its sign, so moving backwards never costs"
    return f"the displacement of the {point} on the floor, in any direction, divided by the step's length"


def start_text(env: LocomotionEnv) -> str:
    """Say where episodes start."""
    noise = number(env.config.reset_noise)
    rates = {"uniform": f"uniform in ±{noise}", "normal": f"normal, with a standard deviation of {noise}"}
    return (
        "At reset the robot is in the model's own pose, with noise. The noise on coordinates is uniform in"
        f" ±{noise}. The noise on velocities is {rates[env.config.reset_velocity]}."
    )


def end_text(env: LocomotionEnv) -> str:
    """Say when episodes end."""
    config = env.config
    conditions = []
    if config.healthy_height != ANYTHING:
        conditions.append(f"the height leaves {interval(config.healthy_height)} m")
    if config.healthy_angle != ANYTHING:
        conditions.append(f"the tilt leaves {interval(config.healthy_angle)} rad")
    if math.isfinite(config.healthy_state):
        conditions.append(f"another coordinate or velocity leaves ±{number(config.healthy_state)}")
    conditions.append(f"the physics blows up (reward {number(config.reward_exception)}, cost 1)")
    ends = ", or ".join(conditions)
    return f"An episode is `truncated` after {env.episode_length} steps. It is `terminated` if {ends}."


def interval(bounds: Iterable[float]) -> str:
    """Return an open interval."""
    low, high = bounds
    return f"({number(low)}, {number(high) if math.isfinite(high) else 'infinity'})"


def reference_text(env: LocomotionEnv) -> str:
    """Return the differences from the reference, with their measured size."""
    from engine_tables import velocity_speed_error

    solver = mujoco.mjtSolver(env.mj_model.opt.solver)
    texts = [
        "For actions within their range, observation, reward, end and reset are those of Gymnasium's v4 environment.",
        "The cost is that of safety-gymnasium.",
    ]
    if env.config.direction == "any":
        texts.append(LAG.format(*velocity_speed_error(env.config.name)))
    if env.mj_model.jnt_type[0] == mujoco.mjtJoint.mjJNT_FREE:
        texts.append("The first observation has a unit quaternion here, and not in the reference.")
        texts.append(
            "MuJoCo now rotates free bodies slightly differently within a step than in the reference's recordings."
        )
    if solver == mujoco.mjtSolver.mjSOL_PGS:
        texts.append("`mjx` and `warp` lack the PGS solver and use Newton's method for contacts.")
    return " ".join(texts)


def missing_images(env_ids: tuple[str, ...] = VELOCITY_IDS) -> list[str]:
    """Return the names of environments without a picture."""
    shown = [list(envs)[-1] for envs in robots(env_ids).values()]
    return [env_id for env_id in shown if not (IMAGES / f"{env_id}.png").is_file()]


def draw(robot: str) -> None:
    """Write the picture of one robot, a moment after its start."""
    env_id, env = list(robots()[robot].items())[-1]
    state = env.reset(jax.random.key(0))
    for index in range(STEPS):
        state = env.step(state, np.sin(np.arange(env.action_size) + 0.5 * index).astype(np.float32))
    image = mjx_safety.render(env, state.replace(cost=np.float32(0)), width=SIZE[0], height=SIZE[1])
    IMAGES.mkdir(exist_ok=True)
    image.save(IMAGES / f"{env_id}.png")
