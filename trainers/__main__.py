"""``python -m trainers``: see ``trainers.cli``.

Everything is written and closed when a command returns; the interpreter's own end is left out, because torch takes
seconds for it, during which a paused or cancelled run would still hold its device.
"""

import os
import sys

from trainers.cli import console

if __name__ == "__main__":
    code = console()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
