"""What the machine at hand can do, and what is therefore used.

Guarantees: each choice comes with its reason in words. Does not: measure; the choices rest on CPU flags and the
device's own answers.

Example:
    >>> choose_device("auto")
    Device(name='cpu', precision='bf16', precision_reason='this CPU multiplies bf16 (avx512_bf16)', …)
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from trainers.errors import TrainerError

#: Tokens through the model at once where the spec leaves it open. On CPUs more brings nothing (measured: 800 to 1,600
#: tokens run equally fast, above that the caches suffer); on an accelerator it fills the device.
CPU_MICRO_TOKENS = 1024
CUDA_MICRO_TOKENS = 8192


@dataclass(frozen=True)
class Device:
    """``name`` as torch takes it; ``precision`` is bf16 or fp32."""

    name: str
    precision: str
    precision_reason: str
    threads: int
    micro_tokens: int

    @property
    def dtype(self) -> torch.dtype:
        """What activations and frozen weights are held in."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32


def choose_device(precision: str) -> Device:
    """The device and the precision for ``auto``, ``bf16`` or ``fp32``.

    Raises:
        TrainerError: ``device.precision``, when bf16 is demanded of an accelerator that has none.
    """
    if torch.cuda.is_available():
        has_bf16 = torch.cuda.is_bf16_supported()
        if precision == "bf16" and not has_bf16:
            raise TrainerError("device.precision", "this accelerator has no bf16", "set precision to auto or fp32")
        return _decided("cuda", precision, has_bf16, "this accelerator computes in bf16", CUDA_MICRO_TOKENS)
    flags = {"avx512_bf16", "amx_bf16"} & _cpu_flags()
    return _decided(
        "cpu", precision, bool(flags), f"this CPU multiplies bf16 ({', '.join(sorted(flags))})", CPU_MICRO_TOKENS
    )


def _decided(name: str, precision: str, has_bf16: bool, reason: str, micro_tokens: int) -> Device:
    threads = torch.get_num_threads()
    if precision != "auto":
        return Device(name, precision, "the spec says so", threads, micro_tokens)
    if has_bf16:
        return Device(name, "bf16", reason, threads, micro_tokens)
    return Device(name, "fp32", "no instructions for bf16 here; it would be slower than fp32", threads, micro_tokens)


def _cpu_flags() -> set[str]:
    abilities = torch.cpu.get_capabilities()
    return {name for name, has in abilities.items() if has is True}


def memory_bytes(device: str) -> int:
    """Peak memory so far: of the device where it has its own, else of the process."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


class Sensors:
    """What an accelerator tells of itself; nothing on a CPU, nor where NVIDIA's reader (``nvidia-ml-py``) is missing.

    A sensor that fails once is not asked again: some boards and some containers have none.
    """

    def __init__(self, device: str) -> None:
        self._broken = set() if device == "cuda" else {"temperature", "power_draw"}

    def temperature_celsius(self) -> float | None:
        """Of the chip."""
        return self._read("temperature", 1.0)

    def power_watts(self) -> float | None:
        """Of the whole board, averaged by the device over its last second or less."""
        return self._read("power_draw", 1e-3)

    def _read(self, name: str, unit: float) -> float | None:
        if name in self._broken:
            return None
        try:
            return float(getattr(torch.cuda, name)()) * unit
        except Exception:  # noqa: BLE001 - the reader's own errors are of a library that may be absent
            self._broken.add(name)
            return None


def default_threads() -> int:
    """OMP_NUM_THREADS where it is set, else two, else what the process may use."""
    named = os.environ.get("OMP_NUM_THREADS", "")
    available = len(os.sched_getaffinity(0))
    return int(named) if named.isdecimal() and int(named) > 0 else min(2, available)
