"""`python -m buildorch` is the command `buildorch`."""

import sys

from buildorch.cli import main

if __name__ == "__main__":
    sys.exit(main())
