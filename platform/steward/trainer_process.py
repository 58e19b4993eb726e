"""How `python -m trainers` is called: the command line and the little that it may know of its surroundings.

Guarantees that neither secrets nor the database's address get into a trainer's environment or arguments.
"""

import os
import sys
from collections.abc import Mapping
from types import MappingProxyType

from django.conf import settings

# Enough to find Python and the machine's devices.
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")


def trainer_command(command: str, *arguments: str) -> list[str]:
    """Argument vector of `python -m trainers COMMAND …`."""
    return [sys.executable, "-m", "trainers", command, *arguments]


def trainer_environment(devices: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """A small environment: hubs are off, the import path is the installation's, `devices` says what it may use."""
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    quiet = {"PYTHONPATH": str(settings.ROOT), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {**kept, **quiet, **devices}
