"""Runs the command line for `python -m nphybrid`.  The folder cli/ contains its code."""
import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
