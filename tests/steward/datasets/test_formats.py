"""Reading files: every good line comes out, every bad one is named by its number, nothing repeats a value."""

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steward.datasets.formats import MAX_LINE_BYTES, Problems, detect_format, rows


def read(content: bytes, source_format: str = "jsonl") -> tuple[list[tuple[int, dict[str, Any]]], Problems]:
    problems = Problems()
    return list(rows(io.BytesIO(content), source_format, problems)), problems


texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), max_size=40)


@given(st.lists(st.dictionaries(texts, texts, max_size=4), max_size=8))
def test_json_lines_come_back_as_they_were_written(written: list[dict[str, str]]) -> None:
    content = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in written)
    found, problems = read(content)
    assert [row for _, row in found] == written
    assert problems.count == 0


@given(
    st.lists(
        st.lists(
            st.text(
                st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="\x00"), min_size=1, max_size=20
            ),
            min_size=2,
            max_size=2,
        ),
        max_size=6,
    )
)
def test_csv_cells_come_back_as_they_were_written(cells: list[list[str]]) -> None:
    file = io.StringIO()
    csv.writer(file).writerows([["first", "second"], *cells])
    found, problems = read(file.getvalue().encode(), "csv")
    assert [list(row.values()) for _, row in found] == cells
    assert problems.count == 0


@given(st.binary(max_size=300))
def test_no_bytes_whatever_break_the_reader(content: bytes) -> None:
    for source_format in ("jsonl", "csv", "tsv"):
        read(content, source_format)


def test_all_problems_of_a_file_are_reported_with_their_lines_and_without_values() -> None:
    content = b"\n".join(
        [
            b'{"a": "fine"}',
            b'{"a": "secret"',
            b'["secret"]',
            b"secret \xff\xfe",
            b'{"a": "\x00secret"}',
            b'{"a": "\\ud800 secret"}',
            b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            b'{"a": ' + b"9" * 5_000 + b"}",
            b'{"a": "also fine"}',
        ]
    )
    found, problems = read(content)
    assert [line for line, _ in found] == [1, 9]
    assert [(p.line, p.code) for p in problems.kept] == [
        (2, "invalid_json"),
        (3, "not_an_object"),
        (4, "wrong_encoding"),
        (5, "nul_character"),
        (6, "lone_surrogate"),
        (7, "too_deep"),
        (8, "invalid_json"),
    ]
    assert not any("secret" in p.message for p in problems.kept)


def test_a_line_of_many_megabytes_is_skipped_in_bounded_memory() -> None:
    class Endless(io.RawIOBase):
        """Twenty mebibytes without a line break, then one good line; never hands out more than it is asked for."""

        def __init__(self) -> None:
            self.left = 20 << 20
            self.largest = 0
            self.tail = io.BytesIO(b'\n{"a": "fine"}\n')

        def readline(self, size: int | None = -1) -> bytes:
            assert size is not None
            assert size > 0
            self.largest = max(self.largest, size)
            if self.left:
                part = min(size, self.left)
                self.left -= part
                return b"x" * part
            return self.tail.readline(size)

    source = Endless()
    problems = Problems()
    assert [row for _, row in rows(source, "jsonl", problems)] == [{"a": "fine"}]
    assert problems.kept[0].code == "line_too_long"
    assert source.largest <= MAX_LINE_BYTES + 1


def test_wrong_cell_counts_and_doubled_columns_are_named() -> None:
    _, problems = read(b"a,b\n1,2\n3\n4,5,6\n", "csv")
    assert [(p.line, p.code) for p in problems.kept] == [(3, "wrong_cell_count"), (4, "wrong_cell_count")]
    _, problems = read(b"a,a\n1,2\n", "csv")
    assert [(p.column, p.code) for p in problems.kept] == [("a", "duplicate_column")]


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("x.jsonl", b'{"a": 1}', "jsonl"),
        ("x.csv", b"\xef\xbb\xbfa,b\n1,2", "csv"),
        ("x.txt", b"a\tb\n", "tsv"),
        ("x.csv", b"PK\x03\x04....", None),
        ("x.gz", b"\x1f\x8b\x08", None),
        ("x.json", b'[{"a": 1}]', None),
        ("x.pdf", b"%PDF-1.7", None),
    ],
)
def test_the_format_is_told_by_content_first(name: str, head: bytes, expected: str | None) -> None:
    assert detect_format(name, head) == expected
