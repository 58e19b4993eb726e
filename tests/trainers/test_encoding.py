"""Tokens of training are those of generation, weights say what is learnt, and whatever is cut is counted."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers import batches
from trainers.base_model import load_tokenizer
from trainers.encoding import cut_prompt, encode, prompt_tokens, render
from trainers.errors import TrainerError
from trainers.forward import micro_batch
from trainers.model_folder import check_folder
from trainers.references import reference_of
from trainers.shards import Message, Record, read_records
from trainers.spec import load_spec


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return load_tokenizer(check_folder(Path(tiny_model)))


def talk(*turns):
    return Record("r", tuple(Message(*turn) for turn in turns))


def learnt(split, tokenizer, index=0):
    pairs = zip(split.tokens_of(index), split.marks_of(index), strict=True)
    return tokenizer.decode([token for token, mark in pairs if mark])


def test_only_the_answer_is_learnt_and_the_prompt_is_what_generation_sees(tokenizer):
    record = talk(("system", "be brief"), ("user", "2 + 2?"), ("assistant", "4"))
    split = encode([record], tokenizer, 200, "refuse")
    assert learnt(split, tokenizer) == "4<|end|>\n"
    prompt = prompt_tokens(tokenizer, record, 200)
    assert split.tokens_of(0)[: len(prompt)] == prompt
    assert not any(split.marks_of(0)[: len(prompt)])


def test_weights_choose_the_turns(tokenizer):
    turns = [("user", "a"), ("assistant", "first", 1), ("user", "b"), ("assistant", "second")]
    assert learnt(encode([talk(*turns)], tokenizer, 200, "refuse"), tokenizer) == "first<|end|>\nsecond<|end|>\n"
    turns[-1] = ("assistant", "second", 0)
    assert learnt(encode([talk(*turns)], tokenizer, 200, "refuse"), tokenizer) == "first<|end|>\n"
    turns[1] = ("assistant", "first")
    with pytest.raises(TrainerError) as caught:
        encode([talk(*turns)], tokenizer, 200, "refuse")
    assert caught.value.code == "data.nothing_left"


def test_all_turns_of_the_assistant_are_those_that_transformers_masks(tokenizer):
    """transformers tells an assistant's tokens by a mark in the template, ours by where a turn begins and ends."""
    from transformers import AutoTokenizer

    other = AutoTokenizer.from_pretrained(tokenizer.name_or_path)
    other.chat_template = (
        "{% for m in messages %}{{ '<|start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
        "{% generation %}{{ m['content'] + '<|end|>\n' }}{% endgeneration %}{% else %}"
        "{{ m['content'] + '<|end|>\n' }}{% endif %}{% endfor %}"
    )
    turns = [("system", "be brief"), ("user", "a"), ("assistant", "first"), ("user", "b"), ("assistant", "second")]
    split = encode([talk(*turns)], tokenizer, 200, "refuse", are_all_learnt=True)
    masked = other.apply_chat_template(
        [{"role": role, "content": content} for role, content in turns],
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    assert split.tokens_of(0) == masked["input_ids"]
    assert split.marks_of(0) == masked["assistant_masks"]
    turns[2] = (*turns[2], 0)
    assert learnt(encode([talk(*turns)], tokenizer, 200, "refuse", are_all_learnt=True), tokenizer) == "second<|end|>\n"


def test_a_spec_that_asks_for_all_turns_learns_more_tokens(bench):
    said = {}
    for turns in ("last", "all"):
        talked = [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "yes"},
            {"role": "user", "content": "b"},
            {"role": "assistant", "content": "no"},
        ]
        bench.seal("train", [{"id": "r", "messages": talked}])
        bench.spec(turns=turns)
        said[turns] = next(each for each in bench.command("validate")[1] if getattr(each, "split", "") == "train")
    assert said["all"].tokens == said["last"].tokens
    assert said["all"].supervised == said["last"].supervised + len("yes") + 2


def test_long_records_are_refused_or_cut_in_the_middle_and_counted(tokenizer):
    long = talk(("user", "begin " + "x" * 300 + " end"), ("assistant", "yes"))
    short = talk(("user", "a"), ("assistant", "b"))
    refused = encode([long, short], tokenizer, 100, "refuse")
    assert (len(refused), refused.refused, refused.truncated) == (1, 1, 0)
    cut = encode([long, short], tokenizer, 100, "truncate")
    assert (len(cut), cut.refused, cut.truncated) == (2, 0, 1)
    assert cut.lengths[0] == 100
    assert cut.truncated_tokens == len(encode([long], tokenizer, 1000, "refuse").tokens_of(0)) - 100
    text = tokenizer.decode(cut.tokens_of(0))
    assert "begin" in text
    assert "end<|end|>\n<|start|>assistant\nyes<|end|>" in text
    assert prompt_tokens(tokenizer, long, 60)[-11:] == prompt_tokens(tokenizer, long, 1000)[-11:]
    assert len(prompt_tokens(tokenizer, long, 60)) == 60


def test_a_template_that_rewrites_earlier_turns_is_refused_for_them(tokenizer):
    kept = tokenizer.chat_template
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] if loop.last else '-' }}|{% endfor %}"
    try:
        turns = [("user", "a"), ("assistant", "first", 1), ("user", "b"), ("assistant", "second")]
        with pytest.raises(TrainerError) as caught:
            encode([talk(*turns)], tokenizer, 200, "refuse")
    finally:
        tokenizer.chat_template = kept
    assert caught.value.code == "model.template"


def test_a_micro_batch_predicts_each_learnt_token_from_the_one_before(tokenizer):
    records = [talk(("user", "one"), ("assistant", "yes")), talk(("user", "another"), ("assistant", "no"))]
    split = encode(records, tokenizer, 200, "refuse")
    batch = micro_batch(split, [1, 0], "cpu")
    assert batch.lengths == [split.lengths[1], split.lengths[0]]
    assert batch.tokens[batch.rows + 1].tolist() == batch.targets.tolist()
    assert tokenizer.decode(batch.targets[batch.owners == 0]) == "no<|end|>\n"
    assert batch.positions.tolist() == [*range(batch.lengths[0]), *range(batch.lengths[1])]


@given(st.lists(st.integers(0, 1), min_size=1, max_size=60).filter(any), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_cutting_keeps_the_length_and_the_answer(marks, room):
    tokens = list(range(len(marks)))
    room = min(room, len(tokens))
    kept, kept_marks = cut_prompt(tokens, marks, room)
    assert len(kept) == len(kept_marks) == room
    assert kept == sorted(set(kept))
    assert any(kept_marks)


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=40),
    st.integers(1, 100),
    st.integers(1, 4),
    st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_every_record_is_seen_once_an_epoch_whatever_the_cut(lengths, budget, epochs, seed):
    schedule = batches.Schedule(lengths, budget, epochs, None, seed)
    again = batches.Schedule(lengths, budget, epochs, None, seed)
    seen = [index for step in range(schedule.steps) for index in schedule.batch(step)]
    assert sorted(seen) == sorted([*range(len(lengths))] * epochs)
    assert schedule.batch(schedule.steps - 1) == again.batch(schedule.steps - 1)
    assert schedule.epoch_at(schedule.steps) == epochs
    sizes = {
        batches.pack: lambda group: sum(lengths[index] for index in group),
        batches.bucket: lambda group: len(group) * max(lengths[index] for index in group),
    }
    for cut, size in sizes.items():
        groups = cut(schedule.batch(0), lengths, budget)
        assert sorted(index for group in groups for index in group) == sorted(schedule.batch(0))
        assert all(size(group) <= budget or len(group) == 1 for group in groups)


TOOLS = {"type": "function", "function": {"name": "dose", "parameters": {"type": "object", "properties": {}}}}
CALL = {"type": "function", "function": {"name": "dose", "arguments": {"drug": "aspirin"}}}
TOOL_TEMPLATE = (
    "{% if tools %}{{ '<|start|>tools\n' + (tools | tojson) + '<|end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|start|>' + m['role'] + (' ' + m['name'] if m['name'] else '') }}"
    "{{ '\n' + m['content'] }}"
    "{% for call in m.tool_calls or [] %}{{ '[' + call.function.name + (call.function.arguments | tojson) + ']' }}"
    "{% endfor %}{{ '<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)


def test_tools_their_calls_and_answers_reach_the_template_in_training_and_at_the_prompt(bench, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", TOOL_TEMPLATE)
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "how much?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL], "weight": 1},
        {"role": "tool", "name": "dose", "tool_call_id": "c1", "content": "100 mg"},
        {"role": "assistant", "content": "100 mg a day"},
    ]
    bench.seal("train", [{"id": "a", "messages": messages, "tools": [TOOLS]}])
    (record,) = read_records(load_spec(bench.spec()).data.train, bench.data_key, "train")
    split = encode([record], tokenizer, 600, "refuse")
    plain = [{key: value for key, value in turn.items() if key != "weight"} for turn in messages]
    whole = tokenizer.apply_chat_template(plain, tools=[TOOLS], tokenize=False)
    assert tokenizer.decode(split.tokens_of(0)) == whole
    assert '"name": "dose"' in whole
    assert learnt(split, tokenizer) == '[dose{"drug": "aspirin"}]<|end|>\n100 mg a day<|end|>\n'
    prompt = tokenizer.decode(prompt_tokens(tokenizer, record, 600))
    assert prompt == tokenizer.apply_chat_template(
        plain[:-1], tools=[TOOLS], tokenize=False, add_generation_prompt=True
    )


def test_calls_as_openai_writes_them_are_not_quoted_twice(bench, tokenizer, monkeypatch):
    """There the arguments are a text and the content is null; templates take an object and put it into JSON."""
    monkeypatch.setattr(tokenizer, "chat_template", TOOL_TEMPLATE)
    call = CALL | {"id": "c1", "function": {"name": "dose", "arguments": '{"drug": "aspirin"}'}}
    turns = [{"role": "user", "content": "how much?"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    bench.seal("train", [{"id": "a", "messages": turns, "tools": [TOOLS]}])
    (record,) = read_records(load_spec(bench.spec()).data.train, bench.data_key, "train")
    assert learnt(encode([record], tokenizer, 600, "refuse"), tokenizer) == '[dose{"drug": "aspirin"}]<|end|>\n'


@pytest.mark.parametrize(
    ("change", "left_out"),
    [
        (("{% if tools %}", "{% if false %}"), "definitions of tools"),
        ((" + (call.function.arguments | tojson)", ""), "calls of tools"),
        (("m['content']", "('' if m['role'] == 'tool' else m['content'])"), "results of tools"),
        (("m.tool_calls or [] %}", "m.tool_calls or [] %}{{ raise_exception('no') }}"), "calls of tools"),
    ],
)
def test_a_template_that_leaves_out_or_refuses_a_part_of_tools_is_told(tokenizer, monkeypatch, change, left_out):
    monkeypatch.setattr(tokenizer, "chat_template", TOOL_TEMPLATE.replace(*change))
    asked, said = Message("user", "how much?"), Message("assistant", "100 mg")
    called = Message("assistant", "", extra={"tool_calls": [CALL]})
    messages = (asked, called, Message("tool", "100 mg", extra={"name": "dose"}), said)
    with pytest.raises(TrainerError, match=left_out) as caught:
        encode([Record("a", messages, tools=(TOOLS,))], tokenizer, 600, "refuse")
    assert caught.value.code == "model.tools"
    assert len(encode([Record("a", (asked, said))], tokenizer, 600, "refuse")) == 1


def test_an_answer_that_calls_is_held_against_what_the_template_writes(tokenizer, monkeypatch):
    """It was held against an empty text, so that a right call scored nothing."""
    monkeypatch.setattr(tokenizer, "chat_template", TOOL_TEMPLATE)
    called = Message("assistant", "", extra={"tool_calls": [CALL]})
    record = Record("a", (Message("user", "how much?"), called), tools=(TOOLS,))
    assert reference_of(tokenizer, record) == '[dose{"drug": "aspirin"}]'


def test_a_record_of_one_turn_is_a_plain_text(tokenizer):
    split = encode([talk(("assistant", "Once upon a time."))], tokenizer, 200, "refuse")
    assert tokenizer.decode(split.tokens_of(0)) == "Once upon a time.<|end|>"
    assert split.supervised_count == len("Once upon a time.")  # all but the first letter; the end is one token
    assert prompt_tokens(tokenizer, talk(("assistant", "Once")), 200) == [tokenizer.eos_token_id]
    with pytest.raises(TrainerError, match="no record"):
        encode([talk(("assistant", "Once", 0))], tokenizer, 200, "refuse")


def test_an_answer_that_nobody_asked_for_is_not_learnt_unless_that_was_said(tokenizer):
    turns = [("assistant", "hello"), ("user", "a"), ("assistant", "b")]
    split = encode([talk(*turns)], tokenizer, 200, "refuse", are_all_learnt=True)
    assert learnt(split, tokenizer) == "b<|end|>\n"
    with pytest.raises(TrainerError) as caught:
        encode([talk(("assistant", "hello", 1), *turns[1:])], tokenizer, 200, "refuse")
    assert caught.value.code == "data.invalid"


def test_a_template_that_asks_for_the_date_gets_the_same_one_every_day(tiny_model, tmp_path):
    dated = tmp_path / "dated"
    shutil.copytree(tiny_model, dated)
    (dated / "chat_template.jinja").write_text("{{ strftime_now('%d %b %Y') }}{{ messages[0]['content'] }}")
    asked = [Message("user", "?")]
    folder = check_folder(dated)
    assert render(load_tokenizer(folder), asked, is_prompt=True) == "26 Jul 2024?"
    other = dated / "chat_template.jinja"
    other.write_text(other.read_text() + " ")  # transformers keeps each text that it compiled
    served = load_tokenizer(check_folder(dated), is_clock_running=True)
    assert render(served, asked, is_prompt=True) == f"{datetime.now(UTC).astimezone():%d %b %Y}? "


def test_what_is_no_record_is_told_by_line_and_split(bench):
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "x"}]
    called = {"role": "assistant", "content": "", "tool_calls": [CALL | {"function": {"arguments": "none"}}]}
    half = [{"role": "user", "content": "half \ud800"}, turns[1]]
    lines = [{"id": "a", "messages": half}, {"id": "a", "messages": [turns[0], called]}]
    bench.seal("train", [b'{"id": "a", "messages": [], "x": ' + b"9" * 5000 + b"}\n", *lines])
    bench.spec()
    code, said = bench.command("validate")
    assert (code, said[-1].code) == (2, "data.invalid")
    for line, word in [(1, "not JSON"), (2, "surrogate"), (3, "arguments must be an object")]:
        assert f"train line {line}: " in said[-1].message
        assert word in said[-1].message
    bench.seal("train", [{"id": "a", "messages": turns}])
    bench.seal("validation", [{"id": "v", "messages": [{"role": "user", "content": "q" * 200}, turns[1]]}])
    bench.spec(max_length=64)
    assert bench.command("validate")[1][-1].message.startswith("validation: no record can be learnt from")


def test_a_chosen_answer_that_calls_a_tool_is_not_compared_as_an_empty_one(bench):
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [CALL]}]
    bench.seal("train", [{"id": "a", "messages": turns, "rejected": "no"}])
    bench.spec(method="dpo")
    code, said = bench.command("validate")
    assert (code, said[-1].code) == (2, "data.invalid")
    assert "not tool_calls" in said[-1].message


def test_records_longer_than_the_model_tells_positions_apart_are_refused_and_prompts_are_cut_to_them(bench):
    turns = [{"role": "user", "content": "q" * 600}, {"role": "assistant", "content": "x"}]
    for name in ("train", "test"):
        bench.seal(name, [{"id": "a", "messages": turns}])
    bench.spec(max_length=4096, too_long="truncate")
    for command in ("validate", "fit", "run"):
        code, said = bench.command(command)
        assert (code, said[-1].code) == (2, "data.long")
        assert "512 positions" in said[-1].message
    bench.spec(max_length=512, too_long="truncate", max_steps=1)
    assert bench.command("run")[0] == 0
    bench.spec(max_length=4096, too_long="truncate", max_steps=1)
    code, said = bench.command("evaluate", "--metric", "exact_match", "--max-new-tokens", "1")
    assert (code, said[-1].shortened) == (0, 1)


def test_tools_of_another_shape_are_named_by_line(bench):
    answer = {"role": "assistant", "content": "x"}
    bench.seal(
        "train",
        [
            {"id": "a", "messages": [answer], "tools": "all"},
            {"id": "a", "messages": [answer | {"tool_calls": ["dose"]}]},
            {"id": "a", "messages": [{"role": "user", "content": "x", "tool_calls": []}, answer]},
            {"id": "a", "messages": [{"role": "tool", "content": "x", "name": 5}, answer]},
        ],
    )
    bench.spec()
    code, said = bench.command("validate")
    assert (code, said[-1].code) == (2, "data.invalid")
    assert [f"train line {number}" in said[-1].message for number in range(1, 6)] == [True] * 4 + [False]
