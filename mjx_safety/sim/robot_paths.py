"""Keeps a robot's MJCF file, and all that it includes, within one folder: the file may be a stranger's."""

from __future__ import annotations

import html
import os
import re
from pathlib import Path
from xml.etree import ElementTree

LOADED = ("include", "model")  # elements whose file is a model too
UNUSUAL = re.compile(rb"<!(?!--)|encoding\s*=\s*[\"'](?!utf-8)", re.IGNORECASE)  # what two parsers read in two ways
PATH = re.compile(r"""(?=\b(file\w*|\w*dir)\s*=\s*(["'])(.*?)\2)""", re.DOTALL)  # with others inside of its value


Attributes = list[tuple[str, str, str]]  # element, name, value
Files = dict[tuple[Path, Path], Attributes]  # file, folder of the model that includes it, where MuJoCo looks first


def path_outside(xml: Path, root: Path) -> str | None:
    """Return the first path in a model file, or in one that it includes, that leads out of `root`. None: all stay.

    Absolute paths, parents (..) and links may lead out, and addresses do. MuJoCo looks in the folder of the model and
    in that of the including file, each alone or joined with the folders that any of the files declares. MuJoCo also
    reads files that are no strict XML. In these, paths in comments count too.
    """
    root = root.resolve()
    files: Files = {}
    stray = _gather(xml, xml.parent, root, files)
    if stray is not None:
        return stray
    folders = {value for attributes in files.values() for _, name, value in attributes if name.endswith("dir")}
    for (file, base), attributes in files.items():
        here = [base, file.parent]
        inner = os.path.relpath(file.parent, base)
        joined = [place / folder for folder in folders for place in (*here, base / folder / inner)]
        for _, name, value in attributes:
            places = [*here, *joined] if name.startswith("file") else here if name.endswith("dir") else []
            if value and any(_leads_out(place, value, root) for place in places):
                return value
    return None


def _gather(xml: Path, base: Path, root: Path, files: Files) -> str | None:
    """Read a file and all that it includes into `files`. Returns the first path to such a file that leads out."""
    if any((xml.resolve(), base.resolve()) == (file.resolve(), folder.resolve()) for file, folder in files):
        return None  # also by another path, as in a/../a
    try:
        files[xml, base] = _attributes(xml.read_bytes())
    except OSError:
        return None  # MuJoCo will say so
    for tag, name, value in files[xml, base]:
        if tag not in LOADED or not name.startswith("file") or not value:
            continue
        for place in (base, xml.parent):
            if _leads_out(place, value, root):
                return value
            file = place / value
            stray = _gather(file, base if tag == "include" else file.parent, root, files)
            if stray is not None:
                return stray
    return None


def _attributes(content: bytes) -> Attributes:
    """Element, name and value of each attribute. If a file is not strict XML: only those that may be paths."""
    try:
        if not UNUSUAL.search(content):
            tree = ElementTree.fromstring(content)
            return [(element.tag, name, value) for element in tree.iter() for name, value in element.items()]
    except ElementTree.ParseError:
        pass  # MuJoCo is less strict
    text = content.decode("utf-8", "replace")
    return [(tag, match[1], html.unescape(match[3])) for match in PATH.finditer(text) for tag in LOADED]


def _leads_out(place: Path, value: str, root: Path) -> bool:
    return ":" in value or not (place / value.replace("\\", "/")).resolve().is_relative_to(root)
