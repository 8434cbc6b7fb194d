"""The fuzz of what is read from other people as a command, see ``fuzzing.py``."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from fuzzing import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
