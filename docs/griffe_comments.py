"""An extension of Griffe, which reads the sources for the reference: fields of a class become a table with comments."""

from __future__ import annotations

import ast
import re
from typing import Any

import griffe
from comments import comment_of, comments_by_line

DECLARED = re.compile(r"(static|struct\.field|dataclasses\.field|field)\(")  # a field that is more than a value


class Listed(griffe.Extension):
    """Set lines that describe arguments, `name: text`, as a list. Google's style takes them for titles of boxes."""

    def on_function_instance(self, *, node: ast.AST | griffe.ObjectNode, func: griffe.Function, **_: Any) -> None:
        """Set the docstring of one function."""
        if func.docstring:
            names = {parameter.name for parameter in func.parameters}
            func.docstring.value = with_lists(func.docstring.value, names)


def with_lists(text: str, names: set[str]) -> str:
    """Return a docstring whose lines `name: text`, with indented ones below them, are items of a list."""
    lines = text.splitlines()
    heads = [i for i, line in enumerate(lines) if line.partition(": ")[0] in names]
    hanging = [i for i in heads if i + 1 < len(lines) and lines[i + 1].startswith(" ")]
    if not hanging:
        return text
    out: list[str] = []
    for i, line in enumerate(lines):
        if i in heads:
            name, _, said = line.partition(": ")
            out += [*([""] if i - 1 not in heads and out and out[-1] else []), f"- `{name}`: {said}"]
        else:
            out.append(f"  {line.strip()}" if line.startswith(" ") else line)
    return "\n".join(out)


class FieldTable(griffe.Extension):
    """Describe the annotated fields of every class in its docstring, and leave them out otherwise."""

    def on_class_members(self, *, node: ast.AST | griffe.ObjectNode, cls: griffe.Class, **_: Any) -> None:
        """Describe the fields of one class."""
        if not isinstance(node, ast.ClassDef):
            return
        lines = list(cls.lines_collection[cls.filepath])  # type: ignore[index]
        comments = comments_by_line("\n".join(lines) + "\n")
        rows = [row_of(field, comment_of(field, comments, lines)) for field in node.body if is_field(field)]
        if not rows:
            return
        for row in rows:
            cls.members.pop(row.partition(" ")[0], None)
        text = cls.docstring.value if cls.docstring else ""
        table = "\n".join(["Attributes:", *(f"    {row}" for row in rows)])
        cls.docstring = griffe.Docstring(f"{text}\n\n{table}".strip(), parent=cls)


def is_field(node: ast.stmt) -> bool:
    """Say whether a statement of a class declares a public field."""
    if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
        return False
    return not node.target.id.startswith("_") and not ast.unparse(node.annotation).startswith("ClassVar")


def row_of(node: ast.stmt, comment: str) -> str:
    """Return a field as a line of a docstring: name, type, comment, default."""
    assert isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    default = default_of(node.value)
    said = ". ".join(filter(None, (comment.rstrip("."), f"Default {default}" if default else "")))
    return f"{node.target.id} ({ast.unparse(node.annotation)}): {said or 'See its type'}."


def default_of(value: ast.expr | None) -> str:
    """Return the default of a field; static where it is part of the tree's structure and no leaf."""
    if value is None:
        return ""
    text = ast.unparse(value)
    if not DECLARED.match(text):
        return f"`{text}`"
    words = {keyword.arg: ast.unparse(keyword.value) for keyword in value.keywords}  # type: ignore[attr-defined]
    fixed = text.startswith("static(") or words.get("pytree_node") == "False"
    return f"`{words.get('default', '-')}`" + (", static" if fixed else "")
