"""Singling out, against pycanon 1.3.6 on the same table, and at the edges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.redaction.reidentification import MAX_RISK, SMALL_CELL, singling_out

DIAGNOSES = ("flu", "asthma", "gout", "cold")
TABLE = [
    {
        "age": str(30 + 10 * (i * 7 % 4)),
        "sex": "MF"[i * 3 % 2],
        "ward": "abc"[i % 3],
        "dx": DIAGNOSES[i * i % 4 if i % 5 else 1],
    }
    for i in range(97)
]


@pytest.mark.parametrize(
    ("columns", "k", "l", "max_risk"),
    # Source: pycanon 1.3.6 (k_anonymity, l_diversity, max_rir) on this table, with pandas 3.1.1. pycanon itself is no
    # dependency: it pins numpy, pandas and five more to versions that are not ours.
    [
        (("age", "sex"), 24, 1, 0.041666666666666664),
        (("age", "sex", "ward"), 8, 1, 0.125),
        (("ward",), 32, 2, 0.03125),
    ],
)
def test_k_l_and_maximum_risk_are_those_of_pycanon(
    columns: tuple[str, ...],
    k: int,
    l: int,  # noqa: E741
    max_risk: float,
) -> None:
    found = singling_out((tuple(row[name] for name in columns), row["dx"]) for row in TABLE)
    assert (found.k, found.l, found.records) == (k, l, 97)
    assert found.max_risk == pytest.approx(max_risk)


def test_small_cells_are_those_of_fewer_than_eleven() -> None:
    rows = [(("a",), "x")] * 11 + [(("b",), "x")] * 10 + [(("c",), "y")]
    found = singling_out(rows)
    assert (found.small_cells, found.records_in_small_cells, found.unique) == (2, 11, 1)
    assert (found.average_risk, found.max_risk) == (3 / 22, 1.0)
    assert (SMALL_CELL, round(MAX_RISK, 2)) == (11, 0.09)


def test_blanks_and_case_do_not_make_people_differ_and_columns_do_not_run_together() -> None:
    assert singling_out([((" Ward A",), ""), (("ward a ",), "")]).k == 2
    assert singling_out([(("ab", "c"), ""), (("a", "bc"), "")]).k == 1


def test_nobody_is_nobody() -> None:
    found = singling_out([])
    assert (found.k, found.l, found.max_risk, found.average_risk) == (0, 0, 0.0, 0.0)


@given(st.lists(st.tuples(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), st.sampled_from("mn"))))
def test_more_columns_never_hide_anybody_better(rows: list[tuple[tuple[str, str], str]]) -> None:
    both, one = singling_out(rows), singling_out((quasi[:1], sensitive) for quasi, sensitive in rows)
    assert both.k <= one.k
    assert both.average_risk >= one.average_risk
    assert both.average_risk <= both.max_risk
