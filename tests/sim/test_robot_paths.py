"""A robot's file reads nothing outside of its folder."""

import dataclasses
from pathlib import Path

import pytest

import mjx_safety
from mjx_safety.sim.robot_paths import path_outside
from mjx_safety.world.robots.point import POINT

LOOP = "<mujoco><include file='parts/../robot.xml'/></mujoco>"
TEXTURE = "<mujocoinclude><asset><texture name='t' type='2d' file='{}'/></asset></mujocoinclude>"
SECRET = "<mujocoinclude><worldbody/></mujocoinclude>"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "secret.xml").write_text(SECRET)
    robot = tmp_path / "robot"
    (robot / "parts").mkdir(parents=True)
    (robot / "link").symlink_to(tmp_path)
    (robot / "parts" / "texture.xml").write_text(TEXTURE.format("../secret.png"))  # MuJoCo starts from the main file
    (robot / "parts" / "deeper.xml").write_text("<mujocoinclude><include file='nested.xml'/></mujocoinclude>")
    (robot / "nested.xml").write_text(TEXTURE.format("/etc/secret.png"))
    (robot / "parts" / "inner.xml").write_text("<mujocoinclude><include file='../../secret.xml'/></mujocoinclude>")
    return robot


@pytest.mark.parametrize(
    "text",
    [
        "<mujoco><include file='../secret.xml'/></mujoco>",
        "<mujoco><include file='link/secret.xml'/></mujoco>",
        "<mujoco><include file='parts/inner.xml'/></mujoco>",
        "<mujoco><include file='parts/texture.xml'/></mujoco>",
        "<mujoco><include file='parts/deeper.xml'/></mujoco>",
        "<mujoco><include file='{root}/secret.xml'/></mujoco>",
        "<mujoco><include file='..\\secret.xml'/></mujoco>",
        "<mujoco><compiler meshdir='..'/><asset><mesh file='a.stl'/></asset></mujoco>",
        "<mujoco><compiler assetdir='/etc'/></mujoco>",
        "<mujoco><compiler meshdir='parts'/><asset><mesh file='../../a.stl'/></asset></mujoco>",
        "<mujoco><asset><texture fileup='/etc/hostname'/></asset></mujoco>",
        "<mujoco><asset><hfield file='file:///etc/hostname'/></asset></mujoco>",
        "<mujoco><asset><model file='../secret.xml'/></asset></mujoco>",
    ],
)
def test_paths_that_lead_out_are_refused(folder, text):
    xml = folder / "robot.xml"
    xml.write_text(text.replace("{root}", str(folder.parent)))
    assert path_outside(xml, folder) is not None
    with pytest.raises(ValueError, match="which is outside of"):
        mjx_safety.make("SafetyPointGoal0-v0", robot=dataclasses.replace(POINT, xml=str(xml)), physics="mujoco")
    assert path_outside(xml, folder.parent) is None or "secret" not in text


NOT_STRICT = [  # beginnings of files that MuJoCo reads and Python's parser refuses, or reads in another way
    "<mujoco><!-- -- a limb -- -->",
    "<mujoco model='a & b'>",
    "<mujoco model='a<b'>",
    "<mujoco x:model='a'>",
    "<mujoco model='\x01'>",
    "<mujoco><custom><text name='a' data='&b;'/></custom>",
    '<!DOCTYPE mujoco [<!ENTITY a "> <mujoco>"><!-- ]><mujoco><!-- -->',
    "<mujoco><!-- note=' -->",
]


@pytest.mark.parametrize("text", NOT_STRICT)
@pytest.mark.parametrize("path", ["../secret.xml", "parts/inner.xml", "&#46;./secret.xml"])
def test_nothing_hides_a_path_from_the_check(folder, text, path):
    xml = folder / "robot.xml"
    xml.write_text(f"{text}<include file = '{path}'/></mujoco>")
    assert path_outside(xml, folder) == ("../../secret.xml" if path.startswith("parts") else "../secret.xml")
    (folder / "parts" / "inner.xml").write_text("<mujocoinclude/>")
    xml.write_text(f"{text}<include file='parts/inner.xml'/></mujoco>")
    assert path_outside(xml, folder) is None


@pytest.mark.parametrize("text", ["<mujoco><include file='parts/a.xml'/></mujoco>", "<mujoco/>", "no xml", LOOP])
def test_paths_that_stay_are_none_of_its_business(folder, text):
    (folder / "robot.xml").write_text(text)
    assert path_outside(folder / "robot.xml", folder) is None


def test_another_folder_can_be_allowed(folder):
    xml = folder / "robot.xml"
    text = Path(POINT.xml).read_text().replace("<worldbody>", "<include file='../secret.xml'/><worldbody>", 1)
    xml.write_text(text)
    robot = dataclasses.replace(POINT, xml=str(xml))
    with pytest.raises(ValueError, match=r"asks for '\.\./secret\.xml', which is outside of"):
        mjx_safety.make("SafetyPointGoal0-v0", robot=robot, physics="mujoco")
    robot = dataclasses.replace(robot, asset_folder=str(folder.parent))
    assert mjx_safety.make("SafetyPointGoal0-v0", robot=robot, physics="mujoco").action_size == 2
