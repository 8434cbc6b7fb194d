"""The pages of the Python reference: one for each room of the package, with what the room exports and its modules."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from tables import prose, table

_HEAD = """# Python

What each folder of the package (a *room*) offers to the others and to you. The rooms and their floors are explained in
[Architecture](../../concepts/architecture.md).
"""

_WHOLE = "{show_root_heading: true, show_root_full_path: false, show_root_toc_entry: true}"
"""Of a name that is shown by itself: a room of the same name stands before it in the package."""


def pages(package: Path) -> dict[str, str]:
    """Page by path below ``docs/``; rooms are found in the tree, so that the list is never out of date."""
    rooms = sorted(path.parent for path in package.glob("*/__init__.py") if path.parent.name != "cli")
    found = {"reference/api/index.md": _index(package, rooms)}
    for room in rooms:
        found[f"reference/api/{room.name}.md"] = _room(room)
    return found


def rooms_by_floor(root: Path) -> str:
    """The rooms with their floors, as the test of the house has them, highest first."""
    floors = _literal(root / "tests" / "test_house.py", "FLOORS")
    rows = []
    for room, floor in sorted(floors.items(), key=lambda one: (-one[1], one[0])):
        path = root / "stainda" / room
        module = path / "__init__.py" if path.is_dir() else Path(f"{path}.py")
        rows.append((str(floor), f"`{room}`", _first_line(module)))
    return table(("floor", "room", "holds"), rows)


def _index(package: Path, rooms: list[Path]) -> str:
    rows = [(f"[`stainda.{room.name}`]({room.name}.md)", _first_line(room / "__init__.py")) for room in rooms]
    front, names = _exports(package / "__init__.py"), {room.name for room in rooms}
    homes = _literal(package / "__init__.py", "_HOMES") or {}
    shown = [_directive("stainda", [name for name in front if name not in names])] if front else []
    shown += [f"::: stainda.{homes[name]}.{name}\n    options: {_WHOLE}\n" for name in front if name in names]
    return "\n".join([_HEAD, *shown, "## Rooms", "", table(("room", "holds"), rows), ""])


def _room(room: Path) -> str:
    name, exported = f"stainda.{room.name}", _exports(room / "__init__.py")
    rows = [
        (f"`{'.'.join(path.relative_to(room).with_suffix('').parts)}`", _first_line(path))
        for path in sorted(room.rglob("*.py"))
        if not path.name.startswith("_")
    ]
    shown = _directive(name, exported) if exported else prose(_docstring(room / "__init__.py"))
    return "\n".join([f"# {name}", "", shown, "## Modules", "", table(("module", "holds"), rows), ""])


def _directive(name: str, members: list[str]) -> str:
    """What mkdocstrings replaces by the docstring of a module and of these members."""
    return f"::: {name}\n    options:\n      members: [{', '.join(members)}]\n"


def _exports(path: Path) -> list[str]:
    return [str(one) for one in _literal(path, "__all__") or ()]


def _literal(path: Path, name: str) -> Any:
    """What a module assigns to ``name``, read without importing it; ``None`` where it does not."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(getattr(one, "id", "") == name for one in targets) and isinstance(node, ast.Assign | ast.AnnAssign):
            return ast.literal_eval(node.value)  # type: ignore[arg-type]
    return None


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def _first_line(path: Path) -> str:
    return prose(_docstring(path).split("\n\n")[0])
