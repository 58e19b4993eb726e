"""What a run did not learn of its records, in sentences, so that nobody has to look for it in a table.

Guarantees that every record that was left out or cut is counted, as the trainer counted it. Does not know which they
were: a record that is not read has no loss.

Example:
    >>> left_out(fine_tune)
    ['3 of 62 train records were left out: longer than 256 tokens, or with nothing to learn.']
"""

from steward.runs.models import FineTune

PARTS = ("train", "validation")


def left_out(fine_tune: FineTune) -> list[str]:
    """A sentence for each part of the records from which something is missing; none where nothing is."""
    sentences = []
    longest = fine_tune.recipe.get("max_length")
    for part in PARTS:
        counts = fine_tune.facts.get(f"data_{part}", {})
        records, refused, cut = (counts.get(name, 0) for name in ("records", "refused", "truncated"))
        if refused:
            why = f"longer than {longest:,} tokens, or with nothing to learn"
            sentences.append(f"{refused:,} of {records + refused:,} {part} records were left out: {why}.")
        if cut:
            sentences.append(f"{cut:,} of {records:,} {part} records were cut to {longest:,} tokens.")
    return sentences
