"""What MkDocs does beside its usual work: formulas, notebooks, pictures and links from outside of docs/.

The pages are written so that they read well on a code host too. There, formulas are fences named `math`, and links lead
to files of the repository. Here, formulas become MathML, which browsers draw by themselves; pictures from outside of
docs/ are copied into the site, notebooks become pages, and links to other files of the repository keep their text only.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

import latex2mathml.converter
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS, PICTURES = "notebooks", "results"  # folders of the site
MATH = re.compile(r"^```math\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(((?:\.\./)+[^)#\s]*)(#[^)\s]*)?\)")  # to a folder above the page's own


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Let griffe_comments.py find its neighbours."""
    sys.path.insert(0, str(ROOT / "docs"))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the notebooks as pages."""
    for path in sorted((ROOT / NOTEBOOKS).glob("*.ipynb")):
        text, pictures = notebook_page(path)
        files.append(File.generated(config, f"{NOTEBOOKS}/{path.stem}.md", content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"{NOTEBOOKS}/{name}", content=content))
    return files


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return a notebook with its outputs as Markdown, and its pictures by name."""
    from nbconvert import MarkdownExporter

    resources = {"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
    text, resources = MarkdownExporter().from_filename(str(path), resources=resources)
    return text.replace(".ipynb)", ".md)"), resources["outputs"]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files, **_: Any) -> str:
    """Turn formulas into MathML, and bring links that lead out of docs/ home."""
    here = posixpath.dirname(page.file.src_uri)

    def bring_home(match: re.Match[str]) -> str:
        mark, text, link, anchor = match[1], match[2], match[3], match[4] or ""
        target = posixpath.normpath(posixpath.join("docs", here, link))
        if target.startswith("docs/"):
            return match[0]
        if mark:
            return f"![{text}]({relative(add_picture(ROOT / target, config, files), here)})"
        if target.startswith(f"{NOTEBOOKS}/"):
            return f"[{text}]({relative(target.replace('.ipynb', '.md'), here)}{anchor})"
        if target == "README.md":
            return f"[{text}]({relative('index.md', here)})"
        return text

    return LINK.sub(bring_home, MATH.sub(lambda match: mathml(match[1]), markdown))


def relative(target: str, folder: str) -> str:
    """Return the way from a folder to a file of the site."""
    return posixpath.relpath(target, folder or ".")


def add_picture(path: Path, config: MkDocsConfig, files: Files) -> str:
    """Copy a picture into the site. Returns its place there."""
    place = f"{PICTURES}/{path.name}"
    if files.get_file_from_path(place) is None:
        files.append(File.generated(config, place, abs_src_path=str(path)))
    return place


def mathml(latex: str) -> str:
    """Return formulas, one a paragraph, as a block of MathML."""
    blocks = (
        latex2mathml.converter.convert(part.strip(), display="block") for part in latex.split("\n\n") if part.strip()
    )
    return '<div class="formula">' + "".join(blocks) + "</div>\n"
