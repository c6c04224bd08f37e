"""Keeps a robot's MJCF file, and all that it includes, within one folder: the file may be a stranger's."""

from __future__ import annotations

import html
import re
from pathlib import Path
from xml.etree import ElementTree

LOADED = ("include", "model")  # elements whose file is a model too
UNUSUAL = re.compile(rb"<!(?!--)|encoding\s*=\s*[\"'](?!utf-8)", re.IGNORECASE)  # what two parsers read in two ways
PATH = re.compile(r"""(?=\b(file\w*|\w*dir)\s*=\s*(["'])(.*?)\2)""", re.DOTALL)  # with others inside of its value


def path_outside(xml: Path, root: Path) -> str | None:
    """Return the first path in a model file, or in one that it includes, that leads out of `root`. None: all stay.

    Absolute paths, parents (..) and links may lead out, and addresses do. MuJoCo also reads files that are no strict
    XML. In these, paths in comments count too.
    """
    return _path_outside(xml, root.resolve(), set())


def _path_outside(xml: Path, root: Path, seen: set[Path]) -> str | None:
    if xml in seen:
        return None
    seen.add(xml)
    try:
        attributes = _attributes(xml.read_bytes())
    except OSError:
        return None  # MuJoCo will say so
    folders = [value for _, name, value in attributes if name.endswith("dir")]
    for value in folders:
        if _leads_out(xml.parent, value, root):
            return value
    for tag, name, value in attributes:
        if not name.startswith("file") or not value:
            continue
        places = [xml.parent, *(xml.parent / folder for folder in folders)]
        if any(_leads_out(place, value, root) for place in places):
            return value
        if tag in LOADED:
            found = _path_outside(xml.parent / value, root, seen)
            if found is not None:
                return found
    return None


def _attributes(content: bytes) -> list[tuple[str, str, str]]:
    """Element, name and value of each attribute. If a file is not strict XML: only those that may be paths."""
    try:
        if not UNUSUAL.search(content):
            tree = ElementTree.fromstring(content)
            return [(element.tag, name, value) for element in tree.iter() for name, value in element.items()]
    except ElementTree.ParseError:
        pass  # MuJoCo is less strict
    text = content.decode("utf-8", "replace")
    return [(LOADED[0], match[1], html.unescape(match[3])) for match in PATH.finditer(text)]


def _leads_out(place: Path, value: str, root: Path) -> bool:
    return ":" in value or not (place / value.replace("\\", "/")).resolve().is_relative_to(root)
