"""What the student reads: judgments and short texts under new names, made documents, and all the public text there is.

Guarantees: the same arguments give the same lessons; only documents that are handed in, and unlabelled public text, are
read. Does not: need labels for all of it; the encoder's answers are the lesson (see ``distilling``).

Example:
    >>> sum(1 for _ in lessons(Path("data"), courts, short, templates, share=0.01))  # doctest: +SKIP
    1143
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from trainers.tagger.background import public_stretches
from trainers.tagger.documents import Document
from trainers.tagger.noise import disturbed
from trainers.tagger.renaming import renamed
from trainers.tagger.templates import make_documents

COURT_READINGS = 10
SHORT_READINGS = 6
MADE = 20_000
_PUBLIC_CHARS = 650_000
_DISTURBED_SHARE = 0.3
_SEED = 77
_MADE_SEED = 500


def lessons(
    data: Path, courts: Sequence[Document], short: Sequence[Document], templates: dict[str, str], share: float = 1.0
) -> Iterator[Document]:
    """Every document once.

    Args:
        data: folder of the public texts.
        courts: judgments; read ten times, eight of them under new names and six of these with noise.
        short: short texts; read six times, four of them under new names and two of these with noise.
        templates: see ``templates.read_templates``.
        share: how much of all this.

    Raises:
        OSError: a source is missing.
    """
    random = Random(_SEED)  # noqa: S311 - not a secret
    for documents, readings in ((courts, COURT_READINGS), (short, SHORT_READINGS)):
        for reading in range(round(readings * share)):
            for document in documents:
                read = document if reading < 2 else renamed(document, random)
                yield disturbed(read, random) if reading > 3 else read
    yield from make_documents(templates, round(MADE * share), seed=_MADE_SEED) if templates else ()
    for document in public_stretches(data, round(_PUBLIC_CHARS * share), random):
        yield disturbed(document, random) if random.random() < _DISTURBED_SHARE else document
