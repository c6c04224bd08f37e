"""Names: the ids there are, what they stand for, what an unknown one is told; factories; engines."""

import dataclasses
import sys
import types
from importlib.metadata import EntryPoint

import jax
import pytest

import mjx_safety
from mjx_safety import (
    BENCHMARK_IDS,
    ENV_IDS,
    ENV_IDS_2019,
    NAVIGATION_IDS,
    VELOCITY_IDS,
    EnvConfig,
    Hazards,
    Vases,
    registry,
)
from mjx_safety.runs.environments import build_env
from mjx_safety.runs.errors import UsageError
from mjx_safety.sim.engines.mujoco import MujocoPhysics

ROBOTS, TASKS = ("Point", "Car", "Doggo"), ("Goal", "Button", "Push")
RUNNERS = ("HalfCheetah", "Hopper", "Walker2d", "Swimmer", "Ant", "Humanoid")


def made(env_id, **overrides):
    return mjx_safety.make(env_id, physics="mujoco", **overrides)


@pytest.fixture
def own_ids(monkeypatch):
    """A registry that forgets what a test adds."""
    monkeypatch.setattr(registry, "_FACTORIES", dict(registry._FACTORIES))


@pytest.fixture
def module(monkeypatch):
    """A module of a user's, with a factory and with things that are none."""
    module = types.ModuleType("users_envs")
    module.factory = lambda: EnvConfig(episode_length=7)
    module.number = 3
    module.wrong = lambda: 3
    monkeypatch.setitem(sys.modules, "users_envs", module)
    return module


def test_ids_are_robots_times_tasks_times_levels():
    names = [f"{robot}{task}{level}-v0" for task in TASKS for robot in ROBOTS for level in range(3)]
    assert sorted(BENCHMARK_IDS) == sorted(f"Safety{name}" for name in names)
    assert sorted(ENV_IDS_2019) == sorted(f"Safexp-{name}" for name in names)
    more = [
        f"Safety{robot}{task}-v0" for robot in (*ROBOTS, "Ant") for task in ("Circle0", "Circle1", "Circle2", "Run0")
    ]
    more += [f"SafetyAnt{task}{level}-v0" for task in TASKS for level in range(3)]
    assert sorted(NAVIGATION_IDS) == sorted([*BENCHMARK_IDS, *more])
    velocity = [f"Safety{runner}Velocity-v{version}" for runner in RUNNERS for version in (0, 1)]
    assert VELOCITY_IDS == tuple(velocity) and ENV_IDS == (*NAVIGATION_IDS, *VELOCITY_IDS)


@pytest.mark.parametrize(
    "env_id, near",
    [
        ("SafetyPointGoal3-v0", "SafetyPointGoal"),
        ("safetypointgoal1-v0", "SafetyPointGoal1-v0"),
        ("SafetyCarPush1", "SafetyCarPush1-v0"),
        ("Safexp-DogoButton2-v0", "Safexp-DoggoButton2-v0"),
        ("SafetyPointRun1-v0", "SafetyPointRun0-v0"),
    ],
)
def test_an_unknown_id_suggests_the_near_one_and_says_what_lists_all(env_id, near):
    with pytest.raises(ValueError, match="unknown environment id") as error:
        mjx_safety.make(env_id)
    suggestion, listing = str(error.value).split(";")
    assert repr(env_id) in suggestion and f"did you mean {near}" in suggestion
    assert listing == f" `python -m mjx_safety` lists all {len(ENV_IDS) + len(ENV_IDS_2019)}"


def test_an_id_like_no_other_gets_no_suggestion():
    with pytest.raises(ValueError, match="unknown environment id 'xyz'; `python -m mjx_safety` lists"):
        mjx_safety.make("xyz")


def test_an_unknown_field_suggests_the_near_one_and_lists_all():
    with pytest.raises(ValueError, match=r"no field 'hazard' \(did you mean hazards") as error:
        made("SafetyPointGoal1-v0", hazard=Hazards())
    for field in dataclasses.fields(EnvConfig):
        assert field.name in str(error.value)


@pytest.mark.parametrize(("name", "near"), [("physic", "physics"), ("max_episode_steps", "episode_length")])
def test_an_unknown_field_may_be_an_argument_or_have_another_name(name, near):
    with pytest.raises(ValueError, match=rf"no field {name!r} \(did you mean {near}"):
        made("SafetyPointGoal1-v0", **{name: 3})


def test_an_unknown_engine_suggests_the_near_one_and_lists_all():
    with pytest.raises(ValueError, match=r"unknown physics 'mujuco' \(did you mean mujoco.*mjx, warp, mujoco, auto"):
        mjx_safety.make("SafetyPointGoal1-v0", physics="mujuco")


@pytest.mark.parametrize(
    ("installed", "sentence"),
    [
        (None, r"^physics='warp' needs the extra 'warp': pip install 'mjx-safety\[warp\]'$"),
        ("here", r"^physics='warp' needs an NVIDIA GPU; this process sees only cpu: use physics='mujoco' or 'mjx'$"),
    ],
)
def test_warp_says_what_it_needs(monkeypatch, installed, sentence):
    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda name: installed)
    with pytest.raises(ValueError, match=sentence):
        mjx_safety.make("SafetyPointGoal1-v0", physics="warp")


def test_auto_physics_on_a_cpu_is_the_c_engine(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert registry.resolve_physics("auto") == "mujoco"
    assert isinstance(mjx_safety.make("SafetyPointGoal0-v0", physics="auto").physics, MujocoPhysics)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert registry.resolve_physics("auto") == "mjx"


def test_on_a_cpu_few_worlds_step_near_objects_at_a_time(monkeypatch):
    assert mjx_safety.make("SafetyPointGoal2-v0", physics="mjx").physics.share == 0.0
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert 0.1 < mjx_safety.make("SafetyPointGoal2-v0", physics="mjx").physics.share < 0.3


def test_overrides_are_checked_and_applied():
    env = made("SafetyPointGoal1-v0", hazards=Hazards(num=2), episode_length=5)
    assert env.config.hazards.num == 2 and env.episode_length == 5
    assert env.config.vases == Vases(num=1, constrained=False)
    with pytest.raises(ValueError, match=r"EnvConfig\.episode_length is 0"):
        made("SafetyPointGoal1-v0", episode_length=0)


def test_a_config_is_an_environment():
    config = EnvConfig(hazards=Hazards(num=2))
    assert made(config).config == config
    with pytest.raises(ValueError, match=r"make got 3; it takes an environment id or an EnvConfig"):
        mjx_safety.make(3)


def test_a_factory_can_be_named_by_its_path(module):
    assert made("users_envs:factory").episode_length == 7


@pytest.mark.parametrize(
    "path, words",
    [
        ("no_such_module:factory", ("cannot import 'no_such_module'", "no_such_module:factory")),
        ("users_envs.inner:factory", ("cannot import 'users_envs.inner'",)),
        ("users_envs:missing", ("module 'users_envs' has no 'missing'", "users_envs:missing")),
        ("users_envs:", ("users_envs:",)),
        ("users_envs:number", ("'users_envs:number' is not a function that returns an EnvConfig",)),
        ("users_envs:wrong", ("'users_envs:wrong' returned int", "EnvConfig")),
    ],
)
def test_a_wrong_path_of_a_factory_says_what_is_wrong(module, path, words):
    with pytest.raises(ValueError) as error:
        made(path)
    for word in words:
        assert word in str(error.value)


def test_another_package_may_offer_environments(module, monkeypatch):
    plugin = EntryPoint(name="Theirs-v0", value="users_envs:factory", group="mjx_safety.envs")
    monkeypatch.setattr(registry, "entry_points", lambda group: [plugin] if group == "mjx_safety.envs" else [])
    assert made("Theirs-v0").episode_length == 7
    with pytest.raises(ValueError, match="did you mean Theirs-v0"):
        made("Theirs-v1")


def test_a_registered_id_can_be_made(own_ids):
    mjx_safety.register("MyEnv-v0", lambda: EnvConfig(episode_length=7))
    assert made("MyEnv-v0").episode_length == 7
    with pytest.raises(ValueError, match="did you mean MyEnv-v0"):
        made("MyEnv-v1")


def test_an_id_can_be_registered_only_once(own_ids):
    mjx_safety.register("MyEnv-v0", EnvConfig)
    for taken in ("MyEnv-v0", "SafetyPointGoal1-v0", "Safexp-PointGoal1-v0"):
        with pytest.raises(ValueError, match=f"'{taken}' is already registered"):
            mjx_safety.register(taken, EnvConfig)


LEGS = ("hip_1_y", "hip_1_z", "hip_2_y", "hip_2_z", "hip_3_y", "hip_3_z", "hip_4_y", "hip_4_z")
ANKLES = ("ankle_1", "ankle_2", "ankle_3", "ankle_4")
TOUCHES = tuple(f"touch_ankle_{leg}{end}" for leg in (1, 2, 3, 4) for end in "ab")
ORDERS_2019 = {  # entries of the observation of Safety Gym (2019), sorted by name
    "PointGoal1": "accelerometer goal_lidar gyro hazards_lidar magnetometer vases_lidar velocimeter",
    "CarPush1": "accelerometer ballangvel_rear ballquat_rear box_lidar goal_lidar gyro hazards_lidar magnetometer"
    " pillars_lidar velocimeter",
    "PointButton1": "accelerometer buttons_lidar goal_lidar gremlins_lidar gyro hazards_lidar magnetometer velocimeter",
    "DoggoGoal1": " ".join(
        [
            "accelerometer goal_lidar gyro hazards_lidar",
            *(f"jointpos_{hinge}" for hinge in (*ANKLES, *LEGS)),
            *(f"jointvel_{hinge}" for hinge in (*ANKLES, *LEGS)),
            "magnetometer",
            *TOUCHES,
            "vases_lidar velocimeter",
        ]
    ),
}


@pytest.mark.parametrize("name", ORDERS_2019)
def test_the_2019_profile_observes_in_alphabetical_order(name):
    assert " ".join(made(f"Safexp-{name}-v0").obs_slices) == ORDERS_2019[name]


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("level", range(3))
def test_the_2019_profile_is_the_same_but_for_order_names_and_the_doggo(robot, task, level):
    old, new = (made(f"{prefix}{robot}{task}{level}-v0") for prefix in ("Safexp-", "Safety"))
    renamed = {"box_lidar": "push_box_lidar"}
    sizes = [
        {renamed.get(name, name): where.stop - where.start for name, where in env.obs_slices.items()}
        for env in (old, new)
    ]
    assert sizes[0] == sizes[1]
    assert (old.obs_size, old.action_size, old.cost_names) == (new.obs_size, new.action_size, new.cost_names)
    assert old.dt == new.dt and old.episode_length == new.episode_length
    unlike = {"profile"} | ({"robot"} if robot == "Doggo" else set())
    for field in dataclasses.fields(EnvConfig):
        same = getattr(old.config, field.name) == getattr(new.config, field.name)
        assert same == (field.name not in unlike), field.name


def test_the_2019_doggo_is_twice_as_big():
    """Sheet 1.1 and 1.4."""
    masses = {"Safexp-": 0.0396795788, "Safety": 0.0198384949}
    torso = {"Safexp-": 0.075, "Safety": 0.0375}
    for prefix, mass in masses.items():
        model = made(f"{prefix}DoggoGoal0-v0").mj_model
        assert model.body_subtreemass[model.body("robot").id] == pytest.approx(mass, rel=1e-6)
        assert model.geom_size[model.body("robot").geomadr[0], 0] == pytest.approx(torso[prefix])


PLACED = {  # after the robot, in the order of the reference, without the goal disc of Button in 1.0.0
    "Safexp-PointGoal1": "goal hazards vases",
    "Safexp-PointPush1": "goal push_box hazards pillars",
    "Safexp-PointButton1": "buttons hazards gremlins",
    "SafetyPointGoal1": "goal hazards vases",
    "SafetyPointPush1": "goal hazards pillars push_box",
    "SafetyPointButton1": "buttons hazards gremlins",
    "SafetyPointCircle2": "circle boundary",
    "SafetyPointRun0": "boundary",
}


@pytest.mark.parametrize("name", PLACED)
def test_layouts_are_sampled_in_the_order_of_the_profile(name):
    env = made(f"{name}-v0")
    assert " ".join(kind for kind, _, _ in env.placement.slices) == f"robot {PLACED[name]}"


def test_the_goal_disc_of_button_is_placed_if_asked_for():
    env = made("SafetyPointButton1-v0")
    task = dataclasses.replace(env.config.task, goal_placed=True)
    kinds = [kind for kind, _, _ in made("SafetyPointButton1-v0", task=task).placement.slices]
    assert kinds == ["robot", "buttons", "goal", "hazards", "gremlins"]


def test_the_car_pushes_a_smaller_and_lighter_box():
    for prefix in ("Safety", "Safexp-"):
        boxes = {robot: made(f"{prefix}{robot}Push1-v0").config.task.push_box for robot in ROBOTS}
        assert (boxes["Car"].size, boxes["Car"].keepout, boxes["Car"].density) == (0.125, 0.125, 0.0005)
        for robot in ("Point", "Doggo"):
            assert (boxes[robot].size, boxes[robot].keepout, boxes[robot].density) == (0.2, 0.2, 0.001)


@pytest.mark.parametrize("env_id, mass", [("SafetyPointPush0-v0", 1.28e-4), ("SafetyCarPush0-v0", 1.5625e-5)])
def test_the_box_weighs_what_it_does_in_the_reference(env_id, mass):
    model = made(env_id).mj_model
    assert model.body("push_box0").mass[0] == pytest.approx(mass)


def test_an_unknown_accuracy_is_refused():
    with pytest.raises(ValueError, match="unknown accuracy 'exact'; choose from fast, reference"):
        mjx_safety.make("SafetyPointGoal1-v0", accuracy="exact")


def test_the_reference_accuracy_holds_every_object_in_the_solver():
    fast, reference = (mjx_safety.make("SafetyPointGoal2-v0", accuracy=name).physics for name in ("fast", "reference"))
    assert (fast.model.nv, reference.model.nv) == (3 + 4 * 6, 3 + 10 * 6)
    assert fast.alone is not None and reference.alone is None


def test_errors_of_a_users_own_factory_are_passed_on(module):
    module.broken = lambda: {}["hazards"]
    with pytest.raises(KeyError, match="hazards"):
        made("users_envs:broken")
    with pytest.raises(KeyError, match="hazards"):
        build_env("users_envs:broken", "mujoco")
    module.invalid = lambda: EnvConfig(hazards=Hazards(num=-1))
    with pytest.raises(ValueError, match=r"Hazards\.num is -1"):
        build_env("users_envs:invalid", "mujoco")
    for path, sentence in (("users_envs:wrong", "returned int"), ("users_envs:missing", "has no 'missing'")):
        with pytest.raises(UsageError, match=sentence):
            build_env(path, "mujoco")


def test_errors_in_a_users_own_module_are_passed_on(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "broken_envs.py").write_text("import no_such_library_of_theirs\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_library_of_theirs"):
        made("broken_envs:factory")
    (tmp_path / "misspelt_envs.py").write_text("import os\nos.no_such_function()\n")
    with pytest.raises(AttributeError, match="no_such_function"):
        made("misspelt_envs:factory")
