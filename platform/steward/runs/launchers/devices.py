"""The devices of this machine that trainers may use, one process each.

Guarantees: torch is never loaded to find them; a device is named the same way after a restart. Does not notice a device
that is added while Steward runs, nor watch what others do with it. Where web server and worker run on different
machines, `STEWARD_DEVICES` must say the same on both.

Example:
    `STEWARD_DEVICES=0,1` are the first two GPUs, `STEWARD_DEVICES=cpu:2` two trainers beside each other without a GPU.
"""

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from trainers.process import available_cores

NVIDIA_SMI_SECONDS = 20.0
MOST_CPU_SLOTS = 64
_CPU = re.compile(r"cpu:([1-9][0-9]?)")
# Source: CUDA C++ Programming Guide, CUDA_VISIBLE_DEVICES: an ordinal, a UUID, or a MIG instance.
_CUDA = re.compile(r"[0-9]{1,3}|(GPU|MIG)-[0-9A-Za-z/-]{1,80}")


@functools.cache
def local_devices() -> tuple[str, ...]:
    """`cuda:0`, `cuda:1`, … or `cpu:0`, …; as `STEWARD_DEVICES` says, else every GPU that is found, else one CPU slot.

    Raises:
        ImproperlyConfigured: the setting names something that is no device.
    """
    return read_devices(settings.STEWARD_DEVICES) or found_gpus() or ("cpu:0",)


def read_devices(words: Sequence[str]) -> tuple[str, ...]:
    """The devices that `STEWARD_DEVICES` names; empty when it is.

    Raises:
        ImproperlyConfigured: it names something that is no device, or one twice.
    """
    if len(words) == 1 and (slots := _CPU.fullmatch(words[0])) and int(slots[1]) <= MOST_CPU_SLOTS:
        return tuple(f"cpu:{number}" for number in range(int(slots[1])))
    if not all(_CUDA.fullmatch(word) for word in words) or len({*words}) != len(words):
        raise ImproperlyConfigured(
            "STEWARD_DEVICES must be GPUs as CUDA_VISIBLE_DEVICES names them, each once, or cpu: and a number up to "
            f"{MOST_CPU_SLOTS}. Examples: STEWARD_DEVICES=0,1 or STEWARD_DEVICES=cpu:2"
        )
    return tuple(f"cuda:{word}" for word in words)


def found_gpus() -> tuple[str, ...]:
    """Those that CUDA_VISIBLE_DEVICES leaves, else all that the driver's own tool lists."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(f"cuda:{word.strip()}" for word in visible.split(",") if _CUDA.fullmatch(word.strip()))
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        listed = subprocess.run(
            [tool, "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=NVIDIA_SMI_SECONDS,
            check=True,
        ).stdout
    except (subprocess.SubprocessError, OSError):
        return ()  # the tool is there, the driver is not: no GPU can be used
    return tuple(f"cuda:{line.strip()}" for line in listed.splitlines() if _CUDA.fullmatch(line.strip()))


def device_environment(devices: Sequence[str]) -> Mapping[str, str]:
    """What makes a process see these devices and no others; empty where none was given to it."""
    if not devices:
        return {}
    gpus = [name.removeprefix("cuda:") for name in devices if name.startswith("cuda:")]
    environment = {"CUDA_VISIBLE_DEVICES": ",".join(gpus), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    slots = sum(name.startswith("cpu:") for name in local_devices())
    if not gpus and slots > 1:
        share = max(1, available_cores() // slots)
        environment["OMP_NUM_THREADS"] = str(min(int(os.environ.get("OMP_NUM_THREADS") or share), share))
    return environment
