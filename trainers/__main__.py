"""``python -m trainers``: see ``trainers.cli``."""

import sys

from trainers.cli import console

if __name__ == "__main__":
    sys.exit(console())
