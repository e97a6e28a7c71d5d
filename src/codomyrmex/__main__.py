"""`python -m codomyrmex` is the command `codomyrmex`."""

from codomyrmex.cli import main

if __name__ == "__main__":
    main()
