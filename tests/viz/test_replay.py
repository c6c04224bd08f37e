"""The replay holds the recording, needs no other file, and plays in a browser."""

import base64
import io
import json
import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from worlds import world_of

from mjx_safety.viz.replay import replay_page, write_replay
from mjx_safety.viz.solids import geoms, markers, pose

from .recordings import STEPS, WORLDS, recording_of

ID = "SafetyPointGoal2-v0"
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # WebGL without a graphics card


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def numbers(text, kind):
    return np.frombuffer(base64.b64decode(text), kind)


@pytest.fixture(scope="module")
def data():
    return data_of(replay_page(recording_of(ID)))


@pytest.mark.thorough
@pytest.mark.parametrize("env_id", [ID, "SafetyDoggoPush1-v0", "SafetyCarButton1-v0"])
def test_poses_are_those_of_the_recording(env_id):
    recording = recording_of(env_id)
    data = data_of(replay_page(recording))
    model = recording.env.scene.true_model
    for index, world in enumerate(data["worlds"]):
        poses = numbers(world["poses"], "<i2").reshape(STEPS + 1, world["num_moving"], 7)
        for step in (0, 3, STEPS):
            state = recording.at(step, index)
            solids = [*markers(recording.env, state), *geoms(model, pose(model, state))]
            assert len(world["things"]) == len(solids)
            for thing, solid in zip(world["things"], solids, strict=True):
                row = thing["pose"] if "pose" in thing else poses[step, thing["row"]]
                scale = 1.0 if "pose" in thing else np.array([world["metres"]] * 3 + [1 / 32767] * 4)
                place = np.array(row) * scale
                np.testing.assert_allclose(place[:3], solid.pos, atol=2e-4)
                np.testing.assert_allclose(rotation(place[3:]), solid.mat, atol=5e-4)


def rotation(quat):
    w, x, y, z = quat
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def test_what_happened(data):
    recording = recording_of(ID)
    assert data["num_steps"] == STEPS and len(data["worlds"]) == WORLDS and data["cost_limit"] == 25.0
    assert [lidar["name"] for lidar in data["lidars"]] == ["goal", "hazards", "vases"]
    for index, world in enumerate(data["worlds"]):
        np.testing.assert_allclose(numbers(world["returns"], "<f4"), recording.cumulative_return[:, index], atol=1e-5)
        np.testing.assert_array_equal(numbers(world["costs"], "<f4"), [0, 0, 0, 1, 2, 3, 3])
        np.testing.assert_array_equal(numbers(world["costly"], "u1"), [0, 0, 0, 1, 1, 1, 0])
        lidar = numbers(world["lidar"], "u1").reshape(STEPS + 1, 3, 16) / 255
        slices = recording.env.obs_slices
        np.testing.assert_allclose(lidar[:, 1], recording.states.obs[:, index, slices["hazards_lidar"]], atol=2e-3)


def test_what_moves_not_is_written_once(data):
    things = data["worlds"][0]["things"]
    assert sum("row" in thing for thing in things) < 8 < len(things)


def test_page_stands_alone_and_is_well_formed():
    page = replay_page(recording_of(ID))
    assert not re.search(r"\$(title|style|script|data)\b", page)
    assert not re.search(r"""(src|href)\s*=|url\(|https?://|@import|import\s*\(""", page)
    assert f"<title>{ID} &lt;random&gt;</title>" in page, "a title is text, not HTML"


def test_an_environment_without_costs_has_no_limit():
    assert data_of(replay_page(recording_of("SafetyPointGoal0-v0")))["cost_limit"] is None


# -- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    missing = pytest.fail if os.environ.get("REQUIRE_BROWSER") else pytest.skip
    try:
        from playwright import sync_api as playwright
    except ImportError:
        missing("the browser tests need: pip install playwright")
    with playwright.sync_playwright() as run:
        path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        try:
            chromium = run.chromium.launch(executable_path=path, args=FLAGS)
        except playwright.Error as error:
            missing(f"no Chromium here (apt-get install chromium, or playwright install chromium): {error}")
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("replay") / "replay.html"
    write_replay(recording_of(ID), path)
    return f"file://{path}"


@pytest.fixture
def blank(browser):
    """An empty page; it fails the test on any error of what is opened in it."""
    opened, errors = browser.new_page(viewport={"width": 900, "height": 700}), []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("request", lambda request: errors.append(request.url) if "replay.html" not in request.url else None)
    yield opened
    assert errors == []
    opened.close()


@pytest.fixture
def page(blank, address):
    """The replay, opened."""
    blank.goto(address)
    return blank


def state_of(page):
    return page.evaluate("({...document.body.dataset})")


def view(page):
    return np.asarray(shot(page.locator("#view")))


def shot(locator):
    return Image.open(io.BytesIO(locator.screenshot())).convert("RGB")


def test_scrubbing_moves_the_world(page):
    before = view(page)
    page.locator("#scrub").evaluate("(bar) => { bar.value = 6; bar.dispatchEvent(new Event('input')); }")
    assert state_of(page)["step"] == "6"
    assert (view(page) != before).any(axis=-1).mean() > 0.001
    assert "step 6 of 6" in page.locator("#clock").inner_text()
    box = page.locator("#timeline").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert state_of(page)["step"] == "3"


def test_playing_ends_at_the_end_and_starts_again(page):
    page.locator("#speed").select_option("0.25")
    page.locator("#play").click()
    page.wait_for_function("document.body.dataset.playing === 'false' && document.body.dataset.step === '6'")
    assert page.locator("#play").inner_text() == "Play"
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert state_of(page)["step"] == "1"


def test_the_cameras_of_the_page_draw_and_dragging_turns_the_view(page):
    pictures = {}
    for camera in ("track", "top", "free"):
        page.locator(f"button[data-camera={camera}]").click()
        assert state_of(page)["camera"] == camera
        pictures[camera] = view(page)
        assert len(np.unique(pictures[camera].reshape(-1, 3), axis=0)) > 30
    assert not np.array_equal(pictures["track"], pictures["free"])
    box = page.locator("#view").bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 380, box["y"] + 220, steps=3)
    page.mouse.up()
    assert not np.array_equal(view(page), pictures["free"]), "dragging turns the view"


def test_a_costly_step_is_red_and_counted(page):
    def red():
        colours = view(page).astype(int)
        return ((colours[..., 0] > 150) & (colours[..., 1] < 110) & (colours[..., 2] < 110)).sum()

    page.locator("#halo").uncheck()
    calm = red()
    for _ in range(4):
        page.locator("#forward").click()
    assert red() > calm + 300
    numbers = page.locator("#numbers").inner_text()
    assert "2 / 25" in numbers and "yes" in numbers


def test_worlds_side_by_side_can_be_chosen(page):
    labels = page.locator(".label")
    assert labels.count() == WORLDS
    page.keyboard.press("End")
    gains = recording_of(ID).cumulative_return[-1]
    for index in range(WORLDS):
        labels.nth(index).click()
        assert state_of(page)["world"] == str(index)
        assert f"{gains[index]:.2f}" in page.locator("#numbers").inner_text()


def test_lidar_bars(page):
    bars = page.locator(".lidar").nth(1).locator("u")
    heights = [float(bars.nth(i).evaluate("(bar) => bar.style.height").rstrip("%")) for i in range(16)]
    readings = recording_of(ID).states.obs[0, 0, world_of(ID).env.obs_slices["hazards_lidar"]]
    np.testing.assert_allclose(heights, 100 * readings, atol=0.3)


def test_without_webgl_the_page_says_so_and_shows_its_numbers(blank, address):
    blank.add_init_script(
        "const get = HTMLCanvasElement.prototype.getContext;"
        "HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {"
        "  return kind === 'webgl' ? null : get.call(this, kind, ...rest); };"
    )
    blank.goto(address)
    assert "no WebGL" in blank.locator("#notice").inner_text()
    blank.keyboard.press("End")
    assert "step 6 of 6" in blank.locator("#clock").inner_text()
    assert f"{recording_of(ID).cumulative_return[-1, 0]:.2f}" in blank.locator("#numbers").inner_text()


def test_with_webgl_there_is_no_notice(page):
    assert page.locator("#notice").count() == 0


def test_in_a_small_window_the_page_scrolls_and_labels_stay_in_their_worlds(blank, address):
    blank.set_viewport_size({"width": 300, "height": 300})
    blank.goto(address)
    stage, timeline = (blank.locator(name).bounding_box() for name in ("#stage", "#timeline"))
    assert stage["height"] >= 90 and stage["y"] + stage["height"] <= timeline["y"]
    for index, label in enumerate(blank.locator(".label").all()):
        box = label.bounding_box()
        assert box["x"] >= stage["x"] + index * stage["width"] / WORLDS
        assert box["x"] + box["width"] <= stage["x"] + (index + 1) * stage["width"] / WORLDS
        assert box["y"] + box["height"] <= stage["y"] + stage["height"]


def test_keys_of_the_browser_stay_its_own(page):
    page.keyboard.press("Alt+ArrowRight")
    page.keyboard.press("Control+2")
    assert (state_of(page)["step"], state_of(page)["camera"]) == ("0", "track")
    page.keyboard.press("ArrowRight")
    assert state_of(page)["step"] == "1"


@pytest.mark.parametrize("edge", [2.0, 20.0, 100.0])
def test_a_large_arena_is_seen_whole(blank, tmp_path, edge):
    """Its frame is drawn in the free camera and from the top."""
    recording = recording_of(ID)
    extents = (-edge, -edge, edge, edge)
    text = json.dumps([-edge, -edge, edge, edge])
    page = re.sub(r'"extents":\[[^]]*\]', '"extents":' + text, replay_page(recording))
    (tmp_path / "large-replay.html").write_text(page)
    blank.goto((tmp_path / "large-replay.html").as_uri())
    for camera in ("top", "free"):
        blank.locator(f'[data-camera="{camera}"]').click()
        picture = np.asarray(Image.open(io.BytesIO(blank.locator("#view").screenshot())).convert("RGB")).astype(int)
        middle = picture[picture.shape[0] // 4 : -picture.shape[0] // 4, 10 : picture.shape[1] // 2 - 10]
        sky = np.abs(middle - (201, 217, 235)).max(axis=-1) < 6
        assert sky.mean() < 0.1, extents
