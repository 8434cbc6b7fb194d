"""The fault suite as a command, see ``killing.py``: ``python tests/faults/run.py --kills 50``."""

import sys

from killing import main

if __name__ == "__main__":
    sys.exit(main())
