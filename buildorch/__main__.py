"""`python -m buildorch` is the command `buildorch`."""

from buildorch.cli import console

if __name__ == "__main__":
    console()
