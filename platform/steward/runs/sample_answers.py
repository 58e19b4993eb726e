"""What a model in training answered to a few held-out prompts, evaluation by evaluation, beside what was expected.

Guarantees that prompt and reference are read from the dataset version as it may be read now: where a record is gone
(its person was erased, or it was withheld), so are all answers to it. Callers are actions.

Example:
    >>> found = sample_answers(fine_tune)
    >>> [answer.text for answer in found.asked[0].answers]  # oldest first, as found.steps
    ['I am a helpful assistant', 'ALLERGY']
"""

from collections import defaultdict
from dataclasses import dataclass, replace

from steward.datasets.labelled_spans import in_words
from steward.datasets.reading import RecordReader
from steward.runs.methods import Output
from steward.runs.models import FineTune
from steward.runs.sealed_outputs import answer_lines, answers_of
from steward.runs.shards import exchange_of, workflow_for


@dataclass(frozen=True, slots=True)
class Step:
    """One evaluation: the step it came after, and the mean score by `metric`, None where nothing is scored."""

    step: int
    metric: str
    score: float | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered after a step, its score (0 to 1), and whether it had not ended when its room had."""

    step: int
    text: str
    score: float | None
    is_cut: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt: the record's ordinal, what the model is asked, what is expected, and its answers, oldest first."""

    record_id: str
    prompt: str
    reference: str
    answers: list[Answer]


@dataclass(frozen=True, slots=True)
class SampleAnswers:
    """All of a run, oldest step first. `hidden` prompts were answered but may not be read any more."""

    steps: list[Step]
    asked: list[Asked]
    hidden: int


def sample_answers(fine_tune: FineTune) -> SampleAnswers:
    """The answers of a run so far.

    Raises:
        VaultError, OSError: a file is not what the trainer wrote, or is gone.
    """
    steps, given = [], defaultdict(list)
    for facts in answers_of(fine_tune):
        steps.append(Step(facts["step"], facts["metric"], facts["score"]))
        for record_id, *answer in answer_lines(fine_tune, facts):
            given[record_id].append(Answer(facts["step"], *answer))
    readable = _exchanges(fine_tune, list(given))
    asked = [Asked(each, *readable[each], answers) for each, answers in given.items() if each in readable]
    hidden = len(given) - len(asked)
    if fine_tune.method.output is Output.SPANS:
        asked = [_in_words(each) for each in asked]
    return SampleAnswers(steps, asked, hidden)


def _exchanges(fine_tune: FineTune, record_ids: list[str]) -> dict[str, tuple[str, str]]:
    """By record, its last question and the answer expected, of records that may be read now."""
    version = fine_tune.dataset_version
    assert version.redaction is not None
    workflow = workflow_for(fine_tune.workspace.domain, fine_tune.workflow)
    reader, found = RecordReader(version), {}
    ordinals = [int(each) for each in record_ids]
    for record in reader.redacted(version.redaction, ordinals=ordinals, is_for_training=True):
        found[str(record.ordinal)] = exchange_of(record.payload, workflow)
    return found


def _in_words(asked: Asked) -> Asked:
    """The same with spans as their words instead of their places."""
    answers = [replace(each, text=in_words(each.text, asked.prompt)) for each in asked.answers]
    return replace(asked, reference=in_words(asked.reference, asked.prompt), answers=answers)
