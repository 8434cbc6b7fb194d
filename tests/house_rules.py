"""What the sources say of the house: which module imports which, circles among them, arguments of functions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

MOST_POSITIONAL = 6


def modules(folder: Path, package: str = "") -> dict[str, Path]:
    """Every module below a folder by its dotted name; a package by the name of its folder."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = [*([package] if package else []), *path.relative_to(folder).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: Mapping[str, Path]) -> set[str]:
    """The known modules that one imports: anywhere in it, in functions and for type checkers too."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {full if (full := f"{base}.{alias.name}") in known else base for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {one for one in found if one in known and one != name}


def circles(known: Mapping[str, Path]) -> list[list[str]]:
    """Groups of modules each of which leads to every other of its group by imports."""
    reached: dict[str, set[str]] = {}
    edges = {name: imports(name, path, known) for name, path in known.items()}
    for name in edges:
        seen: set[str] = set()
        left = list(edges[name])
        while left:
            if (one := left.pop()) not in seen:
                seen.add(one)
                left += edges[one]
        reached[name] = seen
    groups = {frozenset(one for one in seen if name in reached[one]) for name, seen in reached.items() if name in seen}
    return sorted(sorted(group) for group in groups)


def many_arguments(path: Path) -> Iterator[str]:
    """Functions of a file with more than :data:`MOST_POSITIONAL` positional parameters, ``self`` not counted."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            names = [one.arg for one in (*node.args.posonlyargs, *node.args.args)]
            count = len(names) - (names[:1] in (["self"], ["cls"]))
            if count > MOST_POSITIONAL:
                yield f"{getattr(node, 'name', 'lambda')}: {count}"


def absent_arguments(path: Path) -> Iterator[str]:
    """Names under ``Args:`` of a docstring that are no parameters of the function, or of the class and its fields."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        section = re.search(r"^Args:\n((?: {4}.*\n?|\n)+)", ast.get_docstring(node) or "", re.M)
        lines = section.group(1).splitlines() if section else []
        for line in lines:
            if documented := re.match(r" {4}([*\w][*\w, ]*?):(?: |$)", line):
                given = {name.strip().lstrip("*") for name in documented.group(1).split(",")}
                yield from (f"{node.name}: {name}" for name in sorted(given - _parameters(node)))


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> set[str]:
    if isinstance(node, ast.ClassDef):
        fields = {
            member.target.id
            for member in node.body
            if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name)
        }
        starts = [member for member in node.body if isinstance(member, ast.FunctionDef) and member.name == "__init__"]
        return fields.union(*(_parameters(start) for start in starts))
    every = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg)
    return {argument.arg for argument in every if argument is not None}
