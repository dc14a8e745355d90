"""`python -m nphybrid`: the command line, which is cli/."""
import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
