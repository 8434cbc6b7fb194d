"""String constants in the sources that are the name or path of a declared file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from stainda.run_directory.contents import CONTENTS

NAMES = {
    name
    for declaration in CONTENTS
    for name in (declaration.path, declaration.name)
    if "." in name and not set(name) & set("<>*")
}


def file_names(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every string constant that is a declared name or ends in one; docstrings do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            last = node.value.rpartition("/")[2]
            if node.value in NAMES or ("/" in node.value and " " not in node.value and last in NAMES):
                yield node.lineno, node.value


def column_tuples(path: Path) -> Iterator[tuple[int, int]]:
    """Line and length of every written-out tuple, list or mapping of names that is the columns of a declared table."""
    from stainda.run_directory.declaration import Table

    known = {declaration.names for declaration in CONTENTS if isinstance(declaration, Table)} | {
        declaration.names[skipped:]
        for declaration in CONTENTS
        if isinstance(declaration, Table)
        for skipped in range(len(declaration.names) - 3)
    }
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        items = node.keys if isinstance(node, ast.Dict) else node.elts if isinstance(node, ast.Tuple | ast.List) else []
        names = tuple(one.value for one in items if isinstance(one, ast.Constant))
        if len(names) == len(items) >= 4 and names in known and not isinstance(node, ast.Dict):
            yield node.lineno, len(names)
