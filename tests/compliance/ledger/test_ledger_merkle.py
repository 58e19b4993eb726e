"""The tree against published vectors and against RFC 6962's own recursive definition."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance.ledger.merkle import (
    EMPTY_ROOT,
    CompactRange,
    ProofError,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    tree_root,
    verify_consistency,
    verify_inclusion,
)

#: Leaves, roots and proofs of the reference tests of certificate-transparency (RFC 6962's authors).
VECTOR_LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
VECTOR_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
VECTOR_INCLUSION = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
VECTOR_CONSISTENCY = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}

LEAVES = [leaf_hash(number.to_bytes(2, "big")) for number in range(70)]


def defined_root(leaves):
    """MTH of RFC 6962 section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(defined_root(leaves[:split]), defined_root(leaves[split:]))


def defined_path(index, leaves):
    """PATH of RFC 6962 section 2.1.1."""
    if len(leaves) == 1:
        return []
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if index < split:
        return [*defined_path(index, leaves[:split]), defined_root(leaves[split:])]
    return [*defined_path(index - split, leaves[split:]), defined_root(leaves[:split])]


def defined_consistency(old, leaves, is_whole=True):
    """SUBPROOF of RFC 6962 section 2.1.2."""
    if old == len(leaves):
        return [] if is_whole else [defined_root(leaves)]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if old <= split:
        return [*defined_consistency(old, leaves[:split], is_whole), defined_root(leaves[split:])]
    return [*defined_consistency(old - split, leaves[split:], False), defined_root(leaves[:split])]


def stored_nodes(leaves):
    tree, nodes = CompactRange(), {}
    for leaf in leaves:
        for level, index, value in tree.append(leaf):
            assert (level, index) not in nodes
            nodes[level, index] = value
    return nodes


NODES = stored_nodes(LEAVES)
ROOTS = [defined_root(LEAVES[:size]) for size in range(len(LEAVES) + 1)]


def node_of(size):
    """A node store that refuses what a tree of this size cannot have."""

    def get(level, index):
        assert (index + 1) << level <= size
        return NODES[level, index]

    return get


def test_roots_and_proofs_are_the_published_ones():
    leaves = [leaf_hash(data) for data in VECTOR_LEAVES]
    nodes = stored_nodes(leaves)

    def get(level, index):
        return nodes[level, index]

    for size, root in enumerate(VECTOR_ROOTS, 1):
        assert tree_root(leaves[:size]).hex() == root
    for (index, size), proof in VECTOR_INCLUSION.items():
        assert [value.hex() for value in inclusion_proof(index, size, get)] == proof
    for (old, new), proof in VECTOR_CONSISTENCY.items():
        assert [value.hex() for value in consistency_proof(old, new, get)] == proof


def test_every_root_is_that_of_the_definition():
    tree = CompactRange()
    assert tree.root() == EMPTY_ROOT == ROOTS[0]
    for size, leaf in enumerate(LEAVES, 1):
        tree.append(leaf)
        assert tree.root() == ROOTS[size] == tree_root(LEAVES[:size])


def test_every_inclusion_proof_is_that_of_the_definition_and_verifies():
    for size in range(1, len(LEAVES) + 1):
        for index in range(size):
            proof = inclusion_proof(index, size, node_of(size))
            assert proof == defined_path(index, LEAVES[:size])
            verify_inclusion(LEAVES[index], index, size, proof, ROOTS[size])


def test_every_consistency_proof_is_that_of_the_definition_and_verifies():
    for new in range(1, len(LEAVES) + 1):
        for old in range(1, new + 1):
            proof = consistency_proof(old, new, node_of(new))
            assert proof == defined_consistency(old, LEAVES[:new])
            verify_consistency(old, ROOTS[old], new, ROOTS[new], proof)
        assert consistency_proof(0, new, node_of(new)) == []
        verify_consistency(0, ROOTS[0], new, ROOTS[new], [])


def test_a_proof_needs_few_nodes_of_a_large_tree():
    asked = []

    def get(level, index):
        asked.append((level, index))
        return bytes(32)

    size = 10**9 + 7
    inclusion_proof(123_456_789, size, get)
    assert len(asked) < 3 * size.bit_length()
    asked.clear()
    consistency_proof(987_654_321, size, get)
    assert len(asked) < 3 * size.bit_length()


@settings(deadline=None)
@given(st.data())
def test_an_inclusion_proof_holds_for_nothing_else(data):
    size = data.draw(st.integers(1, len(LEAVES)))
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, node_of(size))
    other = data.draw(st.integers(0, size - 1).filter(lambda value: value != index) if size > 1 else st.just(size))
    attempts = [
        (LEAVES[index], other, size, proof, ROOTS[size]),
        (LEAVES[(index + 1) % len(LEAVES)], index, size, proof, ROOTS[size]),
        (LEAVES[index], index, size, proof, ROOTS[size - 1]),
        (LEAVES[index], index, size, [*proof, bytes(32)], ROOTS[size]),
        (LEAVES[index], -1, size, proof, ROOTS[size]),
        (LEAVES[index], size, size, proof, ROOTS[size]),
    ]
    for place in range(len(proof)):
        attempts.append((LEAVES[index], index, size, proof[:place], ROOTS[size]))
        changed = [*proof[:place], node_hash(proof[place], b""), *proof[place + 1 :]]
        attempts.append((LEAVES[index], index, size, changed, ROOTS[size]))
    for attempt in attempts:
        with pytest.raises(ProofError):
            verify_inclusion(*attempt)


@settings(deadline=None)
@given(st.data())
def test_a_consistency_proof_holds_for_nothing_else(data):
    new = data.draw(st.integers(2, len(LEAVES)))
    old = data.draw(st.integers(1, new - 1))
    proof = consistency_proof(old, new, node_of(new))
    attempts = [
        (old, ROOTS[old - 1], new, ROOTS[new], proof),
        (old, ROOTS[old], new, ROOTS[new - 1] if new - 1 != old else ROOTS[0], proof),
        (old, ROOTS[old], new, ROOTS[new], [*proof, bytes(32)]),
        (new, ROOTS[new], old, ROOTS[old], proof),
        (new, ROOTS[old], new, ROOTS[new], []),
        (0, ROOTS[old], new, ROOTS[new], []),
        (0, ROOTS[0], new, ROOTS[new], proof),
    ]
    for place in range(len(proof)):
        attempts.append((old, ROOTS[old], new, ROOTS[new], proof[:place]))
        changed = [*proof[:place], node_hash(proof[place], b""), *proof[place + 1 :]]
        attempts.append((old, ROOTS[old], new, ROOTS[new], changed))
    for attempt in attempts:
        with pytest.raises(ProofError):
            verify_consistency(*attempt)


def test_a_rewritten_leaf_breaks_consistency_whatever_proof_is_made():
    forged = [*LEAVES[:10], leaf_hash(b"forged"), *LEAVES[11:40]]
    nodes = stored_nodes(forged)
    proof = consistency_proof(20, 40, lambda level, index: nodes[level, index])
    with pytest.raises(ProofError):
        verify_consistency(20, ROOTS[20], 40, defined_root(forged), proof)


def test_a_tree_goes_on_from_what_was_kept_of_it():
    for size in range(len(LEAVES)):
        tree = CompactRange()
        for leaf in LEAVES[:size]:
            tree.append(leaf)
        resumed = CompactRange(tree.size, tree.hashes)
        for leaf in LEAVES[size:]:
            resumed.append(leaf)
        assert resumed.root() == ROOTS[-1]


@pytest.mark.parametrize(("size", "hashes"), [(1, []), (3, [bytes(32)]), (1, [bytes(31)]), (0, [bytes(32)]), (-1, [])])
def test_a_tree_does_not_go_on_from_anything_else(size, hashes):
    with pytest.raises(ValueError, match="not kept"):
        CompactRange(size, hashes)


@pytest.mark.parametrize(("index", "size"), [(-1, 5), (5, 5), (0, 0)])
def test_there_is_no_proof_for_a_leaf_that_is_not_there(index, size):
    with pytest.raises(ValueError, match="no leaf"):
        inclusion_proof(index, size, node_of(size))


def test_there_is_no_consistency_with_a_larger_past():
    with pytest.raises(ValueError, match="not the beginning"):
        consistency_proof(6, 5, node_of(5))
