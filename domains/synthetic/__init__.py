"""Shipped synthetic training sets, made by seeded generators from phrase files that live with the packs.

Guarantees the same records for the same pack, dataset and seed, on every machine; that all records of a subject
belong to one group (`train`, `validation` or `test`); and that records of group `test` use templates that no other
group uses, so that a score on them cannot come from remembering a template. Most records carry
identifiers of a made-up person (`domains.synthetic.people`). Does not resemble any real person's record in more than
form.

Generators are named from `REGISTRY` only:
- `phrases`: a labelled sentence in a frame, or an extraction from it (`domains.synthetic.phrases`)
- `pairs`: a clause and a hypothesis about it (`domains.synthetic.pairs`)
- `tables`: a small table and a question about it (`domains.synthetic.tables`)

Example:
    >>> from domains.packs import load_pack
    >>> record = next(generate(load_pack("healthcare"), "visit_sections", seed=1, count=1))
    >>> sorted(record)
    ['group', 'id', 'label', 'subject', 'template', 'text']
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random

from domains.packs import Pack
from domains.synthetic.casting import cast_subjects
from domains.synthetic.pairs import load_pairs
from domains.synthetic.phrases import load_phrases
from domains.synthetic.planted import planted_identifiers
from domains.synthetic.source import MadeRecord, RecordSource
from domains.synthetic.tables import load_tables

REGISTRY: Mapping[str, Callable[[Path], RecordSource]] = {
    "pairs": load_pairs,
    "phrases": load_phrases,
    "tables": load_tables,
}
"""Generator name to the function that reads a phrase file into a source of records."""


def generate(pack: Pack, dataset_name: str, seed: int, count: int) -> Iterator[dict[str, str]]:
    """Makes the records of a synthetic dataset, one at a time.

    Args:
        pack: the loaded pack.
        dataset_name: a dataset of kind `synthetic`.
        seed: any integer; another seed makes other people and other records.
        count: how many records, at least 1. About 70 % are of group train, 10 % validation, 20 % test.

    Yields:
        `id`, `subject`, `group`, `template` and the dataset's fields, all texts.

    Raises:
        KeyError: no such dataset.
        ValueError: the dataset is not synthetic, or count is below 1.
        PackError: the phrase file is wrong.
    """
    return (record for record, _ in _made(pack, dataset_name, seed, count))


def generate_with_identifiers(
    pack: Pack, dataset_name: str, seed: int, count: int
) -> Iterator[tuple[dict[str, str], list[str]]]:
    """As `generate`, each record with the identifiers that it holds (see `domains.synthetic.planted`).

    A redaction of the record has missed what `planted.still_present` finds of them.
    """
    for record, made in _made(pack, dataset_name, seed, count):
        yield record, planted_identifiers(made.fields.values(), made.slots)


def _made(pack: Pack, dataset_name: str, seed: int, count: int) -> Iterator[tuple[dict[str, str], MadeRecord]]:
    recipe = pack.dataset(dataset_name)
    if recipe.generator is None or recipe.phrases is None:
        raise ValueError(f"{dataset_name} is a public set: it is imported from a file, not generated")
    if count < 1:
        raise ValueError("count must be at least 1")
    records = REGISTRY[recipe.generator](recipe.phrases)
    casting = Random(f"steward:{pack.name}:{dataset_name}:{seed}")  # noqa: S311 - made-up people, not secrets
    for number, (subject, group, person) in enumerate(cast_subjects(casting, count), start=1):
        made = records.make(casting, group, person)
        record = {
            "id": f"{dataset_name}-{seed}-{number:06d}",
            "subject": f"{dataset_name}-{seed}-{subject}",
            "group": group,
            "template": made.template,
            **made.fields,
        }
        yield record, made
