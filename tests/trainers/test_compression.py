"""A compressed model is what the papers and the library say it is, and is judged by figures that are right."""

import io
import json
import tarfile

import pytest
import torch

from trainers import compression, dropping, events, keeping, pruning, quantising
from trainers.errors import TrainerError
from trainers.pruning import Sparsity, keep_mask


@pytest.fixture
def tiny(tiny_model):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


@pytest.fixture
def rows():
    source = torch.Generator().manual_seed(3)
    return [torch.randint(2, 250, (12 + 3 * number,), generator=source).tolist() for number in range(3)]


def plain_wanda(weight, inputs, share):
    """The algorithm box of the paper, row by row: |W| times the norm of the input, the lowest of each row go."""
    norm = [sum(float(token[column]) ** 2 for token in inputs) ** 0.5 for column in range(weight.shape[1])]
    pruned = weight.clone()
    for row in range(weight.shape[0]):
        metric = [abs(float(weight[row, column])) * norm[column] for column in range(weight.shape[1])]
        for column in sorted(range(len(metric)), key=lambda at: metric[at])[: int(len(metric) * share)]:
            pruned[row, column] = 0
    return pruned


def test_wanda_is_the_papers_formula_block_after_block(tiny, rows):
    import copy

    before = copy.deepcopy(tiny)
    assert pruning.prune(tiny, "wanda", Sparsity(0.5), rows) == pytest.approx(0.5, abs=0.01)
    # What the second block reads must have come through the first one as pruned; the model itself says what that is.
    for index, name in [(0, "self_attn.q_proj"), (1, "mlp.gate_proj")]:
        seen = []
        partly = copy.deepcopy(before)
        for earlier in range(index):
            partly.model.layers[earlier] = tiny.model.layers[earlier]
        layer = partly.model.layers[index].get_submodule(name)
        handle = layer.register_forward_pre_hook(lambda _, given, seen=seen: seen.extend(given[0][0].tolist()))
        for row in rows:
            partly(input_ids=torch.tensor([row]))
        handle.remove()
        expected = plain_wanda(before.model.layers[index].get_submodule(name).weight.detach(), seen, 0.5)
        torch.testing.assert_close(tiny.model.layers[index].get_submodule(name).weight.detach(), expected)
    torch.testing.assert_close(tiny.model.embed_tokens.weight, before.model.embed_tokens.weight)


def test_magnitude_takes_the_smallest_of_each_row_and_2_4_two_of_every_four(tiny):
    weight = torch.tensor([[4.0, -1.0, 2.0, -3.0], [0.1, 0.2, -0.4, 0.3]])
    assert keep_mask(weight.abs(), Sparsity(0.5)).tolist() == [[True, False, False, True], [False, False, True, True]]
    pruning.prune(tiny, "magnitude", Sparsity(0.5, is_2_4=True), [])
    for block in pruning.blocks_of(tiny):
        for each in pruning.linears_of(block).values():
            assert ((each.weight.view(-1, 4) == 0).sum(-1) == 2).all()


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_quantised_weights_are_torchaos_own_and_close_to_the_formula(tiny, kind):
    import copy

    from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, quantize_
    from torchao.quantization.granularity import PerGroup

    before = copy.deepcopy(tiny)
    stayed = quantising.quantise(tiny, kind)
    assert stayed == (2 if kind == "int4" else 0)  # the width of 48 does not divide by 32
    layer = tiny.model.layers[0].self_attn.q_proj
    plain = before.model.layers[0].self_attn.q_proj
    alone = torch.nn.Sequential(copy.deepcopy(plain))
    four = IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(32))
    quantize_(alone, Int8WeightOnlyConfig() if kind == "int8" else four)
    found = layer.weight.dequantize()
    torch.testing.assert_close(found, alone[0].weight.dequantize())
    # Symmetric: the largest of a group decides its step, and nothing is further off than half of one.
    step = plain.weight.abs().amax(-1, keepdim=True) / (127 if kind == "int8" else 7.5)
    assert ((found - plain.weight).abs() <= step * 0.51).all()
    assert quantising.packed_bytes(layer.weight, kind) == {"int8": 32 * 32 + 5 * 32, "int4": 32 * 16 + 64}[kind]


def test_dropped_blocks_are_those_that_change_least(tiny, rows):
    with torch.no_grad():
        for each in (tiny.model.layers[1].self_attn.o_proj, tiny.model.layers[1].mlp.down_proj):
            each.weight.zero_()
    influence = dropping.block_influence(tiny, rows)
    assert influence[1] == pytest.approx(0, abs=1e-6)
    assert influence[0] > 0.01
    tokens = torch.tensor([rows[0]])
    before = tiny(tokens).logits
    assert dropping.drop_blocks(tiny, 1, rows) == [1]
    torch.testing.assert_close(tiny(tokens).logits, before)
    with pytest.raises(TrainerError, match="cannot go"):
        dropping.drop_blocks(tiny, 1, rows)


def test_a_dropped_group_of_heads_is_one_that_says_nothing(tiny, rows):
    with torch.no_grad():
        tiny.model.layers[0].self_attn.o_proj.weight[:, :16] = 0
        tiny.model.layers[1].self_attn.o_proj.weight[:, 16:] = 0
    tokens = torch.tensor([rows[0]])
    before = tiny(tokens).logits
    assert dropping.drop_head_groups(tiny, 1, rows) == [[0], [1]]
    assert (tiny.config.num_attention_heads, tiny.config.num_key_value_heads, tiny.config.head_dim) == (2, 1, 8)
    torch.testing.assert_close(tiny(tokens).logits, before)


@pytest.fixture
def trained(bench):
    bench.spec(epochs=4)
    assert bench.command("run")[0] == 0
    return bench


@pytest.mark.slow
def test_every_way_is_measured_and_reported_and_one_is_kept(trained, kit, tmp_path):
    ways = "int8,int4,magnitude-50,wanda-2:4,groups-1,blocks-1,blocks-1+heal"
    asked = ["--ways", ways, "--metric", "label_match", "--max-new-tokens", "4", "--heal-steps", "6"]
    code, said = trained.command("compress", *asked, "--keep", "blocks-1+heal")
    assert code == 0, said[-1]
    tuned, *measured = kit.of(events.CompressionMeasured, said)
    assert [tuned.way, *(row.way for row in measured)] == ["tuned", *ways.split(",")]
    assert (tuned.agreement, tuned.divergence, tuned.zero_share, tuned.scored) == (1.0, 0.0, 0.0, 8)
    rows = {row.way: row for row in measured}
    assert all(0 < row.bytes < tuned.bytes and row.read_tokens_per_second > 0 for row in measured)
    assert rows["int8"].divergence < rows["int4"].divergence
    assert rows["wanda-2:4"].zero_share == pytest.approx(0.5)
    assert rows["blocks-1"].parameters < tuned.parameters
    assert rows["blocks-1+heal"].loss < rows["blocks-1"].loss
    report = json.loads((trained.out / compression.REPORT_FILE).read_text())
    assert [row["way"] for row in report["rows"]] == ["tuned", *ways.split(",")]
    assert kit.files_holding(trained.out, kit.secret.encode()) == []
    assert not list(trained.out.glob("*.healing"))
    end = said[-1]
    content = trained.opened(end.kept_file, "compressed-blocks-1-heal")
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        tar.extractall(tmp_path / "kept", filter="data")
    from transformers import AutoModelForCausalLM

    from trainers.model_folder import check_folder

    assert check_folder(tmp_path / "kept").parameters == rows["blocks-1+heal"].parameters
    kept = AutoModelForCausalLM.from_pretrained(tmp_path / "kept", dtype=torch.float32)
    assert kept.config.num_hidden_layers == 1
    assert torch.isfinite(kept(torch.arange(5, 60)[None]).logits).all()


def test_the_tuned_row_is_the_runs_own_figure_although_bf16_would_round_the_adapter_away(bench, kit, monkeypatch):
    bench.spec(precision="bf16", epochs=2, optimiser={"learning_rate": 0.002})
    code, said = bench.command("run")
    assert code == 0
    [trained] = [each.loss for each in kit.of(events.EvalLoss, said) if each.best][-1:]
    asked = ("compress", "--ways", "magnitude-50")
    code, said = bench.command(*asked)
    assert code == 0, said[-1]
    tuned = kit.of(events.CompressionMeasured, said)[0]
    assert tuned.precision == "fp32"
    assert tuned.loss == pytest.approx(trained, abs=0.002)
    # Where fp32 has no room, the row says so, and is further off.
    monkeypatch.setattr(compression, "free_bytes", lambda _: 0)
    coarse = kit.of(events.CompressionMeasured, bench.command(*asked)[1])[0]
    assert coarse.precision == "bf16"
    assert abs(coarse.loss - trained) > abs(tuned.loss - trained)


def test_a_kept_file_gives_the_figures_of_its_row_in_a_process_of_its_own(trained, kit):
    asked = ["--ways", "magnitude-50", "--keep", "magnitude-50", "--metric", "label_match", "--max-new-tokens", "4"]
    code, said = trained.command("compress", *asked)
    assert code == 0, said[-1]
    row, proof = kit.of(events.CompressionMeasured, said)[1], kit.of(events.ExportMeasured, said)[0]
    assert (proof.format, proof.precision, proof.reader, proof.offered) == ("compressed", "fp16", "transformers", True)
    assert (proof.agreement, proof.scored, proof.trained_score) == (1.0, 8, row.score)
    assert proof.exported_score == row.score
    assert abs(proof.loss_difference) < 1e-4
    assert proof.divergence < 1e-4


def test_a_kept_file_that_answers_otherwise_than_was_measured_is_removed_and_nothing_is_offered(
    trained, kit, monkeypatch
):
    write = keeping.write

    def spoilt(model, *more):
        with torch.no_grad():
            model.model.layers[0].mlp.down_proj.weight.mul_(-3)
        return write(model, *more)

    monkeypatch.setattr(keeping, "write", spoilt)
    code, said = trained.command("compress", "--ways", "blocks-1", "--keep", "blocks-1")
    assert (code, said[-1].code) == (2, "export.parity")
    assert "held-out loss" in said[-1].message
    assert [each.offered for each in kit.of(events.ExportMeasured, said)] == [False]
    assert not list(trained.out.glob("compressed-*"))


@pytest.mark.slow
def test_kept_int8_is_read_back_by_transformers_bit_by_bit_without_a_pickle(trained, kit, tmp_path, monkeypatch):
    from transformers import AutoModelForCausalLM

    tokens, said_by, write = torch.arange(5, 60)[None], [], keeping.write

    def ask_and_write(model, *more):
        said_by.append(model(tokens).logits)
        return write(model, *more)

    monkeypatch.setattr(keeping, "write", ask_and_write)
    code, said = trained.command("compress", "--ways", "int8", "--keep", "int8")
    assert code == 0, said[-1]
    with tarfile.open(fileobj=io.BytesIO(trained.opened(said[-1].kept_file, "compressed-int8"))) as tar:
        tar.extractall(tmp_path / "kept", filter="data")
    assert {path.suffix for path in (tmp_path / "kept").iterdir()} <= {".json", ".jinja", ".md", ".safetensors"}
    kept = AutoModelForCausalLM.from_pretrained(tmp_path / "kept", dtype=torch.float32).eval()
    layers = [each for block in pruning.blocks_of(kept) for each in pruning.linears_of(block).values()]
    assert all(type(each.weight.data).__name__ == "Int8Tensor" for each in layers)
    assert torch.equal(kept(tokens).logits, said_by[0])


def test_zeros_of_a_pruned_model_survive_healing(trained, kit):
    code, said = trained.command("compress", "--ways", "wanda-50+heal", "--heal-steps", "3")
    assert code == 0, said[-1]
    assert kit.of(events.CompressionMeasured, said)[1].zero_share == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("way", ["blocks-99", "groups-99+heal"])
def test_what_the_models_shape_does_not_allow_is_refused_before_a_way_is_measured(trained, kit, way):
    code, said = trained.command("compress", "--ways", f"int8,magnitude-50,{way}")
    assert (code, said[-1].code) == (2, "compress.shape")
    assert kit.of(events.CompressionMeasured, said) == []


def test_widths_without_groups_of_four_are_refused_before_a_way_is_measured(bench, kit, tmp_path):
    bench.model = kit.make_model(tmp_path / "odd", intermediate_size=46)
    bench.spec(max_steps=1)
    assert bench.command("run")[0] == 0
    code, said = bench.command("compress", "--ways", "magnitude-50,wanda-2:4")
    assert (code, said[-1].code) == (2, "compress.shape")
    assert "mlp.down_proj of block 0 is 46 wide" in said[-1].message
    assert kit.of(events.CompressionMeasured, said) == []


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        (["--ways", "int3"], "is no way"),
        (["--ways", "wanda-50", "--keep", "blocks-1"], "can be kept"),
        (["--ways", "int4", "--keep", "int4"], "as large as int8's"),
        (["--metric", "taste"], "no such metric"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_model_is_loaded(bench, asked, word):
    bench.spec()
    code, said = bench.command("compress", *asked)
    assert code == 2
    assert word in said[-1].message
