"""The page of the commands, from the command line itself."""

from __future__ import annotations

import inspect
from typing import Any

import typer.main
from tables import code, prose, table

from stainda.cli.app import app

_HEAD = """# Commands

This page is generated from the command line; `stainda COMMAND --help` prints the same. Add `--debug` to any command to
see the traceback of an error.
"""


def page() -> str:
    root = typer.main.get_command(app)
    parts = [_HEAD]
    for name, command in root.commands.items():
        if hasattr(command, "commands"):
            parts += [_command(f"{name} {inner}", one) for inner, one in command.commands.items()]
        else:
            parts.append(_command(name, command))
    return "\n".join(parts)


def _command(name: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    usage = " ".join(["stainda", name, *map(_argument, arguments), *(["[OPTIONS]"] if options else [])])
    parts = [f"## stainda {name}", "", f"```text\n{usage}\n```", "", inspect.cleandoc(command.help or ""), ""]
    rows = [(code(_argument(one)), prose(one.help)) for one in arguments if getattr(one, "help", None)]
    rows += [(code(", ".join([*one.opts, *one.secondary_opts])), _meaning(one)) for one in options]
    if rows:
        parts += [table(("argument or option", "meaning"), rows), ""]
    return "\n".join(parts)


def _argument(one: Any) -> str:
    return str(one.metavar or one.name.upper())


def _meaning(option: Any) -> str:
    text, default = prose(option.help or ""), option.default
    if default in (None, "", False, ()) or callable(default) or "default" in text.lower():
        return text
    return f"{text} Default: `{default}`.".strip()
