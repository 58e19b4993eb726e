"""Base and tuned are scored on the same prompts; texts leave sealed only."""

import json
import math

import pytest
import torch

from trainers import events
from trainers.generation import answer_all, answer_group


@pytest.fixture
def trained(bench):
    bench.spec(epochs=8)
    assert bench.command("run")[0] == 0
    return bench


def test_scores_leave_by_event_and_texts_only_sealed(trained, kit):
    code, said = trained.command("evaluate", "--metric", "exact_match", "--max-new-tokens", "6")
    assert code == 0, said[-1]
    end = said[-1]
    assert end.ids == [f"t{index}" for index in range(8)]
    assert len(end.base_scores) == len(end.tuned_scores) == 8
    assert end.tuned_loss < end.base_loss
    assert {event.model for event in kit.of(events.EvaluateProgress, said)} == {"base", "tuned"}
    assert kit.files_holding(trained.out, b"reference") == []
    lines = [json.loads(line) for line in trained.opened("predictions.sealed", "predictions").splitlines()]
    assert [line["id"] for line in lines] == end.ids
    assert set(lines[0]) == {"id", "reference", "base", "tuned", "base_score", "tuned_score"}
    assert lines[0]["reference"] in ("yes", "no")
    again = trained.command("evaluate", "--metric", "exact_match", "--max-new-tokens", "6", "--limit", "3")[1][-1]
    assert again.tuned_scores == end.tuned_scores[:3]


def test_prompts_that_were_cut_before_they_were_answered_are_counted(bench, kit):
    records = kit.records(8, seed=3, name="t")
    for record in records[:3]:
        record["messages"][0]["content"] += "y" * 200
    bench.seal("test", records)
    bench.spec(max_length=150)
    assert bench.command("run")[0] == 0
    end = bench.command("evaluate", "--metric", "exact_match", "--max-new-tokens", "2")[1][-1]
    assert (end.shortened, end.refused) == (3, 3)
    assert len(end.tuned_scores) == 8


def test_a_free_answer_gets_the_room_of_the_longest_reference_and_is_counted_where_it_does_not_end(trained, kit):
    ask = ("evaluate", "--metric", "rouge_l", "--max-new-tokens", "50", "--free")
    end = trained.command(*ask)[1][-1]
    longest = max(len(each) for each in ("yes", "no"))
    assert 1 < end.room <= math.ceil(1.25 * longest)
    assert (end.outgrown, end.base_unended) == (0, 8)  # the base was never taught to end
    assert 0 <= end.tuned_unended <= 8
    assert len(end.base_likelihoods) == len(end.tuned_likelihoods) == 8
    assert end.likelihood_ids == end.ids
    gained = [after - before for before, after in zip(end.base_likelihoods, end.tuned_likelihoods, strict=True)]
    assert sum(gained) > 0
    assert max(end.tuned_likelihoods) < 0
    short = trained.command("evaluate", "--metric", "rouge_l", "--max-new-tokens", "1", "--free")[1][-1]
    assert (short.room, short.outgrown) == (1, 8)
    closed = trained.command("evaluate", "--metric", "rouge_l", "--max-new-tokens", "7")[1][-1]
    assert (closed.room, closed.base_likelihoods) == (7, [])


def too_long(records):
    for record in records:
        record["messages"][0]["content"] += "y" * 200
    return records


def test_where_the_first_references_are_all_too_long_the_loss_is_of_the_next(bench, kit):
    records = kit.records(36, seed=3, name="t")
    too_long(records[:34])
    bench.seal("test", records)
    bench.spec(max_length=150, max_steps=1)
    assert bench.command("run")[0] == 0
    ask = ("evaluate", "--metric", "exact_match", "--max-new-tokens", "1")
    end = bench.command(*ask)[1][-1]
    assert isinstance(end, events.EvaluateFinished), end
    assert (len(end.tuned_scores), end.shortened, end.refused) == (36, 34, 34)
    bench.seal("test", records[34:])
    bench.spec(max_length=150, max_steps=1)
    alone = bench.command(*ask)[1][-1]
    assert (end.base_loss, end.tuned_loss) == pytest.approx((alone.base_loss, alone.tuned_loss), rel=1e-5)


def test_a_test_shard_of_which_every_record_is_too_long_is_named_before_anything_is_answered(bench, kit):
    bench.seal("test", too_long(kit.records(34, seed=3, name="t")))
    bench.spec(max_length=150, max_steps=1)
    assert bench.command("run")[0] == 0
    code, said = bench.command("evaluate", "--metric", "exact_match", "--max-new-tokens", "1")
    assert (code, said[-1].code) == (2, "data.nothing_left")
    assert "none of the 34 test records" in said[-1].message
    assert kit.of(events.EvaluateProgress, said) == []


def test_evaluation_wants_an_adapter_a_test_shard_and_a_known_metric(bench):
    bench.spec()
    assert bench.command("evaluate", "--metric", "charm")[1][-1].code == "evaluate.metric"
    assert bench.command("evaluate", "--metric", "exact_match")[1][-1].code == "output.unreadable"
    del bench.shards["test"]
    bench.spec()
    assert bench.command("evaluate", "--metric", "exact_match")[1][-1].code == "spec.test"


def test_padded_answers_equal_those_of_each_prompt_alone(tiny_model):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    prompts = [[5, 9, 30], [7] * 12, [40, 41]]
    together = answer_group(model, prompts, {1}, 5)
    assert together == [answer_group(model, [each], {1}, 5)[0] for each in prompts]
    found = {}
    for indices, answers in answer_all(model, prompts, {1}, 5):
        found.update(zip(indices, answers, strict=True))
    assert [found[index] for index in range(3)] == together
    assert answer_group(model, prompts[:1], {together[0][0]}, 5) == [[]]
