"""Keeps a robot's MJCF file, and all that it includes, within one folder: the file may be a stranger's."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

LOADED = ("include", "model")  # elements whose file is a model too


def outside(xml: Path, root: Path) -> str | None:
    """Return the first path in a model file, or in one that it includes, that leads out of `root`. None: all stay.

    Absolute paths, parents (..) and links may lead out, and addresses do. A file that is no XML has no paths.
    """
    return _outside(xml, root.resolve(), set())


def _outside(xml: Path, root: Path, seen: set[Path]) -> str | None:
    if xml in seen:
        return None
    seen.add(xml)
    try:
        tree = ElementTree.fromstring(xml.read_bytes())
    except (OSError, ElementTree.ParseError):
        return None  # MuJoCo will say so
    folders = [value for element in tree.iter() for name, value in element.items() if name.endswith("dir")]
    for value in folders:
        if _leads_out(xml.parent, value, root):
            return value
    for element in tree.iter():
        for name, value in element.items():
            if not name.startswith("file") or not value:
                continue
            places = [xml.parent, *(xml.parent / folder for folder in folders)]
            if any(_leads_out(place, value, root) for place in places):
                return value
            if element.tag in LOADED:
                found = _outside(xml.parent / value, root, seen)
                if found is not None:
                    return found
    return None


def _leads_out(place: Path, value: str, root: Path) -> bool:
    return ":" in value or not (place / value.replace("\\", "/")).resolve().is_relative_to(root)
