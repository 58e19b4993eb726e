"""What the machine at hand can do, and what is therefore used.

Guarantees: each choice comes with its reason in words. Does not: measure; the choices rest on CPU flags and the
device's own answers.

Example:
    >>> choose_device("auto")
    Device(name='cpu', precision='bf16', precision_reason='this CPU multiplies bf16 (avx512_bf16)', …)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from trainers.errors import TrainerError

#: Tokens through the model at once where the spec leaves it open. On CPUs more brings nothing (measured: 800 to 1,600
#: tokens run equally fast, above that the caches suffer); on an accelerator it fills the device.
CPU_MICRO_TOKENS = 1024
CUDA_MICRO_TOKENS = 8192
_FP16_FLAGS = {"avx512_fp16", "amx_fp16", "asimdhp"}
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class Device:
    """``name`` as torch takes it; ``precision`` is bf16, fp16 or fp32."""

    name: str
    precision: str
    precision_reason: str
    threads: int
    micro_tokens: int

    @property
    def dtype(self) -> torch.dtype:
        """What activations and frozen weights are held in."""
        return DTYPES[self.precision]


def choose_device(precision: str) -> Device:
    """The device and the precision for ``auto``, ``bf16``, ``fp16`` or ``fp32``.

    Raises:
        TrainerError: ``device.precision``, when bf16 is demanded of an accelerator that has none.
    """
    name = "cuda" if torch.cuda.is_available() else "cpu"
    reason = "the spec says so"
    if precision == "auto":
        precision, reason = _accelerator_precision() if name == "cuda" else _cpu_precision()
    elif precision == "bf16" and name == "cuda" and not _has_bf16():
        raise TrainerError("device.precision", "this accelerator has no bf16", "set precision to auto, fp16 or fp32")
    elif precision == "fp16" and name == "cpu" and not _FP16_FLAGS & _cpu_flags():
        reason += ", though this CPU has no instructions for fp16 and is some hundred times slower in it"
    micro_tokens = CUDA_MICRO_TOKENS if name == "cuda" else CPU_MICRO_TOKENS
    return Device(name, precision, reason, torch.get_num_threads(), micro_tokens)


def _has_bf16() -> bool:
    """Whether the accelerator multiplies bf16 itself; torch would also take it where it only converts."""
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def _accelerator_precision() -> tuple[str, str]:
    if _has_bf16():
        return "bf16", "this accelerator computes in bf16"
    major, minor = torch.cuda.get_device_capability()
    return "fp16", f"no bf16 below compute capability 8.0, and this accelerator has {major}.{minor}; fp16 it has"


def _cpu_precision() -> tuple[str, str]:
    flags = {"avx512_bf16", "amx_bf16"} & _cpu_flags()
    if flags:
        return "bf16", f"this CPU multiplies bf16 ({', '.join(sorted(flags))})"
    return "fp32", "no instructions for bf16 here; it would be slower than fp32"


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
