"""The fuzz of what is read from other people as a command, see ``fuzzing.py``."""

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent), str(TESTS / "report")]

from every_case import CASES  # noqa: E402
from fuzzing import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(CASES))
