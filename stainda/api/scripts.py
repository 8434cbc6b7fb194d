"""Scripts that start processes: those processes import the script again, so it must not start them once more."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path

from stainda.errors import StaindaError


def check_main_guard(verb: str) -> None:
    """Refuse a call from the top level of a script that is not below ``if __name__ == "__main__":``.

    Python's spawned processes import the script; without that line each of them would call the verb too, and none would
    begin to work (https://docs.python.org/3/library/multiprocessing.html, "Safe importing of main module").

    Raises:
        StaindaError: it is such a call; the message says what to write.
    """
    main = sys.modules["__main__"]
    script = getattr(main, "__file__", None)
    frame = inspect.currentframe()
    while frame is not None and (frame.f_globals is not main.__dict__ or frame.f_code.co_name != "<module>"):
        frame = frame.f_back
    if script is None or frame is None or Path(frame.f_code.co_filename) != Path(script):
        return
    if not is_guarded(Path(script).read_text(encoding="utf-8"), frame.f_lineno):
        raise StaindaError(
            f"st.{verb} starts processes that import this script again", file=script, row=frame.f_lineno,
            remedy="""Write the calls in a function, and call it below 'if __name__ == "__main__":'""",
        )  # fmt: skip


def is_guarded(source: str, line: int) -> bool:
    """Whether a line of a script is inside ``if __name__ == ...``.

    >>> is_guarded('print(1)\\nif __name__ == "__main__":\\n    print(2)', 3)
    True
    >>> is_guarded('print(1)\\nif __name__ == "__main__":\\n    print(2)', 1)
    False
    """
    blocks = (node for node in ast.parse(source).body if isinstance(node, ast.If))
    guards = (
        block for block in blocks if any(isinstance(n, ast.Name) and n.id == "__name__" for n in ast.walk(block.test))
    )
    return any(guard.lineno <= line <= (guard.end_lineno or guard.lineno) for guard in guards)
