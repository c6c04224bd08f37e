"""`python -m mjx_safety.render`: from an environment, from a run, and wrong input in one sentence."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from viz.recordings import needs_opengl, recording_of
from worlds import world_of

from mjx_safety.agents.types import Actor
from mjx_safety.cli import common, render, train
from mjx_safety.viz import film, opengl
from mjx_safety.viz.episodes import record

ID = "SafetyPointGoal2-v0"


@pytest.fixture(autouse=True)
def jax_as_it_is(monkeypatch):
    monkeypatch.setattr(common, "set_up_jax", lambda compilation_cache: None)


@needs_opengl
def test_several_files_of_an_environment(tmp_path, monkeypatch, capsys):
    asked = {}

    def short(env, act_fn, key, **settings):
        asked.update(settings)
        return recording_of(ID)

    monkeypatch.setattr(render.episodes, "record", short)
    paths = [tmp_path / "new" / name for name in ("replay.html", "sheet.png", "film.gif")]
    flags = [
        ID,
        "--steps",
        "7",
        "--num-worlds",
        "2",
        "--size",
        "96",
        "64",
        "--cost-limit",
        "3",
        "--out",
        *map(str, paths),
    ]
    assert render.main(flags) == 0
    said = capsys.readouterr().out
    assert "World 2: 6 steps, return" in said and f"Wrote {paths[0]}" in said
    assert all(path.stat().st_size > 1000 for path in paths)
    assert asked == {"num_worlds": 2, "num_steps": 7, "title": f"{ID}, random actions", "cost_limit": 3.0}


def test_the_policy_sees_normalised_observations_and_fresh_noise():
    weights = (jnp.array([[0.3, 0.0], [0.0, 0.3], [0.0, 0.0]]),)
    agent = Actor(jnp.ones(3), jnp.full(3, 2.0), weights, (jnp.zeros(2),), jnp.zeros(2))
    obs, key = jnp.full((5, 3), 2.0), jax.random.key(0)
    np.testing.assert_allclose(render.policy_of(agent, None)(obs, jnp.int32(0), key), np.full((5, 2), 0.15), atol=1e-6)
    noisy = [render.policy_of(agent, 2)(obs, jnp.int32(step), key) for step in (0, 1)]
    assert np.abs(noisy[0] - noisy[1]).min() > 1e-6 and np.abs(noisy[0]).max() <= 1.0


def test_a_shipped_policy_has_a_replay(tmp_path, capsys):
    flags = ["--steps", "3", "--policy", "sampled", "--out", str(tmp_path / "a.html")]
    assert render.main(["SafetyPointGoal1-v0/ppo-lag", *flags]) == 0
    assert "World 1: 3 steps" in capsys.readouterr().out
    assert "ppo-lag on SafetyPointGoal1-v0, seed" in (tmp_path / "a.html").read_text()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["SafetyPointGaol1-v0", "--out", "a.html"], "unknown environment id 'SafetyPointGaol1-v0' (did you mean"),
        ([ID, "--out", "film.avi"], "--out film.avi is of no known kind; its name must end in one of: .mp4, .gif"),
        ([ID, "--out"], "--out names no file"),
        ([ID, "--num-worlds", "0", "--out", "a.html"], "--num-worlds is 0; it must be at least 1"),
        ([ID, "--steps", "0", "--out", "a.html"], "--steps is 0; it must be at least 1"),
        ([ID, "--size", "10", "100", "--out", "a.html"], "width and height must be at least 64 pixels"),
        ([ID, "--speed", "0", "--out", "a.html"], "--speed is 0.0; it must be above 0"),
        ([ID, "--speed", "1e-9", "--out", "a.gif"], "--speed is 1e-09; it must be at least 0.001"),
        ([ID, "--speed", "1e300", "--out", "a.gif"], "--speed is 1e+300; it must be at most 1000.0"),
        ([ID, "--seed", "-1", "--out", "a.html"], "--seed is -1"),
        (["runs/absent", "--out", "a.html"], "runs/absent does not exist; name a run folder, or an environment"),
        (["EMPTY", "--out", "a.html"], "is not a run folder: it has no config.json"),
        (["GROUP", "--out", "a.html"], "it holds the runs"),
        (["RUN", "--out", "a.html"], "has no checkpoint to evaluate"),
    ],
)  # fmt: skip
def test_wrong_input(flags, sentence, capsys, tmp_path):
    (tmp_path / "EMPTY").mkdir()
    options = common.parse(["--env", ID, "--physics", "mujoco"])
    for name in ("RUN", "GROUP/RUN"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text(json.dumps(options.to_config(), default=str))
    path = tmp_path / flags[0]
    assert render.main([str(path) if path.exists() else flags[0], *flags[1:]]) == 2
    assert sentence in capsys.readouterr().err.replace("\n", " ")


def test_what_this_machine_cannot_draw_is_told_before_anything_compiles(monkeypatch, capsys):
    def nothing():
        raise opengl.NoOpenGLError("no EGL: apt-get install libegl1")

    monkeypatch.setattr(render.opengl, "choose_backend", nothing)
    assert render.main([ID, "--out", "film.gif"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "apt-get install libegl1; --out replay.html needs none of this" in said

    def no_encoder():
        raise film.MissingPackageError("pip install it")

    monkeypatch.setattr(render.opengl, "choose_backend", lambda: "egl")
    monkeypatch.setattr(render.film, "check_encoder", no_encoder)
    assert render.main([ID]) == 2
    assert "pip install it" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_episode_is_that_of_the_environment():
    """The first steps of a recording are what stepping the environment gives."""
    world = world_of(ID)
    key = jax.random.key(5)
    ahead = jnp.array([1.0, 0.3])
    recording = record(
        world.env,
        lambda obs, step, key: jnp.broadcast_to(ahead, (obs.shape[0], 2)),
        key,
        num_worlds=8,
        num_steps=3,
        title="",
        cost_limit=25.0,
    )
    states = world.resets(jax.random.split(jax.random.split(key)[0], 8))
    for step in range(1, 4):
        states = world.steps(states, jnp.broadcast_to(ahead, (8, 2)))
        np.testing.assert_allclose(recording.states.data.qpos[step], states.data.qpos, atol=1e-5)
        np.testing.assert_allclose(recording.states.reward[step], states.reward, atol=1e-5)
    assert recording.states.key is None


@pytest.mark.slow
def test_a_run_from_training_to_replay(tmp_path):
    run = tmp_path / "run"
    small = ["--num-envs", "8", "--unroll-length", "8", "--num-minibatches", "4", "--hidden-sizes", "8"]
    flags = ["--env", "SafetyPointGoal1-v0", *small, "--total-steps", "256", "--physics", "mujoco", "--out", str(run)]
    assert train.main([*flags, "--no-compilation-cache"]) == 0
    for action in ("mean", "sampled"):
        out = tmp_path / f"{action}.html"
        assert render.main([str(run), "--action", action, "--steps", "20", "--out", str(out)]) == 0
        assert "ppo-lag on SafetyPointGoal1-v0, seed 0, after 256 steps" in out.read_text()
