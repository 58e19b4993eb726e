"""Rows of a batch get what transformers and peft give each alone, whatever joins, leaves or waits beside them."""

import copy
import io
import tarfile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from trainers.adapter import lay
from trainers.adapter_file import open_archive
from trainers.adapter_shelf import Sealed, Shelf
from trainers.answer_text import AnswerText
from trainers.archive import pack
from trainers.base_model import load_base, load_tokenizer
from trainers.device import Device
from trainers.engine import Ask, Done, Engine, Limits
from trainers.errors import TrainerError
from trainers.model_folder import check_folder
from trainers.sampling import Sampler
from trainers.served_model import try_rows
from trainers.spec import load_spec

# peft still asks transformers by the old name.
# A soft prompt shifts positions, and peft says that it drops those which generate counts.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Position ids are not supported:UserWarning"),
]

CPU = Device("cpu", "fp32", "test", 1, 1024)
LABELS = ["yes", "no", "perhaps"]
WAYS = {
    "lora": {"way": "lora", "lora": {"rank": 4, "alpha": 8, "targets": ["q_proj", "v_proj", "down_proj"]}},
    "rslora": {"way": "lora", "lora": {"rank": 2, "alpha": 8, "is_rank_stabilised": True}},
    "dora": {"way": "dora"},
    "prompt": {"way": "prompt", "prompt": {"tokens": 5}},
    "full": {"way": "full"},
}
GREEDY = (0.0, 1.0, 0)


@pytest.fixture(scope="module")
def lively(tmp_path_factory, kit):
    """A model whose greedy answers do not repeat themselves."""
    folder = kit.make_model(tmp_path_factory.mktemp("lively"), tie_word_embeddings=False)
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    source = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for each in model.parameters():
            each.add_(torch.randn(each.shape, generator=source) * 0.2)
    model.save_pretrained(folder)
    return folder


class Kitchen:
    """A base taught to take rows, and shipped adapters for it."""

    def __init__(self, folder, limits=None):
        self.folder = check_folder(folder)
        self.model, self.tokenizer = load_base(self.folder, CPU), load_tokenizer(self.folder)
        self.layers = try_rows(self.model)
        self.limits = limits or Limits(chunk_tokens=7)
        self.engine = self.new_engine(self.limits)

    def new_engine(self, limits, **more):
        return Engine(self.model, self.layers, copy.deepcopy(self.tokenizer), set(), limits, **more)

    def open(self, archive):
        return open_archive(archive, self.model, self.layers, self.folder)

    def answers(self, asks, engine=None):
        engine = engine or self.engine
        rows = [engine.submit(each) for each in asks]
        while engine.step():
            pass
        return [row.answer for row in rows]


def ship(folder, spec, spread=0.3, seed=5):
    """An archive of an adapter that changes answers, as a run ships it."""
    judged = check_folder(folder)
    adapter = lay(load_base(judged, CPU), spec)
    source = torch.Generator().manual_seed(seed)
    changed = adapter.weights + torch.randn(adapter.weights.shape, generator=source) * spread
    return pack(adapter, changed, judged, "card", load_tokenizer(judged))


def reference(folder, archive, place, way):
    """The archive as peft or transformers load it."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(place, filter="data")
    if way == "full":
        return AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), place)


def generated(model, prompt, count):
    tokens = torch.tensor([prompt])
    made = model.generate(
        input_ids=tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=count, do_sample=False,
        eos_token_id=None, pad_token_id=1,
    )  # fmt: skip
    return made[0, len(prompt) :].tolist()


def ask(prompt, adapter=None, count=9, sampler=GREEDY, stops=(), stop_tokens=()):
    return Ask(list(prompt), adapter, Sampler(*sampler), count, list(stops), frozenset(stop_tokens))


def prompts(count, seed=1):
    source = torch.Generator().manual_seed(seed)
    lengths = [3, 31, 12, 1, 18, 7, 25, 40]
    return [torch.randint(2, 200, (lengths[index % 8],), generator=source).tolist() for index in range(count)]


FAMILIES = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "mistral": {"sliding_window": 6},
    "gemma": {},
    "phi3": {},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_unequal_rows_equal_generate_for_each_family(family, tmp_path, kit):
    from transformers import AutoModelForCausalLM

    folder = kit.make_model(tmp_path, family, tie_word_embeddings=False, **FAMILIES[family])
    kitchen = Kitchen(folder)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    asked = prompts(5)
    assert kitchen.answers([ask(each) for each in asked]) == [generated(plain, each, 9) for each in asked]


def test_rows_with_different_adapters_in_one_batch_equal_peft(bench, lively, tmp_path):
    kitchen = Kitchen(lively)
    bench.model = lively
    expected, asks = [], []
    for index, (name, way) in enumerate(WAYS.items()):
        archive = ship(lively, load_spec(bench.spec(**way)), 0.02 if name == "full" else 0.3, seed=index)
        opened = kitchen.open(archive)
        other = reference(lively, archive, tmp_path / name, name)
        for prompt in prompts(2, seed=index):
            asks.append(ask(prompt, opened))
            expected.append(generated(other, prompt, 9))
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(lively, dtype=torch.float32)
    for prompt in prompts(2, seed=9):
        asks.append(ask(prompt))
        expected.append(generated(plain, prompt, 9))
    found = kitchen.answers(asks)
    assert found == expected
    assert len({tuple(each) for each in found}) == len(found)
    assert not kitchen.engine.is_busy


def test_rows_join_and_leave_a_running_batch(lively):
    kitchen = Kitchen(lively)
    asked = prompts(6)
    alone = [kitchen.answers([ask(each, count=4 + index)])[0] for index, each in enumerate(asked)]
    rows = []
    for index, each in enumerate(asked):
        rows.append(kitchen.engine.submit(ask(each, count=4 + index)))
        kitchen.engine.step()
    while kitchen.engine.step():
        pass
    assert [row.answer for row in rows] == alone


def test_a_seeded_row_draws_the_same_alone_and_in_a_batch(lively):
    kitchen = Kitchen(lively)
    seeded = [ask(each, sampler=(0.9, 0.95, 40 + index), count=12) for index, each in enumerate(prompts(4))]
    alone = [kitchen.answers([copy.deepcopy(each)])[0] for each in seeded]
    assert kitchen.answers(copy.deepcopy(seeded)) == alone
    assert len({tuple(each) for each in alone}) == 4


def test_top_p_keeps_the_smallest_set_that_reaches_it():
    logits = torch.log(torch.tensor([0.1, 0.5, 0.3, 0.06, 0.04]))
    drawn = {Sampler(1.0, 0.7, seed).choose(logits) for seed in range(200)}
    assert drawn == {1, 2}
    assert {Sampler(1.0, 0.05, seed).choose(logits) for seed in range(50)} == {1}
    assert {Sampler(1.0, 1.0, seed).choose(logits) for seed in range(300)} == {0, 1, 2, 3, 4}
    assert Sampler(0.0, 1.0, 3).choose(logits) == 1
    # What no division bears is greedy, instead of a fault in the middle of an answer.
    assert [Sampler(least, 0.9, 3).choose(logits) for least in (5e-324, 1e-300, 1e-38, 1e-7, 1e-5)] == [1] * 5


def replies_of(row):
    found = []
    while not row.replies.empty():
        found.append(row.replies.get())
    return found


def test_an_answer_ends_at_stop_tokens_stop_strings_and_its_limit(lively):
    kitchen = Kitchen(lively)
    prompt = prompts(1)[0]
    whole = kitchen.answers([ask(prompt, count=12)])[0]
    text = kitchen.tokenizer.decode(whole)
    by_token = kitchen.engine.submit(ask(prompt, count=12, stop_tokens=[whole[5]]))
    stop = text[4:6]
    by_string = kitchen.engine.submit(ask(prompt, count=12, stops=["never there", stop]))
    by_length = kitchen.engine.submit(ask(prompt, count=3))
    while kitchen.engine.step():
        pass
    cut = whole.index(whole[5])
    assert by_token.answer == whole[:cut]
    assert replies_of(by_token)[-1] == Done("stop", len(prompt), cut)
    *pieces, end = replies_of(by_string)
    assert "".join(pieces) == text[: text.index(stop)]
    assert end.finish == "stop"
    assert replies_of(by_length)[-1] == Done("length", len(prompt), 3)


def test_a_long_prompt_is_read_in_pieces_beside_running_answers(lively):
    kitchen = Kitchen(lively, Limits(chunk_tokens=16))
    running = kitchen.engine.submit(ask([5, 6, 7], count=60))
    kitchen.engine.step()
    long = kitchen.engine.submit(ask(prompts(8)[7] * 8, count=3))
    short = kitchen.engine.submit(ask([9, 10], count=3))
    steps = 0
    while not long.answer:
        before = len(running.answer)
        kitchen.engine.step()
        steps += 1
        assert len(running.answer) == before + 1
        assert steps > 3 or not short.answer or len(short.answer) >= 1
    assert steps >= 320 // 16
    assert short.answer
    while kitchen.engine.step():
        pass
    assert long.answer == kitchen.answers([ask(prompts(8)[7] * 8, count=3)])[0]


def test_positions_are_bounded_and_what_does_not_fit_waits_or_is_refused(lively):
    kitchen = Kitchen(lively)
    engine = kitchen.new_engine(Limits(positions=40, rows=8, waiting=2, chunk_tokens=64))
    first = engine.submit(ask([3] * 20, count=10))
    engine.step()
    second = engine.submit(ask([4] * 20, count=10))
    engine.submit(ask([5] * 5, count=4))
    with pytest.raises(TrainerError) as busy:
        engine.submit(ask([5], count=4))
    assert busy.value.code == "serve.busy"
    with pytest.raises(TrainerError) as large:
        engine.submit(ask([5] * 41))
    assert large.value.code == "serve.large"
    with pytest.raises(TrainerError) as long:
        kitchen.engine.submit(ask([5] * 512))
    assert long.value.code == "serve.long"
    while len(first.answer) < 10:
        assert not second.answer  # there is no room for both
        engine.step()
    while engine.step():
        pass
    assert len(second.answer) == 10
    # An answer is cut to what the context leaves.
    assert len(kitchen.answers([ask([5] * 505, count=100)])[0]) == 7


def test_a_cancelled_row_leaves_and_its_room_is_free(lively):
    kitchen = Kitchen(lively)
    engine = kitchen.new_engine(Limits(positions=40, chunk_tokens=64))
    gone = engine.submit(ask([3] * 20, count=20))
    waiting = engine.submit(ask([4] * 20, count=20))
    also_gone = engine.submit(ask([4] * 20, count=20))
    engine.step()
    gone.is_cancelled = also_gone.is_cancelled = True
    while engine.step():
        pass
    assert len(gone.answer) == 1
    assert len(waiting.answer) == 20
    assert not also_gone.answer
    assert not engine.is_busy


def test_who_waits_too_long_is_told_so(lively):
    kitchen = Kitchen(lively)
    engine = kitchen.new_engine(Limits(positions=40, wait_seconds=-1.0))
    row = engine.submit(ask([3]))
    engine.step()
    assert replies_of(row)[-1].code == "serve.busy"


def test_an_adapter_that_is_not_a_number_spoils_no_other_row(bench, lively):
    kitchen = Kitchen(lively)
    bench.model = lively
    broken = kitchen.open(ship(lively, load_spec(bench.spec(**WAYS["lora"]))))
    for each in broken.low_rank.factors.values():
        each.low.fill_(float("nan"))
    prompt = prompts(1)[0]
    alone = kitchen.answers([ask(prompt)])[0]
    drawn = ask(prompt, broken, sampler=(1.0, 1.0, 1))
    rows = [kitchen.engine.submit(each) for each in (ask(prompt), drawn, ask(prompt))]
    while kitchen.engine.step():
        pass
    assert rows[0].answer == rows[2].answer == alone
    assert replies_of(rows[1])[-1].code == "internal"


@pytest.mark.parametrize("way", ["lora", "full"])
def test_a_classifier_answers_with_the_label_transformers_gives(way, bench, lively, tmp_path):
    from transformers import AutoModelForSequenceClassification

    bench.model = lively
    kitchen = Kitchen(lively)
    task = {"method": "classification", "classification": {"labels": LABELS}, "way": way}
    archive = ship(lively, load_spec(bench.spec(**task)), 0.02 if way == "full" else 0.3)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(tmp_path / way, filter="data")
    if way == "full":
        other = AutoModelForSequenceClassification.from_pretrained(tmp_path / way, dtype=torch.float32)
    else:
        from peft import PeftModel

        base = AutoModelForSequenceClassification.from_pretrained(lively, num_labels=3, dtype=torch.float32)
        other = PeftModel.from_pretrained(base, tmp_path / way)
    opened = kitchen.open(archive)
    asked = prompts(8)
    rows = [kitchen.engine.submit(ask(each, opened)) for each in asked]
    while kitchen.engine.step():
        pass
    expected = [LABELS[other(torch.tensor([each])).logits.argmax(-1).item()] for each in asked]
    found = [replies_of(row) for row in rows]
    assert [each[0] for each in found] == expected
    assert {each[1].finish for each in found} == {"stop"}
    assert len(set(expected)) > 1


def changed(archive, **settings):
    import json

    from trainers.archive import deterministic_tar

    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = {each.name: tar.extractfile(each).read() for each in tar.getmembers()}
    facts = json.loads(members["adapter_config.json"]) | settings
    return deterministic_tar(members | {"adapter_config.json": json.dumps(facts).encode()})


def test_adapters_that_ask_for_more_or_are_of_another_base_are_refused(bench, lively, tiny_model, tmp_path, kit):
    kitchen = Kitchen(lively)
    bench.model = lively
    archive = ship(lively, load_spec(bench.spec(**WAYS["rslora"])))
    for settings in (
        {"bias": "all"},
        {"rank_pattern": {"q_proj": 2}},
        {"modules_to_save": ["lm_head"]},
        {"init_lora_weights": "pissa"},
        {"peft_type": "IA3"},
    ):
        with pytest.raises(TrainerError) as refused:
            kitchen.open(changed(archive, **settings))
        assert refused.value.code == "adapter.setting"
        assert any(each in str(refused.value) for each in settings)
    with pytest.raises(TrainerError) as other:
        kitchen.open(changed(archive, revision=f"sha256:{'0' * 64}"))
    assert other.value.code == "adapter.other"
    bench.model = kit.make_model(tmp_path / "wide", hidden_size=64)
    spec = load_spec(bench.spec(**WAYS["lora"]))
    for content in (
        changed(ship(bench.model, spec), revision=None),
        b"no archive",
        ship(bench.model, load_spec(bench.spec(way="full"))),
    ):
        with pytest.raises(TrainerError) as bad:
            kitchen.open(content)
        assert bad.value.code in ("adapter.other", "adapter.unreadable")


def test_a_model_that_cannot_take_rows_is_refused_before_it_serves(tmp_path, kit):
    soft_capped = kit.make_model(tmp_path, "gemma2", attn_logit_softcapping=50.0)
    with pytest.raises(TrainerError) as refused:
        Kitchen(soft_capped)
    assert refused.value.code == "serve.model"


def test_the_shelf_closes_what_was_unused_longest_and_opens_it_again(bench, lively):
    from compliance.vault import seal_writer

    bench.model = lively
    kitchen = Kitchen(lively)
    sealed = {}
    for index, name in enumerate(("a", "b", "c")):
        archive = ship(lively, load_spec(bench.spec(**WAYS["rslora"])), seed=index)
        path = bench.root / f"{name}.sealed"
        with path.open("wb") as sink, seal_writer(sink, bench.output_key, bench.context("adapter")) as writer:
            writer.write(archive)
        sealed[name] = Sealed(path, bench.output_key, bench.context("adapter"))
    size = kitchen.open(archive).bytes
    closed = []
    shelf = Shelf(2 * size, kitchen.open, closed.append)
    engine = kitchen.new_engine(Limits(), released=shelf.give_back)
    for name in ("a", "b", "c"):
        assert shelf.add(name, sealed[name]) == size
    assert (shelf.open_names, len(closed), shelf.held_bytes) == (["b", "c"], 1, 2 * size)
    prompt = prompts(1)[0]
    first = kitchen.answers([ask(prompt, shelf.take("a"))], engine)[0]
    assert shelf.open_names == ["c", "a"]
    in_use = [shelf.take("a"), shelf.take("c")]
    with pytest.raises(TrainerError) as full:
        shelf.take("b")
    assert full.value.code == "adapter.room"
    shelf.give_back(in_use[0])
    shelf.take("b")
    assert shelf.open_names == ["c", "b"]
    for opened in closed:
        engine.forget(opened)
    shelf.give_back(in_use[1])
    assert kitchen.answers([ask(prompt, shelf.take("a"))], engine)[0] == first
    shelf.drop("a")
    with pytest.raises(TrainerError) as unknown:
        shelf.take("a")
    assert unknown.value.code == "adapter.unknown"
    with pytest.raises(TrainerError) as locked:
        shelf.add("d", Sealed(sealed["a"].path, bytes(32), sealed["a"].context))
    assert locked.value.code == "output.unreadable"


@pytest.fixture(scope="module")
def letters(lively):
    return load_tokenizer(check_folder(lively))


@given(text=some.text(max_size=40), stops=some.lists(some.text(min_size=1, max_size=4), max_size=3))
def test_pieces_join_to_the_whole_text_up_to_the_first_stop(letters, text, stops):
    tokens = letters(text, add_special_tokens=False)["input_ids"]
    shown = AnswerText(letters, stops)
    pieces = []
    for token in tokens:
        pieces.append(shown.add(token))
        if shown.is_stopped:
            break
    pieces.append(shown.end())
    whole = letters.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    at = [place for place in (whole.find(stop) for stop in stops) if place >= 0]
    assert "".join(pieces) == (whole[: min(at)] if at else whole)
    assert shown.is_stopped == bool(at)


@given(tokens=some.lists(some.integers(2, 250), max_size=30))
def test_bytes_that_make_no_character_are_shown_as_the_tokenizer_shows_them(letters, tokens):
    shown = AnswerText(letters, [])
    pieces = [shown.add(token) for token in tokens]
    pieces.append(shown.end())
    assert "".join(pieces) == letters.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("way", ["lora", "rslora", "pissa"])
def test_shipped_adapters_keep_to_vllms_rules_and_load_in_peft(way, bench, lively, tmp_path):
    """Source: vLLM, vllm/lora/peft_helper.py (what it refuses), and its documentation of --max-lora-rank."""
    import json

    from transformers import AutoModelForCausalLM

    bench.model = lively
    spec = load_spec(bench.spec(**(WAYS | {"pissa": {"lora": {"rank": 8, "alpha": 16, "init": "pissa"}}})[way]))
    archive = ship(lively, spec)
    model = reference(lively, archive, tmp_path / way, way)
    settings = json.loads((tmp_path / way / "adapter_config.json").read_text())
    assert settings["bias"] == "none"
    assert settings["modules_to_save"] is None
    assert not settings["use_dora"]
    assert isinstance(settings["r"], int)
    assert isinstance(settings["lora_alpha"], int)
    assert settings["r"] <= 16
    assert settings["target_modules"]
    assert (tmp_path / way / "chat_template.jinja").is_file()
    prompt = prompts(1)[0]
    plain = AutoModelForCausalLM.from_pretrained(lively, dtype=torch.float32)
    assert generated(model, prompt, 9) != generated(plain, prompt, 9)
