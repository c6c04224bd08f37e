"""The pages of the environments. Numbers come from an `Env`, words from words.py.

An entry without words (of the observation, an actuator, a source of cost, a kind of object, a task) is an error that
names it.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from operator import attrgetter
from pathlib import Path
from typing import Any

import jax
import mujoco
import numpy as np
import velocity_pages
import words
from actuators import actuator_limits, saturation_text
from tabular import number, table

import mjx_safety
from mjx_safety import BENCHMARK_IDS, NAVIGATION_IDS, VELOCITY_IDS, Env
from mjx_safety.core.shapes import Shape
from mjx_safety.viz import draw_top_view, heading
from mjx_safety.world.objects import AbstractObject
from mjx_safety.world.tasks import run
from mjx_safety.world.tasks.costs import sources

DOCS = Path(__file__).resolve().parent
FOLDER = "environments"  # below docs/
IMAGES = DOCS / "images"
KEY = 0  # of the worlds in the pictures
DPI = 110
AREA = "the area"


def look_up(table: Mapping[str, Any], name: str, what: str) -> Any:
    """Return the words for a name. Raises SystemExit where there are none."""
    for pattern, text in table.items():
        if fnmatchcase(name, pattern):
            return text
    raise SystemExit(f"docs/words.py has no words for the {what} {name!r}: add them")


# -- numbers ----------------------------------------------------------------------------------------------------------

Levels = dict[int, Env]  # level -> environment, of one robot and task


@functools.cache
def sections(env_ids: tuple[str, ...]) -> dict[str, Levels]:
    """Group environments by robot and task: title -> levels."""
    groups: dict[str, Levels] = {}
    for env_id in env_ids:
        env = mjx_safety.make(env_id, physics="mujoco")
        title = f"{env.config.robot.name} {env.config.task.name}"
        groups.setdefault(title, {})[int(env_id.removesuffix("-v0")[-1])] = env
    return groups


def id_of(env: Env, level: int) -> str:
    """Name of an environment."""
    return f"Safety{env.config.robot.name}{env.config.task.name}{level}-v0"


def by_level(values: Iterable[str]) -> str:
    """One value where all levels agree, else those of the levels in turn."""
    values = list(values)
    return values[0] if len(set(values)) == 1 else " / ".join(values)


def levels_text(levels: Sequence[int]) -> str:
    """Name some levels."""
    return f"{'Level' if len(levels) == 1 else 'Levels'} {', '.join(map(str, levels))}"


def place(x: float, y: float) -> str:
    """Return a point in m."""
    return f"({number(x)}, {number(y)})"


def rectangle(bounds: Sequence[float]) -> str:
    """Return a rectangle in m."""
    xmin, ymin, xmax, ymax = bounds
    spans = [number(a) if a == b else f"{number(a)} to {number(b)}" for a, b in ((xmin, xmax), (ymin, ymax))]
    return f"x {spans[0]}, y {spans[1]}"


def shape_text(shape: Shape) -> str:
    """Return kind and size of a shape, full lengths in m."""
    if shape.kind == "box":
        return "box " + " x ".join(number(2 * x) for x in shape.size)
    height = f", height {number(2 * shape.size[1])}" if shape.kind == "cylinder" else ""
    return f"{shape.kind}, radius {number(shape.size[0])}{height}"


def shapes_text(kind: AbstractObject) -> str:
    """Return the shapes of a kind."""
    texts = [shape_text(shape) for shape in kind.shapes]
    counts = {text: texts.count(text) for text in texts}
    return ", ".join(text if count == 1 else f"{count} times {text}" for text, count in counts.items())


# -- tables -----------------------------------------------------------------------------------------------------------


def facts(levels: Levels) -> str:
    """Return pictures and sizes of the levels, side by side."""
    rows: dict[str, Callable[[int, Env], str]] = {
        "Id": lambda level, env: f"`{id_of(env, level)}`",
        "Start": lambda level, env: f"![{id_of(env, level)} from above](../images/{id_of(env, level)}.png)",
        "Area (m)": lambda level, env: rectangle(env.config.extents),
        "Observation": lambda level, env: f"[{env.obs_size}]",
        "Action": lambda level, env: f"[{env.action_size}]",
        "Sources of cost": lambda level, env: ", ".join(f"`{name}`" for name in env.cost_names) or "-",
        "Step": lambda level, env: f"{number(env.dt)} s",
        "Episode": lambda level, env: f"{env.episode_length} steps, {number(env.episode_length * env.dt)} s",
    }
    if not any(AREA in place_text(env, *item) for env in levels.values() for item in placed(env).items()):
        del rows["Area (m)"]
    body = [[name, *(cell(level, env) for level, env in levels.items())] for name, cell in rows.items()]
    return table(["", *(f"Level {level}" for level in levels)], body)


def runs(names: Iterable[str], patterns: Mapping[str, Any], what: str) -> list[list[str]]:
    """Group neighbouring names that share their words."""
    return [list(group) for _, group in itertools.groupby(names, lambda name: look_up(patterns, name, what))]


def span(names: Sequence[str]) -> str:
    """Name a group by its first and last member."""
    return f"`{names[0]}`" if len(names) == 1 else f"`{names[0]}` ... `{names[-1]}`"


def observation_table(levels: Levels) -> str:
    """Return entry, place, unit and meaning of the observation; one column per layout that occurs."""
    layouts: dict[tuple, list[int]] = {}
    for level, env in levels.items():
        layouts.setdefault(tuple((name, s.start, s.stop) for name, s in env.obs_slices.items()), []).append(level)
    columns = [{name: (start, stop) for name, start, stop in layout} for layout in layouts]
    titles = [levels_text(members) for members in layouts.values()]
    entries = {name: None for column in columns for name in column}
    env = next(env for env in levels.values() if len(env.obs_slices) == len(entries))  # the one with all entries
    magnetic = f"({', '.join(map(number, env.mj_model.opt.magnetic))})"
    rows = []
    for group in runs(env.obs_slices, words.ENTRIES, "entry of the observation"):
        places = [f"{column[group[0]][0]}:{column[group[-1]][1]}" if group[0] in column else "-" for column in columns]
        size = env.obs_slices[group[-1]].stop - env.obs_slices[group[0]].start
        unit, meaning = look_up(words.ENTRIES, group[0], "entry of the observation")
        sizes = str(size) if len(group) == 1 else f"{len(group)} x {size // len(group)}"
        rows.append([span(group), *places, sizes, unit, meaning.format(config=env.config, magnetic=magnetic)])
    head = ["Entry", *(["Slice"] if len(columns) == 1 else titles), "Size", "Unit", "Meaning"]
    return table(head, rows)


def lidar_text(levels: Levels) -> str:
    """Return what all lidars have in common; nothing where there are none."""
    env = list(levels.values())[-1]
    if not any(name.endswith("_lidar") for name in env.obs_slices):
        return ""
    lidar = env.config.lidar
    if lidar.kind != "pseudo" or lidar.max_dist is None:
        raise SystemExit("docs/generate.py has no words for lidars other than pseudo lidars with max_dist")
    shared = " An object also raises the readings of the two neighbouring sectors." if lidar.alias else ""
    return (
        f"Lidars have {lidar.num_bins} sectors of {number(360 / lidar.num_bins)} degrees, counter-clockwise from the"
        f" robot's +x axis. They measure to centres. A reading is 1 at the robot and falls linearly to 0 at"
        f" {number(lidar.max_dist)} m.{shared}"
    )


def action_table(env: Env) -> str:
    """Return index, range, limits and meaning of the actions."""
    model = env.mj_model
    names = [f"{env.config.robot.name} {model.actuator(i).name}" for i in range(model.nu)]
    rows, start = [], 0
    for group in runs(names, words.ACTIONS, "actuator"):
        stop = start + len(group)
        index = str(start) if len(group) == 1 else f"{start}:{stop}"
        limits = {actuator_limits(model, i) for i in range(start, stop)}
        if len(limits) != 1:
            raise SystemExit(f"docs/generate.py: the actuators {group} differ; give them words of their own")
        short = [name.partition(" ")[2] for name in group]
        rows.append([index, span(short), *limits.pop(), look_up(words.ACTIONS, group[0], "actuator")])
        start = stop
    return table(["Index", "Actuator", "Range", "Saturates at", "Maximum", "Meaning"], rows)


def object_table(levels: Levels) -> str:
    """Return number, size, keepout and place of robot and objects."""
    robots = [env.config.robot for env in levels.values()]
    where = [place_text(env, "robot", robot) for env, robot in zip(levels.values(), robots, strict=True)]
    rows = [["robot", *("1" for _ in levels), "-", by_level(number(r.keepout) for r in robots), by_level(where), "-"]]
    names = {name: None for env in levels.values() for name in env.config.objects}
    for name in names:
        found = [env.config.objects.get(name) for env in levels.values()]
        counts = ["-" if kind is None else str(kind.num) for kind in found]
        having = [(env, kind) for env, kind in zip(levels.values(), found, strict=True) if kind is not None]
        kinds = [kind for _, kind in having]
        keepouts = [number(kind.keepout) if name in env.config.placed else "-" for env, kind in having]
        body = by_level(look_up(words.BODIES, kind.body_kind, "body kind") for kind in kinds)
        places = by_level(place_text(env, name, kind) for env, kind in having)
        look = f"{look_up(words.KINDS, name, 'kind of object').format(kind=kinds[0])}; {body}"
        rows.append([name, *counts, by_level(map(shapes_text, kinds)), by_level(keepouts), places, look])
    head = ["", *(f"Level {level}" for level in levels), "Size (m)", "Keepout (m)", "Placed in (m)", "What it is"]
    return table(head, rows)


def placed(env: Env) -> dict[str, Any]:
    """Return what a layout finds places for: name -> settings."""
    return {"robot": env.config.robot, **env.config.placed}


def place_text(env: Env, name: str, kind: Any) -> str:
    """Say where a layout puts a kind, in m."""
    if name not in placed(env):
        return "on the target"
    if kind.locations:
        return ", ".join(place(*xy) for xy in kind.locations)
    return " or ".join(map(rectangle, kind.placements)) if kind.placements else AREA


def reward_text(levels: Levels) -> str:
    """Return the formula of the reward and the values of the settings in it."""
    env = list(levels.values())[-1]
    task, text = env.config.task, look_up(words.TASKS, env.config.task.name, "task")
    values = []
    for name, unit in text.settings.items():
        of_levels = {number(attrgetter(name)(other.config.task)) for other in levels.values()}
        if len(of_levels) != 1:
            raise SystemExit(f"docs/generate.py: the setting {name} of {task.name} differs between levels")
        values.append(f"`{name}` = {of_levels.pop()} {unit}".rstrip())
    where = text.where.format(target=place(*run.TARGET))
    clip = env.config.reward_clip
    what = "The reward without the bonus `reward_goal`" if "goal" in task.objects else "The reward"
    clipped = f"{what} is clipped to [-{number(clip)}, {number(clip)}]." if clip else "The reward is not clipped."
    before, is_true = "A prime marks the value after the previous step. ", "[...] is 1 if true, else 0. "
    signs = before * ("'" in text.reward) + is_true * ("[" in text.reward)
    return f"```\n{text.reward}\n```\n\nHere {where}. {signs}Settings: {', '.join(values)}. {clipped}"


def cost_text(levels: Levels) -> str:
    """Return the sources of cost, and what they add up to."""
    rows: dict[str, list[str]] = {}
    free: dict[str, list[int]] = {}
    for level, env in levels.items():
        for name, kind in env.config.objects.items():
            for source in sources(name, kind):
                if source not in env.cost_names:
                    free.setdefault(name, []).append(level)
                    continue
                setting, rule = look_up(words.COSTS, source, "source of cost")
                rule = rule.format(kind=kind, task=env.config.task)
                row = [f"`{source}`", "", rule, f"`{name}.{setting}` = {number(getattr(kind, setting))}"]
                known = rows.setdefault(source, row)
                known[1] = f"{known[1]}, {level}".removeprefix(", ")
                if known[2:] != row[2:]:
                    raise SystemExit(f"docs/generate.py: the cost {source} differs between levels")
    notes = [f"At {levels_text(sorted(set(at))).lower()} the {name} cost nothing." for name, at in free.items()]
    if not rows:
        return "No source of cost."
    parts = [table(["Source", "Level", "Raw value of a step", "Times"], rows.values())]
    indicator = {env.config.indicator for env in levels.values()} == {True}
    total = "1 if any source is positive, else 0" if indicator else "the sum of the sources"
    return "\n\n".join([*parts, " ".join([f"`cost` is {total}. `costs` holds the raw values.", *notes])])


def end_text(levels: Levels) -> str:
    """Say when episodes end."""
    env = list(levels.values())[-1]
    config = env.config
    places = "a layout or a new goal" if config.task.moves else "a layout"
    met = "" if config.continue_goal else " the robot meets the goal,"
    lowest = config.robot.lowest
    low = "" if lowest is None else f" the robot's root is at {number(lowest)} m or below,"
    return (
        f"An episode is `truncated` after {env.episode_length} steps. It is `terminated` if{met}{low} {places} finds no"
        f" free place, or the physics blows up (reward {number(config.reward_exception)}, cost 1)."
    )


# -- pages ------------------------------------------------------------------------------------------------------------

NOTE = "<!-- Written by docs/generate.py: change docs/words.py or the environments, not this file. -->"
HEAD = f"""# Environments

{NOTE}

`mjx_safety.ENV_IDS` holds two families. The {{num}} ids of [navigation](#navigation) are robots among objects. The
{{num_velocity}} ids of [velocity](#velocity) are robots without objects. Each id links to a page with a picture and
tables of observation, action, reward and cost.

## Navigation

All {{num}} ids of `NAVIGATION_IDS`. The first {{num_benchmark}} are those of the benchmark, `BENCHMARK_IDS`.

- Units are SI, angles are in radians, and (1) means unitless. Sensors are in the frame of the robot's root. Positions
  are in the world frame.
- In a layout, the keepout circles of two objects do not overlap.
- Pictures show a world at reset, from above. The triangle points in the direction of the robot. The grey square bounds
  the area for placement.
- `Safexp-PointGoal1-v0` and its siblings (`ENV_IDS_2019`) are the environments of Safety Gym (2019). The
  [questions](../faq.md#what-are-the-ids-of-2019) list the differences.
"""
VELOCITY = """## Velocity

All {num} ids of `VELOCITY_IDS`: Gymnasium's six robots. Each step faster than a threshold costs 1. Published results
use version 1. Version 0 has other thresholds.
"""


def file_name(title: str) -> str:
    """File of a robot and task."""
    return f"{title.lower().replace(' ', '_')}.md"


def index(groups: Mapping[str, Levels]) -> str:
    """Return one line for each environment."""
    rows = []
    for title, levels in groups.items():
        for level, env in levels.items():
            costs = ", ".join(f"`{name}`" for name in env.cost_names) or "-"
            sizes = [str(env.obs_size), str(env.action_size), f"{number(env.dt)} s", f"{env.episode_length} steps"]
            rows.append([f"[`{id_of(env, level)}`]({file_name(title)})", *sizes, costs])
    return table(["Id", "Observation", "Action", "Step", "Episode", "Sources of cost"], rows)


def forward_text(env: Env) -> str:
    """Say which axis of its own the robot calls forward."""
    data = mujoco.MjData(env.mj_model)
    mujoco.mj_kinematics(env.mj_model, data)
    mujoco.mj_comPos(env.mj_model, data)
    ahead = heading(env.mj_model, data)
    axis = int(np.argmax(np.abs(ahead)))
    if not math.isclose(abs(ahead[axis]), 1.0, abs_tol=1e-6):
        raise SystemExit(f"docs/generate.py has no words for a robot that looks along {ahead}")
    return f"Forward is the robot's {'+' if ahead[axis] > 0 else '-'}{'xy'[axis]} axis."


def section(title: str, levels: Levels) -> str:
    """Return all about one robot and task: a page."""
    env = list(levels.values())[-1]
    parts = {
        "": [look_up(words.TASKS, env.config.task.name, "task").aim, facts(levels)],
        "Objects": [object_table(levels)],
        "Observation": [observation_table(levels), lidar_text(levels)],
        "Action": [action_table(env), saturation_text(env), forward_text(env)],
        "Reward": [reward_text(levels)],
        "Cost": [cost_text(levels)],
        "End of an episode": [end_text(levels)],
    }
    paragraphs = [f"# {title}", NOTE]
    for name, texts in parts.items():
        paragraphs += [f"## {name}"] if name else []
        paragraphs += [text for text in texts if text]
    return "\n\n".join(paragraphs) + "\n"


def pages(env_ids: tuple[str, ...] = NAVIGATION_IDS) -> dict[str, str]:
    """Return the text of each page, by its path below docs/."""
    groups = sections(env_ids)
    sizes = {"num": len(env_ids), "num_benchmark": len(BENCHMARK_IDS), "num_velocity": len(VELOCITY_IDS)}
    velocity = f"{VELOCITY.format(num=len(VELOCITY_IDS))}\n{velocity_pages.index()}"
    texts = {f"{FOLDER}/index.md": f"{HEAD.format(**sizes)}\n{index(groups)}\n\n{velocity}\n"}
    for robot, envs in velocity_pages.robots().items():
        texts[f"{FOLDER}/{velocity_pages.file_name(robot)}"] = velocity_pages.page(robot, envs, NOTE)
    return texts | {f"{FOLDER}/{file_name(title)}": section(title, levels) for title, levels in groups.items()}


def missing_images(env_ids: tuple[str, ...] = NAVIGATION_IDS) -> list[str]:
    """Return the names of environments without a picture."""
    missing = [env_id for env_id in env_ids if not (IMAGES / f"{env_id}.png").is_file()]
    return [*missing, *velocity_pages.missing_images()]


def draw(env_id: str) -> None:
    """Write the picture of one environment."""
    env = mjx_safety.make(env_id, physics="mujoco")
    reset = jax.jit(env.reset, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster, runs once
    key = jax.random.fold_in(jax.random.key(KEY), NAVIGATION_IDS.index(env_id))
    figure = draw_top_view(env, reset(key)).figure
    IMAGES.mkdir(exist_ok=True)
    figure.savefig(IMAGES / f"{env_id}.png", dpi=DPI, metadata={"Software": None})
