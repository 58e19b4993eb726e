"""Records with tools on their way to a trainer: redacted in every leaf, refused for a model that cannot read them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from steward.audit.actor import Actor, Refused
from steward.catalog.actions import register_base_model
from steward.catalog.folders import inspect_folder
from steward.runs.actions import request_fine_tune
from steward.runs.specs import run_folder
from steward.vault.keys import open_key
from tests.steward.house import House
from tests.steward.runs.paper import dispatched
from tests.steward.tool_talks import PEOPLE, TEMPLATE, bookings, identifiers
from trainers.base_model import load_tokenizer
from trainers.encoding import encode
from trainers.model_folder import check_folder
from trainers.shards import read_records
from trainers.spec import load_spec


@pytest.fixture
def reader_of_tools(tiny_folder: Path, tmp_path: Path, db: None) -> Any:
    """The tiny model with a template that knows tools."""
    folder = shutil.copytree(tiny_folder, tmp_path / "tools")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return register_base_model(
        actor=Actor.system("tests"), name="tools", facts=inspect_folder(folder), licence="Apache-2.0", source="tests"
    )


def test_bookings_reach_the_trainer_whole_and_without_an_identifier(
    house: House, tiny_base: Any, reader_of_tools: Any
) -> None:
    version = house.approved(bookings(9))
    with pytest.raises(Refused, match="chat template of tiny writes none") as refused:
        request_fine_tune(actor=house.analyst, version=version, base_model=tiny_base, name="booking")
    assert refused.value.code == "template_without_tools"

    fine_tune = dispatched(house, version, reader_of_tools)
    shards, key = load_spec(run_folder(fine_tune) / "spec.json").data, open_key(fine_tune.run_key)
    records = [each for name in ("train", "validation") for each in read_records(getattr(shards, name), key, name)]
    planted = [each for number in range(9) for each in identifiers(number)]
    planted += [word for person in (*PEOPLE, "Helen Marchetti") for word in person.split()] + ["617-555-0199"]
    assert records
    for record in records:
        assert not [each for each in planted if each in repr(record)]
        first, second = (record.messages[place].extra["tool_calls"][0]["function"] for place in (2, 4))
        assert first["name"] == record.messages[3].extra["name"] == "find_slots"
        assert first["arguments"]["department"] == "cardiology"
        assert [each["function"]["name"] for each in record.tools] == ["find_slots", "book_visit"]
        assert record.tools[0]["function"]["parameters"]["required"] == ["department"]
        assert list(json.loads(record.messages[3].content)) == ["slots", "for"]
        patient = second["arguments"]["patient"]
        assert [type(second["arguments"]["slot"]), type(patient["is_new"])] == [int, bool]
        assert list(patient) == ["name", "phone", "mrn", "birth_date", "is_new"]
        # One person, one replacement: in what was said, in both calls and in the text of the result.
        assert all(patient["name"] in record.messages[place].content for place in (1, 5, 6))
        assert patient["phone"] == first["arguments"]["patient_phone"]

    tokenizer = load_tokenizer(check_folder(Path(reader_of_tools.path)))
    split = encode(records, tokenizer, 4096, "refuse", are_all_learnt=True)
    read = tokenizer.decode(
        [n for n, is_learnt in zip(split.tokens_of(0), split.marks_of(0), strict=True) if is_learnt]
    )
    assert json.dumps(records[0].messages[4].extra["tool_calls"][0]["function"], ensure_ascii=False) in read
    assert records[0].messages[5].content not in read
