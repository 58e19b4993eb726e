"""Liger's real kernels against transformers' own layers, by Triton's interpreter, on a machine without an accelerator.

By hand, where liger-kernel and Triton are installed (both are far too large for every test environment):

    export PYTHONPATH=. TRITON_INTERPRET=1
    python tests/trainers/prove_liger.py            # tiny models of each family in trainers.fused_kernels.FAMILIES
    python tests/trainers/prove_liger.py FOLDER     # a base model in bf16, some minutes

The interpreter runs the kernels' text on numpy. Four of its gaps are filled here: it hands floats to a kernel as they
are, where the compiler makes them fp32; it has no functions of CUDA's library, for which Triton's own stand; it would
add bf16 numbers as the integers that it keeps them in; and it cuts fp32 numbers off to bf16 where a GPU rounds them.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import triton
import triton.language as tl
from conftest import make_model
from triton.language.extra import libdevice
from triton.runtime import interpreter

from tests.trainers.passes import losses_and_grads
from trainers import forward as ways
from trainers.adapter import lay_full, lay_lora
from trainers.base_model import load_base
from trainers.device import Device
from trainers.fused_kernels import FAMILIES, FusedKernels
from trainers.head_loss import Head
from trainers.model_folder import check_folder
from trainers.spec import LoraSpec

_as_it_was = interpreter._implicit_cvt


def _with_floats(argument):
    if type(argument) is not float:
        return _as_it_was(argument)
    return tl.tensor(interpreter.TensorHandle(np.array([argument], dtype=np.float32), tl.float32), tl.float32)


_on_numpy, _cut_off = interpreter.InterpreterBuilder.binary_op, interpreter.InterpreterBuilder.cast_impl


def _through_fp32(self, lhs, rhs, op):
    if lhs.dtype.scalar != tl.bfloat16:
        return _on_numpy(self, lhs, rhs, op)
    found = _on_numpy(self, *(self.cast_impl(each, tl.float32) for each in (lhs, rhs)), op)
    return self.cast_impl(found, tl.bfloat16) if found.data.dtype == np.float32 else found


def _rounded(self, source, wanted):
    if (source.dtype.scalar, wanted.scalar) != (tl.float32, tl.bfloat16):
        return _cut_off(self, source, wanted)
    bits = torch.from_numpy(np.ascontiguousarray(source.data)).bfloat16().view(torch.int16)
    return interpreter.TensorHandle(bits.numpy().view(np.uint16), wanted.scalar)


@triton.jit
def rsqrt(x):
    return tl.rsqrt(x)


@triton.jit
def tanh(x):
    return 2 * tl.sigmoid(2 * x) - 1


interpreter._implicit_cvt = _with_floats
interpreter.InterpreterBuilder.binary_op = _through_fp32
interpreter.InterpreterBuilder.cast_impl = _rounded
libdevice.rsqrt, libdevice.tanh = rsqrt, tanh


def prove(folder, precision, way):
    """Prints how far kernels are from the padded way, and fails where they are further than the engine allows."""
    base = load_base(check_folder(Path(folder)), Device("cpu", precision, "by hand", 1, 1024)).eval()
    adapter = lay_full(base) if way == "full" else lay_lora(base, LoraSpec(), seed=0, is_decomposed=way == "dora")
    kernels = FusedKernels(adapter.base)
    kernels.check(adapter.computing)
    fused, plain = (ways.PackedForward(adapter, Head.of(adapter), "", "blocks", each) for each in (kernels, None))
    with ways._nudged(adapter):
        losses, grads = losses_and_grads(ways.BucketForward(adapter, Head.of(adapter), ""), adapter)
        said = []
        for forward in (plain, fused):
            found = losses_and_grads(forward, adapter)
            nats = (found[0] - losses).abs().mean()
            turned = 1 - torch.cosine_similarity(found[1].double(), grads.double(), dim=0)
            said.append(f"{nats:.1e} nats, gradients by {turned:.1e}")
        print(f"{base.config.model_type:8} {precision} {way:5}", f"{said[1]}; without {said[0]}", flush=True)
        assert nats <= ways._tolerance(adapter)
        assert turned <= ways.MOST_TURNED
        fused.recompute()
        for again, before in zip(losses_and_grads(fused, adapter), found, strict=True):
            torch.testing.assert_close(again, before)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:]:
        prove(sys.argv[1], "bf16", "lora")
        sys.exit()
    for family in FAMILIES:
        # Gemma 2 caps its scores unless it is told otherwise, which no packed way does.
        changes = {"gemma2": {"attn_logit_softcapping": None, "query_pre_attn_scalar": 8}}.get(family, {})
        with tempfile.TemporaryDirectory() as folder:
            make_model(folder, family, **changes)
            for precision in ("fp32", "bf16"):
                for way in ("lora", "dora", "full"):
                    prove(folder, precision, way)
