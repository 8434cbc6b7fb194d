"""Run a function in a child process, so that a crash, a hang or its memory stay there."""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from stainda.errors import RegistrationError, StaindaError
from stainda.processes import how_it_ended

Result = TypeVar("Result")


def isolated(function: Callable[..., Result], *arguments: object, seconds: float, what: str) -> Result:
    """``function(*arguments)`` in a fork of this process; its result comes back through a pipe.

    What it prints goes where this process prints. Where the system cannot fork the function runs here.

    Raises:
        RegistrationError: the child died, or took longer than ``seconds``. Errors of stainda come back as they are.
    """
    if not hasattr(os, "fork"):
        return function(*arguments)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(sender, function, arguments), daemon=True)
    child.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            raise RegistrationError(f"{what} took longer than {seconds:g} s and was stopped")
        answer = receiver.recv()
    except EOFError:
        child.join(10)
        raise RegistrationError(f"{what} ended without an answer ({how_it_ended(child.exitcode)})") from None
    finally:
        receiver.close()
        if child.is_alive():
            child.join(2)
        if child.is_alive():
            child.kill()
        child.join()
    if isinstance(answer, BaseException):
        raise answer
    return answer[0]


def _answer(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        answer: Any = (function(*arguments),)
    except StaindaError as error:
        answer = error
    except Exception as error:  # the trace goes to the log, its last line to the reason
        traceback.print_exc(file=sys.stderr)
        answer = RegistrationError(f"{type(error).__name__}: {error}")
    sys.stdout.flush()
    sys.stderr.flush()
    sender.send(answer)
    sender.close()
