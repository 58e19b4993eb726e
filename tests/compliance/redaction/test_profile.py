"""Profiles are data that fail loudly."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest

from compliance.redaction import ProfileError, available_profiles, load_profile
from compliance.redaction.profile import ENTITY_TYPES, SHIPPED, parse_profile


@pytest.fixture
def data() -> dict[str, Any]:
    return tomllib.loads((SHIPPED / "finance.toml").read_text(encoding="utf-8"))


def test_three_profiles_are_shipped_and_each_gives_a_reason_with_a_citation() -> None:
    assert available_profiles() == ["finance", "healthcare", "legal"]
    for name in available_profiles():
        profile = load_profile(name)
        assert set(profile.entities) <= ENTITY_TYPES
        assert all(policy.reason and policy.citation for policy in profile.entities.values())


def test_healthcare_cites_all_eighteen_letters_that_text_can_hold() -> None:
    letters = {policy.citation[-2] for policy in load_profile("healthcare").entities.values()}
    assert letters == set("ABCDEFGHIJKLMNOPQR")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("extra",), 1, "unknown key 'extra'"),
        (("entities", "CARD", "colour"), "red", "unknown key 'colour'"),
        (("entities", "CARD", "operator"), "shred", "unknown operator"),
        (("entities", "CARD", "threshold"), 1.5, "between 0 and 1"),
        (("entities", "CARD", "threshold"), True, "wrong type"),
        (("entities", "CARD", "reason"), "", "must not be empty"),
        (("entities", "CARD", "options", "speed"), 1, "unknown key 'speed'"),
        (("entities", "SHOE_SIZE"), {"on": True}, "unknown entity type"),
        (("detection", "tager"), True, "unknown key 'tager'"),
        (("entities", "DATE", "options", "window_days"), 0, "window_days"),
        (("entities", "DATE", "options", "day_first"), 1, "day_first"),
        (("entities", "SSN", "options"), {"leave_last": 4}, "could be correlated"),
        (("entities", "CARD", "operator"), "hash", "could be correlated"),
        (("entities", "CARD", "reversible"), "yes", "wrong type"),
        (("entities", "CARD_SECRET", "reversible"), True, "must not be kept"),
        (("entities", "ORGANIZATION", "reversible"), True, "nothing to reverse"),
        (("schema",), "other/9", "schema"),
        (("deny",), {"x": "SHOE_SIZE"}, "deny names"),
        (("pattern",), [{"name": "p", "type": "CARD", "regex": "(", "score": 0.5}], "not a regular expression"),
        (("pattern",), [{"name": "p", "type": "CARD", "regex": "x", "score": 0.5, "check": "magic"}], "unknown check"),
    ],
)
def test_malformed_profiles_are_refused_with_the_place(
    data: dict[str, Any], path: tuple[str, ...], value: object, message: str
) -> None:
    changed = copy.deepcopy(data)
    table = changed
    for key in path[:-1]:
        table = table[key]
    table[path[-1]] = value
    with pytest.raises(ProfileError, match=message):
        parse_profile(changed, "finance.toml")


def test_digest_changes_with_the_policy_and_only_with_it(data: dict[str, Any]) -> None:
    same = parse_profile(copy.deepcopy(data))
    assert same.digest == load_profile("finance").digest
    data["entities"]["CARD"]["threshold"] = 0.51
    assert parse_profile(data).digest != same.digest


def test_a_reversible_type_is_part_of_the_digest_and_its_absence_is_not(data: dict[str, Any]) -> None:
    plain = parse_profile(copy.deepcopy(data))
    data["entities"]["PERSON"]["reversible"] = False
    assert parse_profile(copy.deepcopy(data)).digest == plain.digest
    data["entities"]["PERSON"]["reversible"] = True
    changed = parse_profile(data)
    assert changed.is_reversible
    assert not plain.is_reversible
    assert changed.digest != plain.digest


def test_a_profile_loads_from_a_path_and_a_missing_one_says_so(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text((SHIPPED / "legal.toml").read_text(encoding="utf-8"), encoding="utf-8")
    assert load_profile(path).name == "legal"
    with pytest.raises(ProfileError, match="no profile"):
        load_profile(tmp_path / "absent.toml")
