"""Whether a dataset version's records are what a method learns from, told before anything is queued.

Guarantees that what passes here has every field that its shards need. Reads the records themselves only for labels.

Example:
    >>> parts_from_data(version, workflow, METHODS["dpo"])
    {}
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from domains.workflows import Workflow
from steward.audit.actor import Refused
from steward.catalog.models import BaseModel
from steward.datasets.models import DatasetVersion
from steward.datasets.shapes import JUDGED_SHAPES, LABELLED_SHAPES, PREFERENCE_SHAPES, SPAN_SHAPES
from steward.runs.label_counts import kept_labels
from steward.runs.methods import METHODS, Method, Records
from steward.runs.recipes import workflow_of
from steward.runs.shards import workflow_for
from trainers.model_folder import template_words

# What each kind of records is called in a refusal, and what has to be done to have them.
_WANTED = {
    Records.ANSWERS: "answers to learn. It would learn bad answers too, and a text with spans has none. Choose the "
    "method that these records were made for",
    Records.PAIRS: "a chosen and a rejected answer to each prompt. Import records with prompt, chosen and rejected, or "
    "choose a workflow whose mapping has a rejected answer",
    Records.JUDGED: "an answer to each prompt and whether it is a good one. Import records with prompt, completion and "
    "label (true or false)",
    Records.SPANS: "texts with labelled stretches. Import records with text and spans (start, end, label)",
    Records.LABELS: "a text and its label. Import records with text and label, or choose a workflow with a closed list "
    "of labels",
}


def parts_from_data(version: DatasetVersion, workflow: Workflow, method: Method) -> dict[str, Any]:
    """The parts of a recipe that the data decide: of classifiers their labels.

    Raises:
        Refused: as `check_shape`, or labels that may not be used (see `labels`).
    """
    check_shape(version, workflow, method)
    return _PARTS[method.records](version, workflow)


def check_shape(version: DatasetVersion, workflow: Workflow, method: Method) -> None:
    """What can be told without opening a record.

    Raises:
        Refused: the version was not imported with what the workflow and the method need.
    """
    _check_fields(version, workflow)
    if not _FITS[method.records](version, workflow):
        raise Refused(
            f"The method “{method.title}” needs {_WANTED[method.records]}. {version} was imported as "
            f"{str(version.mapping['shape']).replace('_', ' ')}.",
            code="records_unfit",
            subject=version,
        )


def check_tools(version: DatasetVersion, base_model: BaseModel) -> None:
    """Refuses records with tools for a model whose chat template knows none: they would be learnt without them.

    Looks for the word alone; the trainer renders some and looks whether all of it comes out, before it trains.

    Raises:
        Refused: the template writes no calls.
    """
    if version.has_tools and "tool_calls" not in template_words(Path(base_model.path)):
        raise Refused(
            f"Records of {version} call tools or name some, and the chat template of {base_model} writes none: they "
            "would be lost. Choose a base model whose template does, such as those of Qwen 2.5 and Llama 3.1; an "
            "officer or an administrator brings one in under Models, Base models.",
            code="template_without_tools",
            subject=version,
        )


def usual_method(version: DatasetVersion, workflow: Workflow) -> Method:
    """The workflow's own method, or where the records are none of its own, the first that they are made for."""
    own = METHODS[workflow.recipe.method]
    return next((each for each in (own, *METHODS.values()) if _FITS[each.records](version, workflow)), own)


def count_labels(version: DatasetVersion) -> None:
    """Has the labels counted that a fine-tune by the dataset's own workflow will ask for, where there are any."""
    domain = version.workspace.domain
    workflow = workflow_for(domain, workflow_of(domain, version.dataset.workflow))
    for method in METHODS.values():
        if method.is_classifier:
            # Whoever asks for such a fine-tune is told what is wrong with the records; here it only means: none.
            with suppress(Refused):
                parts_from_data(version, workflow, method)


def _check_fields(version: DatasetVersion, workflow: Workflow) -> None:
    """A version that was imported for a workflow must have every field of the one it is trained with."""
    if version.mapping["shape"] != "workflow":
        return
    if not workflow.reads_fields:
        raise Refused(
            f"The workflow “{workflow.title}” is for records that are conversations already; {version} was imported "
            "with fields. Choose the dataset's own workflow.",
            code="field_unmapped",
            subject=version,
        )
    missing = sorted(set(workflow.mapping.fields) - set(version.mapping["fields"]))
    if missing:
        raise Refused(
            f"The workflow “{workflow.title}” needs the fields {', '.join(missing)}, which {version} was imported "
            "without. Choose the dataset's own workflow, or import the file into a dataset of this one.",
            code="field_unmapped",
            subject=version,
        )


def _has_answers(version: DatasetVersion, workflow: Workflow) -> bool:
    return version.mapping["shape"] not in (*JUDGED_SHAPES, *SPAN_SHAPES)


def _has_pairs(version: DatasetVersion, workflow: Workflow) -> bool:
    shape = version.mapping["shape"]
    return shape in PREFERENCE_SHAPES or (shape == "workflow" and bool(workflow.mapping.rejected))


def _has_labels(version: DatasetVersion, workflow: Workflow) -> bool:
    shape = version.mapping["shape"]
    return shape in LABELLED_SHAPES or (shape == "workflow" and workflow.label_schema is not None)


def _has_judgements(version: DatasetVersion, workflow: Workflow) -> bool:
    return version.mapping["shape"] in JUDGED_SHAPES


def _has_spans(version: DatasetVersion, workflow: Workflow) -> bool:
    return version.mapping["shape"] in SPAN_SHAPES


def _nothing(version: DatasetVersion, workflow: Workflow) -> dict[str, Any]:
    return {}


def _labels(version: DatasetVersion, workflow: Workflow) -> dict[str, Any]:
    return {"classification": {"labels": list(kept_labels(version, workflow, Records.LABELS))}}


def _span_labels(version: DatasetVersion, workflow: Workflow) -> dict[str, Any]:
    return {"classification": {"labels": list(kept_labels(version, workflow, Records.SPANS))}}


_Fits = Callable[[DatasetVersion, Workflow], bool]
_FITS: dict[Records, _Fits] = {
    Records.ANSWERS: _has_answers,
    Records.PAIRS: _has_pairs,
    Records.JUDGED: _has_judgements,
    Records.LABELS: _has_labels,
    Records.SPANS: _has_spans,
}
_PARTS: dict[Records, Callable[[DatasetVersion, Workflow], dict[str, Any]]] = {
    Records.ANSWERS: _nothing,
    Records.PAIRS: _nothing,
    Records.JUDGED: _nothing,
    Records.LABELS: _labels,
    Records.SPANS: _span_labels,
}
