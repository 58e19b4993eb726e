"""What makes a run teach less than was meant though nothing is wrong with it: told once, before its first step.

Guarantees: counts and settings only, no text of a record; equal specs and data are told the same.
Does not: refuse anything; a few equal answers among many, or redaction that made them equal, are no reason to.

Example:
    >>> for said in advice_on(spec, split, steps=12):
    ...     speak(said)
"""

from __future__ import annotations

from collections.abc import Iterator

from trainers.encoding import Split
from trainers.events import RunAdvised
from trainers.spec import Spec


def advice_on(spec: Spec, train: Split, steps: int) -> Iterator[RunAdvised]:
    """What to tell of a run.

    Args:
        spec: as it was asked for.
        train: its training records, as they will be learnt.
        steps: how many it will make.
    """
    warmup = spec.optimiser.warmup_steps
    if warmup is not None and warmup >= steps:
        yield RunAdvised(
            spec.run,
            "warmup.long",
            f"all {steps} steps are warm-up, which takes {warmup}: the rate ends at {steps / max(1, warmup):.1%} of "
            "learning_rate",
            f"set optimiser.warmup_steps below {steps}",
        )
    if spec.max_steps is not None and spec.max_steps > steps:
        yield RunAdvised(
            spec.run,
            "steps.fewer",
            f"the run ends after step {steps}, before max_steps {spec.max_steps}: epochs is {spec.epochs}",
            "raise epochs where more steps are wanted",
        )
    equal = _equal_pairs(train)
    if equal:
        yield RunAdvised(
            spec.run,
            "pairs.equal",
            f"{equal} of {len(train)} training pairs hold the same answer twice, so there is nothing to prefer in them",
            "leave them out, or look whether redaction or max_length made their answers equal",
        )
    good = sum(train.are_good) if train.are_good is not None else 0
    if train.are_good is not None and good in (0, len(train)):
        yield RunAdvised(
            spec.run,
            "verdicts.alike",
            f"all {len(train)} training answers are judged {'good' if good else 'bad'}, and KTO learns by contrast",
            f"add answers that are {'bad' if good else 'good'}, or use another method",
        )


def _equal_pairs(train: Split) -> int:
    other = train.rejected
    if other is None:
        return 0
    return sum(
        train.learnt[index] == other.learnt[index] and train.own_tokens_of(index) == other.own_tokens_of(index)
        for index in range(len(train))
    )
