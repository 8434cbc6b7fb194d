"""The command line: parse, call, print. No logic."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Entry point of ``stainda``; errors made for people are printed without a traceback (``--debug`` shows it)."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # more threads than free cores are several times slower
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # worker processes import nothing from the folder of the call

    from stainda.cli.app import app
    from stainda.cli.display import fail
    from stainda.errors import StaindaError
    from stainda.files import says_full

    debug = "--debug" in sys.argv
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    try:
        app(arguments, standalone_mode=True)
    except StaindaError as error:
        if debug:
            raise
        fail(str(error))
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        if says_full(error):
            fail(f"cannot write ({error}). Make room there; what is complete is kept, and the same command goes on")
            sys.exit(2)
        fail(
            f"{type(error).__name__}: {error}. This was not foreseen: what is complete is kept; "
            "run the same command with --debug and send us what it prints."
        )
        sys.exit(1)
