"""An extension of Griffe, which reads the sources for the reference: comments beside fields are docstrings."""

from __future__ import annotations

import ast
from typing import Any

import griffe
from comments import comment_of, comments_by_line


class FieldComments(griffe.Extension):
    """Give every field that has no docstring the comment beside it."""

    def on_attribute_instance(self, *, node: ast.AST | griffe.ObjectNode, attr: griffe.Attribute, **_: Any) -> None:
        """Take the comment of one field."""
        if attr.docstring is not None or not isinstance(node, ast.AnnAssign | ast.Assign):
            return
        lines = attr.lines_collection[attr.filepath] if isinstance(attr.filepath, type(attr.module.filepath)) else []
        text = comment_of(node, comments_by_line("\n".join(lines) + "\n"), lines)
        if text:
            attr.docstring = griffe.Docstring(text, parent=attr)
