"""``python -m stainda``: the same as the command ``stainda``."""

from stainda.cli import main

if __name__ == "__main__":
    main()
