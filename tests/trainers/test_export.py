"""A merged export is loaded by transformers, answers as the trained model did, or is not offered."""

import io
import tarfile

import pytest
import torch

from trainers import events, export
from trainers.model_folder import check_folder


@pytest.fixture
def trained(bench):
    bench.spec(epochs=4)
    assert bench.command("run")[0] == 0
    return bench


def test_the_export_is_a_sealed_folder_that_answers_alike(trained, kit, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    code, said = trained.command("export")
    assert code == 0, said[-1]
    (end,) = kit.of(events.ExportFinished, said)
    assert end.agreement == 1.0
    assert end.divergence == pytest.approx(0, abs=1e-5)
    assert end.positions > 10
    assert kit.files_holding(trained.out, b"__metadata__") == []
    content = trained.opened(end.file, "merged")
    assert end.digest == "sha256:" + export.hashlib.sha256(content).hexdigest()
    for name, archive in (("merged", content), ("adapter", trained.opened("adapter.sealed", "adapter"))):
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(tmp_path / name, filter="data")
    assert check_folder(tmp_path / "merged").architecture == "LlamaForCausalLM"
    tokens = torch.arange(5, 60)[None]
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)(tokens).logits
    base = AutoModelForCausalLM.from_pretrained(trained.model, dtype=torch.float32)
    assert (merged - base(tokens).logits).abs().max() > 0.01
    torch.testing.assert_close(
        merged, PeftModel.from_pretrained(base, tmp_path / "adapter")(tokens).logits, rtol=1e-3, atol=1e-4
    )
    assert trained.command("export")[1][-1].digest == end.digest


def test_an_export_that_answers_otherwise_is_withdrawn(trained, monkeypatch):
    monkeypatch.setattr(export, "_merged", lambda bench, name, weight: weight)
    code, said = trained.command("export")
    assert (code, said[-1].code) == (2, "export.parity")
    assert not list(trained.out.glob("merged*"))
