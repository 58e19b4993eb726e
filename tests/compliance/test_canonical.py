import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance.canonical import MAX_DEPTH, MAX_INTEGER, CanonicalError, canonical_json, sha256_digest

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4))


@settings(deadline=None)
@given(values)
def test_agrees_with_the_reference_implementation(value):
    assert canonical_json(value) == rfc8785.dumps(value)


def test_keys_are_ordered_by_utf16_not_by_code_point():
    # U+1F600 begins with the surrogate D83D, which is below U+FB33 although the code point is above.
    assert canonical_json({"\ufb33": 1, "\U0001f600": 2}) == '{"\U0001f600":2,"\ufb33":1}'.encode()


@pytest.mark.parametrize(
    "value",
    [1.0, float("nan"), 2**53, -(2**53), {1: 2}, b"x", {"a": {"b": {1, 2}}}, "\ud800", {"\udfff": 1}, object()],
    ids=["float", "nan", "large", "small", "key", "bytes", "set", "surrogate", "surrogate-key", "object"],
)
def test_what_has_no_canonical_form_is_refused(value):
    with pytest.raises(CanonicalError):
        canonical_json(value)


def test_deep_nesting_is_refused_before_the_stack_ends():
    value = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(CanonicalError, match=str(MAX_DEPTH)):
        canonical_json(value)


def test_an_error_does_not_quote_the_value():
    with pytest.raises(CanonicalError) as caught:
        canonical_json({"name": "Jane Roe\ud800"})
    assert "Jane" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_digest_of_nothing_is_the_published_one():
    assert sha256_digest(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
