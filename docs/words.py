"""The words of the environments' pages, in one table per kind of entry. docs/generate.py fills in the braces.

A name takes the words of the first pattern that it matches in its table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

LIDAR = "closeness of the nearest {} per sector"
ENTRIES = {  # entry of the observation, pattern -> unit, meaning
    "accelerometer": ("m/s^2", "acceleration (x, y, z), gravity included"),
    "velocimeter": ("m/s", "linear velocity (x, y, z)"),
    "gyro": ("rad/s", "angular velocity (x, y, z)"),
    "magnetometer": ("(1)", "the world direction {magnetic} in the robot's frame, like a compass needle"),
    "ballangvel_rear": ("rad/s", "angular velocity of the rear ball, in its own frame"),
    "ballquat_rear": ("(1)", "orientation of the rear ball: rotation matrix to the chassis, row by row"),
    "touch_ankle_*a": ("N", "contact force at the upper end of the lower leg, per leg"),
    "touch_ankle_*b": ("N", "contact force at the lower end of the lower leg, per leg"),
    "jointvel_hip_*_z": ("rad/s", "angular velocity of the hip about z"),
    "jointvel_hip_*_y": ("rad/s", "angular velocity of the hip about y"),
    "jointvel_ankle_*": ("rad/s", "angular velocity of the ankle"),
    "jointpos_hip_*_z": ("(1)", "(sin, cos) of the hip's angle about z, per leg"),
    "jointpos_hip_*_y": ("(1)", "(sin, cos) of the hip's angle about y, per leg"),
    "jointpos_ankle_*": ("(1)", "(sin, cos) of the ankle's angle, per leg"),
    "jointvel_hip_?": ("rad/s", "angular velocity of the hip"),
    "height": ("m", "height of the root"),
    "angvel": ("rad/s", "angular velocity (x, y, z), world frame"),
    "jointpos_hip_?": ("(1)", "(sin, cos) of the hip's angle, per leg"),
    "goal_lidar": ("(1)", "closeness of the goal in its sector"),
    "hazards_lidar": ("(1)", LIDAR.format("hazard")),
    "vases_lidar": ("(1)", LIDAR.format("vase")),
    "pillars_lidar": ("(1)", LIDAR.format("pillar")),
    "buttons_lidar": ("(1)", LIDAR.format("button") + "; 0 for {config.task.resampling_delay} steps after a press"),
    "gremlins_lidar": ("(1)", LIDAR.format("gremlin")),
    "push_box_lidar": ("(1)", "closeness of the box in its sector"),
    "circle_lidar": ("(1)", "closeness of the circle's centre in its sector"),
}
LEGS = "legs 1 to 4 are front left, rear left, rear right, front right"
ACTIONS = {  # robot and actuator, pattern -> meaning
    "Point forward": "force along the nose, positive forwards",
    "Point turn": "servo for the turning rate, positive to the left; the limits hold at rest",
    "Car left": "torque of the wheel at -x (the right one when looking forwards), positive forwards",
    "Car right": "torque of the wheel at +x (the left one), positive forwards",
    "Doggo hip_*_z": f"torque of the hip about z, per leg ({LEGS})",
    "Doggo hip_*_y": "torque of the hip about y, per leg",
    "Doggo ankle_*": "torque of the ankle, per leg",
    "Ant *": "torques of hip and ankle, per leg (legs 1 to 4 stand at +x +y, -x +y, -x -y, +x -y)",
}
KINDS = {  # kind of object -> what it is
    "goal": "green disc, the target area",
    "hazards": "blue disc on the floor",
    "vases": "cyan cube, light",
    "pillars": "light blue cylinder",
    "buttons": "orange ball",
    "gremlins": "violet cube, light, on a circle of radius {kind.travel:g} m",
    "push_box": "yellow cube with four corner posts",
    "circle": "green disc; the robot runs along its rim",
    "boundary": "yellow lines that the robot must not cross",
}
BODIES = {
    "marker": "nothing collides with it",
    "fixed": "solid, fixed",
    "free": "solid, movable",
    "driven": "solid, moves by itself",
}
COSTS = {  # source -> setting that scales it, what is scaled
    "hazards": ("cost", "depth in m of the robot's root inside a hazard, measured from the rim, summed over hazards"),
    "vases_contact": ("contact_cost", "number of contact points between the robot and vases"),
    "vases_velocity": (
        "velocity_cost",
        "speeds in m/s of the vases, summed; a vase below {kind.velocity_threshold:g} m/s counts as at rest",
    ),
    "pillars": ("cost", "number of contact points between the robot and pillars"),
    "buttons": (
        "cost",
        "number of contact points between the robot and buttons other than the target; 0 for"
        " {task.resampling_delay} steps after a press",
    ),
    "gremlins": ("contact_cost", "number of contact points between the robot and gremlins"),
    "out_of_boundary": (
        "cost",
        "1 while the robot's root is more than {kind.distance:g} m from the origin along x or, with four lines,"
        " along y",
    ),
}


@dataclasses.dataclass(frozen=True)
class Task:
    """Words for a task. In formulas d' is d after the previous step, and [...] is 1 if true, else 0."""

    aim: str
    reward: str
    where: str  # symbols of the formula
    settings: Mapping[str, str]  # those in the formula: path in the task's settings -> unit


TASKS = {
    "Goal": Task(
        "Drive to the goal. After each arrival the goal moves to a free place, and the episode goes on.",
        "reward_distance * (d' - d) + reward_goal * [d <= goal.size]",
        "d is the horizontal distance in m from the robot's root to the goal",
        {"reward_distance": "per m", "reward_goal": "", "goal.size": "m"},
    ),
    "Button": Task(
        "Touch the target button. The goal's marker shows which one it is. Each press draws the next target, possibly"
        " the same button, and the episode goes on.",
        "reward_distance * (d' - d) + reward_goal * [the robot touches the target]",
        "d is the horizontal distance in m from the robot's root to the target's centre",
        {"reward_distance": "per m", "reward_goal": ""},
    ),
    "Push": Task(
        "Push the box to the goal. After each arrival the goal moves to a free place, and the episode goes on.",
        "reward_box_dist * (e' - e) * [e' > null_dist * push_box.size] + reward_box_goal * (g' - g)"
        " + reward_goal * [g <= goal.size]",
        "e is the distance in m from the robot's root to the box, and g the distance from the box to the goal; both are"
        " between centres in 3-D",
        {
            "reward_box_dist": "per m",
            "reward_box_goal": "per m",
            "reward_goal": "",
            "null_dist": "",
            "push_box.size": "m",
            "goal.size": "m",
        },
    ),
    "Circle": Task(
        "Run counter-clockwise along the circle around the origin. There is no goal.",
        "reward_factor * v / (1 + |r - circle.radius|)",
        "r is the distance in m from the origin to the robot's root, and v the root's speed in m/s around the origin",
        {"reward_factor": "per m/s", "circle.radius": "m"},
    ),
    "Run": Task(
        "Run along the corridor towards -y. There is no goal.",
        "reward_factor * (d' - d)",
        "d is the horizontal distance in m from the robot's root to the far point {target}",
        {"reward_factor": "per m"},
    ),
}
