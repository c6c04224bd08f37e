"""The documentation of the fields of classes: the string below a field, or the comment beside it."""

from __future__ import annotations

import ast
import inspect
import io
import textwrap
import tokenize
from collections.abc import Mapping


def comments_by_line(source: str) -> dict[int, str]:
    """Return the comment on each line that has one, without its mark; 1 is the first line."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}


def comment_of(first: int, last: int, comments: Mapping[int, str], lines: list[str]) -> str:
    """Return the comment beside a field on these lines or, where there is none, above it; empty if neither."""
    beside = [comments[i] for i in range(first, last + 1) if i in comments]
    if beside:
        return " ".join(beside)
    above, number = [], first - 1
    while number in comments and lines[number - 1].lstrip().startswith("#"):
        above.insert(0, comments[number])
        number -= 1
    return " ".join(above)


def string_of(statement: ast.stmt | None) -> str:
    """Return a string that is a statement of its own, such as one below a flag; empty for anything else."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return str(value.value) if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""


def field_comments(cls: type) -> dict[str, str]:
    """Return the comments of a class's fields and of those that it inherits, by the field's name."""
    found: dict[str, str] = {}
    for owner in reversed(cls.__mro__[:-1]):
        source = textwrap.dedent(inspect.getsource(owner))
        comments, lines = comments_by_line(source), source.splitlines()
        body = getattr(ast.parse(source).body[0], "body", [])
        for field, after in zip(body, [*body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                found[field.target.id] = string_of(after) or comment_of(
                    field.lineno, field.end_lineno or field.lineno, comments, lines
                )
    return found
