"""What a run did not learn of its records is said in words."""

from steward.runs.left_out import left_out
from steward.runs.models import FineTune


def read(records: int, truncated: int, refused: int) -> dict[str, int]:
    return {"records": records, "truncated": truncated, "refused": refused}


def test_records_that_were_left_out_or_cut_are_told_by_part() -> None:
    facts = {"data_train": read(1200, 0, 34), "data_validation": read(100, 7, 0)}
    assert left_out(FineTune(recipe={"max_length": 1024}, facts=facts)) == [
        "34 of 1,234 train records were left out: longer than 1,024 tokens, or with nothing to learn.",
        "7 of 100 validation records were cut to 1,024 tokens.",
    ]


def test_nothing_is_said_where_all_is_learnt_or_nothing_is_known_yet() -> None:
    assert left_out(FineTune(recipe={"max_length": 256}, facts={"data_train": read(9, 0, 0)})) == []
    assert left_out(FineTune(recipe={"max_length": 256}, facts={})) == []
