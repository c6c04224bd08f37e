"""The reference as plain Markdown: each line `::: NAME` of a page becomes the entry of that name.

A name is a function, a class or a module. A module lists its public functions and classes. Griffe reads signatures,
docstrings and fields. It parses the package without running it.
"""

from __future__ import annotations

import ast
import functools
import html
import re
from pathlib import Path

import griffe
from comments import comment_of, comments_by_line

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "mjx_safety"
ASKED = re.compile(r"^(?:(?P<marks>#+) .*|::: (?P<name>[\w.]+))$", re.MULTILINE)  # a heading, or a name
DECLARED = re.compile(r"(static|struct\.field|dataclasses\.field|field)\(")  # a field that is more than a value
HIDDEN = {"check"}  # methods for authors of new parts
WIDTH = 100  # characters of a signature on one line


def fill(page: str) -> str:
    """Return a page with each `::: NAME` replaced, one heading level below. Raises SystemExit that names a problem."""
    level, fence = 1, False
    out = []
    for line in page.splitlines(keepends=True):
        fence ^= line.startswith("```")
        found = None if fence else ASKED.match(line.rstrip("\n"))
        if found and found["marks"]:
            level = len(found["marks"])
        out.append(describe(look_up(found["name"]), found["name"], level + 1) if found and found["name"] else line)
    return "".join(out)


@functools.cache
def package() -> griffe.Object:
    """Return the parsed package."""
    return griffe.load(PACKAGE, search_paths=[str(ROOT)])  # type: ignore[return-value]


def look_up(name: str) -> griffe.Object:
    """Return the object of a dotted name. Raises SystemExit for an unknown name."""
    try:
        found = package()[name.removeprefix(f"{PACKAGE}.")]
        return found.final_target if found.is_alias else found  # type: ignore[union-attr]
    except (KeyError, griffe.AliasResolutionError) as error:
        raise SystemExit(f"the reference asks for {name}, which is not in the package") from error


def describe(thing: griffe.Object, path: str, level: int) -> str:
    """Return the entry of a function, class, property or module, with its members. path: its public name."""
    heading = f"{'#' * level} `{path if thing.is_module else thing.name}` {{ #{path} }}"
    parts = [heading, signature(thing), text_of(thing), field_table(thing)]
    members = [member for member in thing.members.values() if is_listed(member, thing)]
    parts += [describe(member, f"{path}.{member.name}", level + 1) for member in members]
    return "\n\n".join(part.rstrip() for part in parts if part) + "\n"


def is_listed(member: griffe.Object | griffe.Alias, owner: griffe.Object) -> bool:
    """Return whether a member has its own entry: public, defined here, and not a field."""
    if member.is_alias or member.name.startswith("_") or member.name in HIDDEN or not member.docstring:
        return False  # no docstring: it overrides a described member
    if owner.is_module:
        return member.is_function or member.is_class
    return owner.is_class and (member.is_function or "property" in member.labels)


def signature(thing: griffe.Object) -> str:
    """Return the head of a definition as a block of code, or an empty text for a module."""
    if isinstance(thing, griffe.Class):
        bases = ", ".join(str(base) for base in thing.bases)
        head = f"class {thing.name}({bases})" if bases else f"class {thing.name}"
    elif isinstance(thing, griffe.Function):
        head = wrapped(thing.signature())
    elif isinstance(thing, griffe.Attribute):
        head = f"{thing.name}: {thing.annotation}"
    else:
        return ""
    return f"```python\n{head}\n```"


def wrapped(head: str) -> str:
    """Return a signature, with one argument per line if it is too long."""
    if len(head) <= WIDTH:
        return head
    name, _, rest = head.partition("(")
    arguments, depth, start = [], 0, 0
    for i, letter in enumerate(rest):
        if letter in ",)" and depth == 0:
            arguments.append(rest[start:i].strip())
            start = i + 1
            if letter == ")":
                break
        depth += (letter in "([{") - (letter in ")]}")
    return f"{name}(\n" + "".join(f"    {argument},\n" for argument in arguments) + f"){rest[start:]}"


def text_of(thing: griffe.Object) -> str:
    """Return a docstring. Its lines `name: text` about parameters become a list."""
    if not thing.docstring:
        return ""
    names = {parameter.name for parameter in thing.parameters} if isinstance(thing, griffe.Function) else set()
    return with_lists(thing.docstring.value, names)


def with_lists(text: str, names: set[str]) -> str:
    """Return a docstring whose lines `name: text`, with indented ones below them, are items of a list."""
    lines = text.splitlines()
    heads = [i for i, line in enumerate(lines) if line.partition(": ")[0] in names]
    out: list[str] = []
    for i, line in enumerate(lines):
        if i in heads:
            name, _, said = line.partition(": ")
            out += [*([""] if i - 1 not in heads and out and out[-1] else []), f"- `{name}`: {said}"]
        else:
            out.append(f"  {line.strip()}" if heads and line.startswith(" ") else line)
    return "\n".join(out)


def field_table(cls: griffe.Object) -> str:
    """Return the public fields of a class as a table, or an empty text."""
    fields = [member for member in cls.members.values() if cls.is_class and is_field(member)]
    if not fields:
        return ""
    lines = list(cls.lines_collection[cls.filepath])  # type: ignore[index]
    comments = comments_by_line("\n".join(lines) + "\n")
    rows = ["| Field | Type | Meaning | Default |", "|---|---|---|---|"]
    for field in fields:
        said = field.docstring.value if field.docstring else comment_of(field.lineno, field.endlineno, comments, lines)
        cells = (code(field.name), code(str(field.annotation)), cell(said), default_of(field.value))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def is_field(member: griffe.Object | griffe.Alias) -> bool:
    """Say whether a member of a class is a public field."""
    if not isinstance(member, griffe.Attribute) or member.name.startswith("_") or "property" in member.labels:
        return False
    return member.annotation is not None and not str(member.annotation).startswith("ClassVar")


def default_of(value: str | griffe.Expr | None) -> str:
    """Return the default of a field; static where it is part of the tree's structure and no leaf."""
    if value is None:
        return ""
    text = str(value)
    if not DECLARED.match(text):
        return code(text)
    call = ast.parse(text, mode="eval").body
    words = {keyword.arg: ast.unparse(keyword.value) for keyword in getattr(call, "keywords", [])}
    fixed = text.startswith("static(") or words.get("pytree_node") == "False"
    return ", ".join([code(words[name]) for name in ("default",) if name in words] + ["static"] * fixed)


def code(text: str) -> str:
    """Return a piece of code for a cell of a table, where a bar would end the cell."""
    return f"<code>{html.escape(text, quote=False).replace('|', '&#124;')}</code>"


def cell(text: str) -> str:
    """Return a text for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
