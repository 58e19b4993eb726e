"""What a run is told that will teach less than was meant."""

import random

import pytest

from trainers import events


def advised(bench, kit):
    code, said = bench.command("run")
    assert code == 0, said[-1]
    return {each.code: each for each in kit.of(events.RunAdvised, said)}


def test_a_sound_run_is_told_nothing(bench, kit):
    bench.spec(epochs=2, optimiser={"learning_rate": 0.01, "warmup_steps": 2})
    assert advised(bench, kit) == {}


def test_a_warm_up_as_long_as_the_run_and_steps_beyond_the_data_are_told(bench, kit):
    bench.spec(max_steps=500, optimiser={"learning_rate": 0.01, "warmup_steps": 100})
    found = advised(bench, kit)
    assert set(found) == {"warmup.long", "steps.fewer"}
    assert "100" in found["warmup.long"].message
    assert "500" in found["steps.fewer"].message


@pytest.mark.parametrize("method", ["dpo", "orpo"])
def test_pairs_of_equal_answers_are_counted(method, bench, kit):
    for name, count, seed in (("train", 12, 1), ("validation", 6, 2)):
        made = kit.records(count, seed=seed, name=name[0])
        other = random.Random(seed)
        bench.seal(
            name,
            [
                each | {"rejected": each["messages"][1]["content"] if index < 3 else f"no{other.randrange(9)}"}
                for index, each in enumerate(made)
            ],
        )
    bench.spec(method=method, max_steps=1)
    said = advised(bench, kit)["pairs.equal"]
    assert said.message.startswith("3 of 12 ")
    assert kit.secret not in said.message


@pytest.mark.parametrize("verdict", [True, False])
def test_verdicts_of_one_kind_only_are_told(verdict, bench, kit):
    for name, count, seed in (("train", 12, 1), ("validation", 6, 2)):
        made = kit.records(count, seed=seed, name=name[0])
        bench.seal(name, [each | {"label": verdict} for each in made])
    bench.spec(method="kto", max_steps=1)
    assert ("good" if verdict else "bad") in advised(bench, kit)["verdicts.alike"].message


@pytest.mark.parametrize(("tokens", "hint"), [(480, "prompt.tokens to at most"), (600, "prompt.tokens to at most")])
def test_a_soft_prompt_that_leaves_too_little_room_is_what_is_to_be_made_shorter(tokens, hint, bench):
    bench.spec(way="prompt", prompt={"tokens": tokens})
    code, said = bench.command("run")
    assert (code, said[-1].code) == (2, "data.long")
    assert hint in said[-1].hint
    room = int(said[-1].hint.split()[-1])
    bench.spec(way="prompt", prompt={"tokens": room}, max_steps=1)
    assert bench.command("run")[0] == 0
