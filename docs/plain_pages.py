"""Writes the documentation as a folder of plain Markdown for any site builder.

The pages of docs/ are made for a code host. There, formulas are fences named `math`, and links lead to files of the
repository. In the folder, formulas become MathML, which browsers draw. Notebooks become pages, and the reference is
written out. Pictures from outside of docs/ are copied. Links to other files of the repository keep only their text.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from pathlib import Path

import latex2mathml.converter
import reference_pages

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
NOTEBOOKS, PICTURES = "notebooks", "results"  # folders of the site
MATH = re.compile(r"^```math\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(((?:\.\./)+[^)#\s]*)(#[^)\s]*)?\)")  # to a folder above the page's own


def write(folder: Path) -> None:
    """Empty the folder, and write all pages, pictures and styles into it."""
    shutil.rmtree(folder, ignore_errors=True)
    sources = [path for path in sorted(DOCS.rglob("*")) if path.is_file() and path.suffix not in (".py", ".pyc")]
    for path in sources:
        place = folder / path.relative_to(DOCS)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            place.write_text(page(path.read_text(), path.relative_to(DOCS).as_posix(), folder))
        else:
            shutil.copy(path, place)
    for path in sorted((ROOT / NOTEBOOKS).glob("*.ipynb")):
        write_notebook(path, folder / NOTEBOOKS)


def page(text: str, name: str, folder: Path) -> str:
    """Return the text of a page, given its place in docs/. Copies its pictures into the folder."""
    here = posixpath.dirname(name)

    def bring_home(match: re.Match[str]) -> str:
        mark, said, link, anchor = match[1], match[2], match[3], match[4] or ""
        target = posixpath.normpath(posixpath.join("docs", here, link))
        if target.startswith("docs/"):
            return match[0]
        if mark:
            return f"![{said}]({relative(add_picture(ROOT / target, folder), here)})"
        if target.startswith(f"{NOTEBOOKS}/"):
            return f"[{said}]({relative(target.replace('.ipynb', '.md'), here)}{anchor})"
        if target == "README.md":
            return f"[{said}]({relative('index.md', here)})"
        return said

    return LINK.sub(bring_home, MATH.sub(lambda match: mathml(match[1]), reference_pages.fill(text)))


def relative(target: str, folder: str) -> str:
    """Return the relative path from a folder to a file of the site."""
    return posixpath.relpath(target, folder or ".")


def add_picture(path: Path, folder: Path) -> str:
    """Copy a picture into the site. Returns its place there."""
    (folder / PICTURES).mkdir(exist_ok=True)
    shutil.copy(path, folder / PICTURES / path.name)
    return f"{PICTURES}/{path.name}"


def write_notebook(path: Path, folder: Path) -> None:
    """Write a notebook with its outputs as a page, and its pictures beside it."""
    from nbconvert import MarkdownExporter

    resources = {"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
    text, resources = MarkdownExporter().from_filename(str(path), resources=resources)
    (folder / f"{path.stem}_files").mkdir(parents=True, exist_ok=True)
    (folder / f"{path.stem}.md").write_text(text.replace(".ipynb)", ".md)"))
    for name, content in resources["outputs"].items():
        (folder / name).write_bytes(content)


def mathml(latex: str) -> str:
    """Return formulas, one per paragraph, as a block of MathML."""
    blocks = (
        latex2mathml.converter.convert(part.strip(), display="block") for part in latex.split("\n\n") if part.strip()
    )
    return '<div class="formula">' + "".join(blocks) + "</div>\n"
