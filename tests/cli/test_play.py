"""Driving by the keyboard: keys, what they do to the robots, the score, what the viewer is given."""

import math

import jax
import mujoco
import numpy as np
import pytest
from worlds import world_of

from mjx_safety.cli import play
from mjx_safety.cli.play import DOWN, ENTER, HOLD, LEFT, RIGHT, UP, Keys, Score, Stage, check_display, drive_of
from mjx_safety.core.geometry import yaw_from_quat


def test_keys_act_for_a_while():
    keys = Keys()
    assert keys.steer(0.0) == (0, 0)
    keys.press(UP, 1.0)
    keys.press(LEFT, 1.2)
    assert keys.steer(1.2) == (1, 1)
    assert keys.steer(1.0 + HOLD + 0.01) == (0, 1)
    assert keys.steer(1.2 + HOLD + 0.01) == (0, 0)


def test_opposite_keys_cancel():
    keys = Keys()
    for key in (UP, DOWN, RIGHT):
        keys.press(key, 0.0)
    assert keys.steer(0.1) == (0, -1)


def test_a_command_is_taken_once():
    keys = Keys()
    keys.press(ENTER, 0.0)
    assert [keys.take(ENTER), keys.take(ENTER)] == [True, False]


@pytest.mark.parametrize(("env_id", "ahead"), [("SafetyPointGoal1-v0", 0.0), ("SafetyCarGoal1-v0", -math.pi / 2)])
@pytest.mark.parametrize("wish", [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_robots_go_where_the_arrows_point(env_id, ahead, wish):
    world = world_of(env_id)
    start = world.scene(root_pos=(0.0, 0.0, 0.1), root_quat=(1.0, 0.0, 0.0, 0.0))
    state = world.go(start, drive_of(world.env)(*wish), 8)[-1]
    snapshot = world.snapshot(state)
    forward, turned = wish
    x, y, _ = snapshot.root_pos
    gone, yaw = x * math.cos(ahead) + y * math.sin(ahead), float(yaw_from_quat(snapshot.root_quat))
    assert forward * gone > 0.01 if forward else abs(gone) < 0.02
    assert turned * yaw > 0.05 if turned else abs(yaw) < 0.05


def test_actions_are_within_the_actuators_range():
    for env_id in ("SafetyPointGoal1-v0", "SafetyCarGoal1-v0"):
        drive = drive_of(world_of(env_id).env)
        assert np.abs([drive(f, t) for f in (-1, 0, 1) for t in (-1, 0, 1)]).max() <= 1


def test_a_robot_of_many_joints_is_refused():
    with pytest.raises(play.UsageError, match="cannot drive Doggo, which has 12 actuators"):
        drive_of(world_of("SafetyDoggoGoal1-v0").env)


def test_a_policy_drives_until_a_key_is_held():
    env, obs = world_of("SafetyPointGoal1-v0").env, np.zeros(60, np.float32)
    policy = play.find_policy("SafetyPointGoal1-v0/ppo-lag")
    act = play.driver(env, policy)
    np.testing.assert_array_equal(act(obs, 0.0, 0.0), policy(obs))
    np.testing.assert_array_equal(act(obs, 1.0, 0.0), drive_of(env)(1.0, 0.0))
    assert play.find_policy("SafetyPointGoal1-v0") is None
    with pytest.raises(play.UsageError, match="the policy has obs_size 60, and SafetyPointGoal1-v0 has 72"):
        play.driver(world_of("SafetyCarGoal1-v0").env, policy)
    with pytest.raises(play.UsageError, match="is not a run folder"):
        play.find_policy("tests")


def test_score():
    state = world_of("SafetyPointGoal2-v0").reset(jax.random.key(0))
    score = Score()
    for reward, cost, met in ((0.5, 1.0, True), (0.25, 0.0, False)):
        score.add(state.replace(reward=reward, cost=cost, goal_met=met))
    names, values = score.texts(0.02)
    assert dict(zip(names.split("\n"), values.split("\n"), strict=True)) == {
        "return": "0.75", "cost": "1", "goals": "1", "time": "0.0 s"
    }  # fmt: skip


def test_the_viewer_is_given_the_world():
    world = world_of("SafetyPointGoal2-v0")
    state = world.reset(jax.random.key(0))
    stage = Stage(world.env, halo=False)
    scene = mujoco.MjvScene(stage.model, maxgeom=2000)
    target = stage.show(state, scene)
    np.testing.assert_allclose(target, [*state.data.qpos[:2], 0], atol=1e-6)
    np.testing.assert_allclose(stage.data.qpos, state.data.qpos, atol=1e-6)
    tiles = scene.ngeom - 11  # a goal and ten hazards
    cylinders = [geom for geom in scene.geoms[: scene.ngeom] if geom.type == mujoco.mjtGeom.mjGEOM_CYLINDER]
    places = np.concatenate([state.places.markers["goal"], state.places.markers["hazards"]])
    assert tiles > 100
    np.testing.assert_allclose([geom.pos for geom in cylinders], places, atol=1e-6)
    stage.show(state.replace(cost=1.0), scene)
    assert scene.ngeom == tiles + 12, "drawn anew, with the marker of cost"


def test_without_a_display_a_sentence(monkeypatch):
    monkeypatch.setattr(play.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(play.UsageError, match="neither DISPLAY nor WAYLAND_DISPLAY is set"):
        check_display()
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(play, "_can_open_windows", lambda: False)
    with pytest.raises(play.UsageError, match="leads nowhere"):
        check_display()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["SafetyPointGaol1-v0"], "unknown environment id 'SafetyPointGaol1-v0' (did you mean"),
        (["SafetyPointGoal1-v0", "--seed", "-1"], "--seed is -1"),
    ],
)
def test_wrong_input(flags, sentence, capsys):
    assert play.main(flags) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
