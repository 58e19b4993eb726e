"""What is written in pieces is what safetensors reads, and no piece is large."""

import weakref

import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load

from trainers import tensor_file
from trainers.tensor_file import Later, pieces_of_file

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.uint8]


@given(
    st.dictionaries(
        st.text("abc.", min_size=1, max_size=6),
        st.tuples(st.lists(st.integers(0, 5), min_size=1, max_size=3), st.sampled_from(DTYPES)),
        max_size=5,
    )
)
def test_safetensors_reads_what_the_pieces_make(forms):
    tensors = {name: torch.randn(shape).mul(9).abs().to(dtype) for name, (shape, dtype) in forms.items()}
    content = b"".join(bytes(piece) for piece in pieces_of_file(tensors, {"steward": "x"}))
    found = load(content)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], each) for name, each in tensors.items())


def test_a_large_tensor_leaves_in_small_pieces_and_one_that_is_not_contiguous_in_its_order(monkeypatch):
    monkeypatch.setattr(tensor_file, "PIECE_BYTES", 64)
    turned = torch.arange(300, dtype=torch.float32).view(20, 15).T
    pieces = [bytes(piece) for piece in pieces_of_file({"turned": turned}, {})]
    assert all(len(piece) <= 64 for piece in pieces[1:])
    assert torch.equal(load(b"".join(pieces))["turned"], turned)


def test_of_tensors_that_are_made_when_their_turn_comes_no_two_are_there_at_once():
    made = []

    def make(value):
        assert not [each for each in made if each() is not None]
        tensor = torch.full((4,), float(value))
        made.append(weakref.ref(tensor))
        return tensor

    forms = {f"t{value}": Later(torch.Size((4,)), torch.float32, lambda value=value: make(value)) for value in range(3)}
    written = bytearray()
    for piece in pieces_of_file(forms, {}):
        written += piece
    found = {name: each.tolist() for name, each in load(bytes(written)).items()}
    assert found == {f"t{value}": [float(value)] * 4 for value in range(3)}
