"""Films: which frames, how fast, worlds side by side, a strip that tells return, cost and limit; files that open."""

import dataclasses
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mjx_safety.viz import film
from mjx_safety.viz.film import GAP, Film, Look, durations, frame_steps, tile
from mjx_safety.viz.strip import CHART_WIDTH, HEIGHT, PAD, TEXT_WIDTH, Strip

from .recordings import STEPS, needs_opengl, recording_of

LOOK = Look(width=96, height=64)
ID = "SafetyPointGoal2-v0"


def reddish(picture):
    red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
    return (red > 150) & (green < 110) & (blue < 110)


def bluish(picture):
    red, _, blue = np.moveaxis(picture.astype(int), -1, 0)
    return (blue > 150) & (red < 110)


def strip(costs, limit=25.0):
    costs = np.asarray(costs, float)
    return Strip(400, np.arange(len(costs)) / 10, costs, limit, dt=0.02)


def test_the_cost_turns_red_beyond_the_limit():
    text = (slice(0, HEIGHT), slice(0, TEXT_WIDTH - 8))
    within, beyond = (strip(np.linspace(0, end, 50)).draw(49)[text] for end in (25, 26))
    assert reddish(within).sum() == 0 and reddish(beyond).sum() > 20


def test_the_curve_grows_with_the_episode():
    drawn = strip(np.linspace(0, 10, 50))
    chart = (slice(0, HEIGHT), slice(TEXT_WIDTH, None))
    lengths = [bluish(drawn.draw(step)[chart]).any(axis=0).sum() for step in (0, 10, 49)]
    assert lengths[0] < lengths[1] < lengths[2]
    np.testing.assert_allclose(lengths[2], 400 - TEXT_WIDTH, atol=12)


def test_steps_that_cost_have_a_tick():
    ticks = (slice(HEIGHT - 9, None), slice(TEXT_WIDTH, None))
    quiet, loud = strip(np.zeros(50)).draw(0)[ticks], strip([0] * 20 + [1] * 30).draw(0)[ticks]
    assert reddish(quiet).sum() == 0
    columns = np.flatnonzero(reddish(loud).any(axis=0))
    np.testing.assert_allclose(columns.mean(), (400 - 6 - TEXT_WIDTH) * 20 / 49, atol=2)


@pytest.mark.parametrize("highest", [5.0, 900.0])
def test_the_word_limit_stays_off_the_axis(highest):
    """However low the limit lies in the chart, its name is not written over the axis and the ticks."""
    costs = np.append(np.zeros(49), highest)
    red = reddish(strip(costs).draw(0)[:, TEXT_WIDTH:])
    word = red[:, :24].any(axis=1) & ~red[:, 40:200].any(axis=1)  # rows with red, but without dashes
    assert 4 < word.sum() and np.flatnonzero(word).max() < HEIGHT - PAD - 5


def test_without_a_limit_there_is_no_line():
    with_limit, without = (strip(np.zeros(50), limit).draw(0) for limit in (25.0, np.inf))
    assert reddish(with_limit).sum() > 50 and reddish(without).sum() == 0


def test_tiles():
    cells = [np.full((4, 6, 3), value, np.uint8) for value in (10, 20, 30)]
    sheet = tile(cells)
    assert sheet.shape == (8 + GAP, 12 + GAP, 3)
    assert [int(sheet[y, x, 0]) for y, x in ((0, 0), (0, -1), (-1, 0), (-1, -1))] == [10, 20, 30, film.PAPER]
    np.testing.assert_array_equal(tile(cells[:1]), cells[0])


@pytest.mark.parametrize(
    ("dt", "speed", "num_steps", "stride", "fps"),
    [(0.02, 1.0, 1000, 2, 25.0), (0.04, 1.0, 100, 1, 25.0), (0.1, 1.0, 7, 1, 10.0), (0.02, 4.0, 41, 8, 25.0)],
)
def test_a_film_runs_in_the_worlds_time(dt, speed, num_steps, stride, fps):
    recording = SimpleNamespace(env=SimpleNamespace(dt=dt), num_steps=num_steps)
    steps, rate = frame_steps(recording, speed)
    assert steps[:3] == [0, stride, 2 * stride] and steps[-1] == num_steps
    assert rate == pytest.approx(fps)


def test_a_film_of_steps_that_take_no_time_has_a_rate():
    recording = SimpleNamespace(env=SimpleNamespace(dt=0.0), num_steps=3)
    assert frame_steps(recording, 1.0, 20.0) == ([0, 1, 2, 3], 20.0)


@needs_opengl
def test_png_shows_moments(tmp_path):
    film.write(recording_of(ID), LOOK, tmp_path / "sheet.png", moments=2)
    with Image.open(tmp_path / "sheet.png") as image:
        one = (2 * 96 + GAP, 64 + HEIGHT)
        assert image.size == (one[0], 2 * one[1] + GAP)
        first, last = (np.asarray(image.convert("RGB"))[y : y + one[1]] for y in (0, one[1] + GAP))
    assert not np.array_equal(first, last)


@needs_opengl
def test_gif_has_all_frames(tmp_path):
    recording = recording_of(ID)
    film.write(recording, LOOK, tmp_path / "film.gif")
    steps, fps = frame_steps(recording, 1.0, film.GIF_FPS)
    assert fps <= 12.5
    with Image.open(tmp_path / "film.gif") as image:
        assert image.n_frames == len(steps) and image.info["duration"] == round(1000 / fps)


@needs_opengl
def test_mp4_has_all_frames(tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    path = tmp_path / "film.mp4"
    film.write(recording_of(ID), LOOK, path)
    decode = [ffmpeg, "-loglevel", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(decode, capture_output=True, check=True).stdout
    frames = np.frombuffer(raw, np.uint8).reshape(-1, 64 + HEIGHT, 2 * 96 + GAP, 3)
    assert len(frames) == len(frame_steps(recording_of(ID), 1.0)[0]) == STEPS // 2 + 1
    with film.Film(recording_of(ID), LOOK) as drawn:
        difference = np.abs(frames[-1].astype(int) - drawn.frame(STEPS))
    assert difference.mean() < 6, "colours and rows are as drawn"


@needs_opengl
def test_the_progress_callback_sees_every_frame(tmp_path):
    seen = []

    def watch(steps):
        for step in steps:
            seen.append(step)
            yield step

    film.write(recording_of(ID), LOOK, tmp_path / "film.gif", watch=watch)
    assert seen == frame_steps(recording_of(ID), 1.0, film.GIF_FPS)[0]


def test_an_encoder_that_fails_is_told_and_the_old_film_stays(tmp_path, monkeypatch):
    (tmp_path / "film.mp4").write_bytes(b"good")
    monkeypatch.setattr(film, "check_encoder", lambda: sys.executable)  # it refuses the options of ffmpeg
    frames = iter([np.zeros((64, 64, 3), np.uint8)] * 50)
    with pytest.raises(RuntimeError, match=r"ffmpeg could not write .*/film.mp4: [uU]nknown option"):
        film._write_mp4(frames, 25.0, tmp_path / "film.mp4")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"good"]


@needs_opengl
@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_an_interrupted_film_leaves_the_old_one(suffix, tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    path = tmp_path / f"film{suffix}"
    path.write_bytes(b"good")

    def interrupt(steps):
        yield from steps[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        film.write(recording_of(ID), LOOK, path, watch=interrupt)
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"good"]


def test_a_missing_encoder_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(film.MissingPackageError, match=r"pip install 'mjx-safety\[viz\]'"):
        film.check_encoder()


@pytest.mark.parametrize("width", [64, 96, 200, 239, 240, 480])
@pytest.mark.parametrize("gain", [0.11, -1234567.0])
def test_the_numbers_stay_off_the_curve_and_inside(width, gain):
    """However small the picture and however long the numbers."""
    drawn = Strip(width, np.full(1001, gain), np.linspace(0, 900, 1001), 25.0, dt=0.008).draw(1000, ended=True)
    assert drawn.shape == (HEIGHT, width, 3)
    has_curve = width >= TEXT_WIDTH + CHART_WIDTH
    assert bluish(drawn).any() == has_curve
    end = TEXT_WIDTH if has_curve else width
    room = drawn[2:, end - PAD : end - 2]
    if width > 64:  # there the smallest font is still too large for the longest numbers
        assert (room == 255).all()


def test_an_episode_that_is_over_says_so():
    drawn = strip(np.zeros(50))
    going, over = (drawn.draw(49, ended=ended)[:, : TEXT_WIDTH - 8] for ended in (False, True))
    assert (over < 200).sum() > (going < 200).sum() + 20


@pytest.mark.parametrize("fps", [12.5, 11.67, 35 / 3, 10.0, 0.05])
def test_frames_of_a_gif_add_up_to_its_time(fps):
    stays = durations(101, fps)
    assert len(stays) == 101 and all(stay % 10 == 0 for stay in stays)
    np.testing.assert_allclose(sum(stays), 1000 * 101 / fps, atol=10)
    assert durations(1, 0.001) == [655350], "the format has no longer frames"


@needs_opengl
def test_a_costly_step_between_two_frames_is_marked():
    recording = recording_of(ID)
    cost = np.zeros_like(recording.states.cost)
    cost[2] = 1.0
    recording = dataclasses.replace(recording, states=recording.states.replace(cost=cost))
    with Film(recording, LOOK) as film:
        plain, before, between, after = film.frame(4), film.frame(1, 0), film.frame(4, 1), film.frame(4, 2)
    assert np.array_equal(plain, after)
    assert reddish(between).sum() > reddish(plain).sum() + 20
    assert reddish(before).sum() < reddish(between).sum()


@needs_opengl
@pytest.mark.parametrize(("env_id", "has_limit"), [("SafetyPointGoal0-v0", False), (ID, True)])
def test_only_what_can_cost_has_a_limit(env_id, has_limit):
    with Film(recording_of(env_id), Look(width=400, height=64)) as film:
        drawn = film.frame(1)[64 : 64 + HEIGHT, TEXT_WIDTH:400]
    assert (reddish(drawn).sum() > 50) == has_limit
