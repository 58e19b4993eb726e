"""The Merkle tree of RFC 6962: hashes, roots, proofs and their verification.

Guarantees that a proof verifies only if the leaf lies at that index (inclusion), or only if the older tree is a prefix
of the newer (consistency), as far as SHA-256 has no collisions. It does not say whether a root is the right one: a
signed checkpoint does.

A *node* is named by ``(level, index)``: the hash over leaves ``index * 2**level`` up to ``(index + 1) * 2**level``,
all of them present. Such nodes never change, so a database keeps them and answers any proof with O(log n) of them.

Example::

    tree = CompactRange()
    for body in bodies:
        for level, index, value in tree.append(leaf_hash(body)):
            nodes[level, index] = value
    proof = inclusion_proof(7, tree.size, lambda level, index: nodes[level, index])
    verify_inclusion(leaf_hash(bodies[7]), 7, tree.size, proof, tree.root())

Source: RFC 6962 section 2.1; verification as in RFC 9162 sections 2.1.3.2 and 2.1.4.2.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence

HASH_BYTES = 32
#: Hash of the tree without leaves. Source: RFC 6962 section 2.1.
EMPTY_ROOT = hashlib.sha256().digest()

GetNode = Callable[[int, int], bytes]


class ProofError(ValueError):
    """A proof does not lead to the root it should lead to."""


def leaf_hash(data: bytes) -> bytes:
    """Hash of a leaf, 32 bytes: SHA-256 of 0x00 and the data."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node, 32 bytes: SHA-256 of 0x01 and its two children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class CompactRange:
    """A growing tree of which only the right edge is kept: at most one hash for every bit of its size.

    Persist ``size`` and ``hashes`` and give both to the constructor to go on later.

    Attributes:
        size: number of leaves.
        hashes: roots of the complete subtrees, the largest (leftmost) first.
    """

    __slots__ = ("hashes", "size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        """Goes on from a persisted state.

        Raises:
            ValueError: the number or the length of the hashes does not fit the size.
        """
        self.size = size
        self.hashes = list(hashes)
        if size < 0 or len(self.hashes) != size.bit_count() or any(len(h) != HASH_BYTES for h in self.hashes):
            raise ValueError(f"a tree of {size} leaves is not kept in these {len(self.hashes)} hashes")

    def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Adds a leaf hash; returns the nodes (level, index, hash) that became complete, the leaf first."""
        index = self.size
        completed = [(0, index, leaf)]
        self.size += 1
        level, value = 0, leaf
        while index & 1:
            level, index = level + 1, index >> 1
            value = node_hash(self.hashes.pop(), value)
            completed.append((level, index, value))
        self.hashes.append(value)
        return completed

    def root(self) -> bytes:
        """Root hash of the tree as it is now, 32 bytes."""
        return _fold(self.hashes) if self.hashes else EMPTY_ROOT


def tree_root(leaves: Iterable[bytes]) -> bytes:
    """Root over leaf hashes, in order."""
    tree = CompactRange()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()


def inclusion_proof(index: int, size: int, get_node: GetNode) -> list[bytes]:
    """Proof that the leaf at ``index`` lies in the tree of ``size`` leaves: at most one hash for every level.

    Raises:
        ValueError: not ``0 <= index < size``.
        Whatever ``get_node`` raises for a node that it should have.
    """
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    return _path(index, 0, size, get_node)


def consistency_proof(old_size: int, new_size: int, get_node: GetNode) -> list[bytes]:
    """Proof that the tree of ``old_size`` leaves is the beginning of that of ``new_size``; empty where trivial.

    Raises:
        ValueError: not ``0 <= old_size <= new_size``.
        Whatever ``get_node`` raises for a node that it should have.
    """
    if not 0 <= old_size <= new_size:
        raise ValueError(f"a tree of {old_size} is not the beginning of one of {new_size}")
    if old_size in (0, new_size):
        return []
    # The old tree's last complete subtree is the seed; where that is the whole old tree, its root is known already.
    level = _trailing_zeros(old_size)
    seed = (old_size >> level) - 1
    start = [] if seed == 0 else [get_node(level, seed)]
    return start + _path(seed, level, new_size, get_node)


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Checks an inclusion proof.

    Raises:
        ProofError: the leaf hash is not at ``index`` of the tree with this size and root.
    """
    if not 0 <= index < size:
        raise ProofError(f"no leaf {index} in a tree of {size}")
    inner, border = _shape(index, size)
    if len(proof) != inner + border:
        raise ProofError(f"the proof has {len(proof)} hashes, {inner + border} are needed")
    value = _climb(leaf, index, proof[:inner])
    for left in proof[inner:]:
        value = node_hash(left, value)
    if value != root:
        raise ProofError("the proof leads to another root")


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Checks a consistency proof.

    Raises:
        ProofError: the old tree is not shown to be the beginning of the new one.
    """
    if not 0 <= old_size <= new_size:
        raise ProofError(f"a tree of {old_size} is not the beginning of one of {new_size}")
    if old_size in (0, new_size):
        if proof:
            raise ProofError("a trivial proof has no hashes")
        if old_root != (EMPTY_ROOT if old_size == 0 else new_root):
            raise ProofError("two different trees of one size")
        return
    level = _trailing_zeros(old_size)
    seed_index = (old_size >> level) - 1
    path = list(proof)
    seed = old_root if seed_index == 0 else (path.pop(0) if path else b"")
    inner, border = _shape(old_size - 1, new_size)
    inner -= level
    if len(path) != inner + border or len(seed) != HASH_BYTES:
        raise ProofError("the proof has a wrong number of hashes")
    old, new = seed, seed
    for height, sibling in enumerate(path[:inner]):
        if seed_index >> height & 1:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
        else:
            new = node_hash(new, sibling)
    for left in path[inner:]:
        old, new = node_hash(left, old), node_hash(left, new)
    if old != old_root:
        raise ProofError("the proof does not lead to the old root")
    if new != new_root:
        raise ProofError("the proof does not lead to the new root")


def _path(index: int, level: int, size: int, get_node: GetNode) -> list[bytes]:
    """Siblings from the node (level, index) up to the root of the tree of ``size`` leaves."""
    path = []
    while (index ^ 1) << level < size or index > 0:
        sibling = index ^ 1
        if sibling << level < size:
            path.append(_node(level, sibling, size, get_node))
        level, index = level + 1, index >> 1
    return path


def _node(level: int, index: int, size: int, get_node: GetNode) -> bytes:
    """Hash over the leaves of a node as far as the tree of ``size`` has them; on its right edge it is not complete."""
    first, end = index << level, min((index + 1) << level, size)
    parts = []
    while first < end:
        part = min((end - first).bit_length() - 1, level)
        parts.append(get_node(part, first >> part))
        first += 1 << part
    return _fold(parts)


def _fold(parts: Sequence[bytes]) -> bytes:
    """Joins neighbouring subtrees, the largest first, from the right."""
    value = parts[-1]
    for left in reversed(parts[:-1]):
        value = node_hash(left, value)
    return value


def _climb(value: bytes, index: int, siblings: Sequence[bytes]) -> bytes:
    for height, sibling in enumerate(siblings):
        value = node_hash(sibling, value) if index >> height & 1 else node_hash(value, sibling)
    return value


def _shape(index: int, size: int) -> tuple[int, int]:
    """Length of a path below and on the right edge of the tree: first siblings on both sides, then only left ones."""
    inner = (index ^ (size - 1)).bit_length()
    return inner, (index >> inner).bit_count()


def _trailing_zeros(value: int) -> int:
    return (value & -value).bit_length() - 1
