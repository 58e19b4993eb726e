"""A base model looked at closely before it is admitted: all that ``trainers.admission`` asks, a talk, and every number.

Guarantees: whatever ``trainers.admission`` does; a conversation, rendered and cut into tokens, comes back as it was,
with no beginning or end doubled; no weight that would be loaded is infinite or NaN. Weights are read as a stream, and
none is loaded. Does not: judge what the model answers.

Example:
    >>> inspect(Path("models/base")).architecture
    'LlamaForCausalLM'
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainers.admission import SAID, check_model, try_tokenizer
from trainers.encoding import PLAIN_TEMPLATE, as_tokens, segments
from trainers.errors import TrainerError
from trainers.model_folder import ModelFolder
from trainers.positions import positions_of
from trainers.shards import Message
from trainers.weight_files import loaded_files, odd_tensors

#: Of tensors that are told of.
MAX_NAMED = 5
_TALK = (
    Message("user", SAID),
    Message("assistant", "It is 19."),
)


@dataclass(frozen=True)
class Inspection:
    """What was found; ``licence`` is what the model's own card says of itself, '' for nothing usable."""

    folder: ModelFolder
    context_length: int
    vocabulary: int
    embedding_rows: int
    has_template: bool
    licence: str
    bytes: int

    @property
    def architecture(self) -> str:
        """The class of transformers."""
        return self.folder.architecture


def inspect(path: Path, digest: str | None = None) -> Inspection:
    """Looks at a folder.

    Raises:
        TrainerError: as ``check_model`` and ``try_tokenizer``; ``model.template``; ``model.numbers``.
    """
    folder, rows = check_model(path, digest)
    tried = try_tokenizer(folder, rows, lambda tokenizer: _said_of(path, tokenizer))
    _refuse_odd_numbers(path)
    return Inspection(
        folder=folder,
        context_length=positions_of(folder.config) or 0,
        vocabulary=tried["vocabulary"],
        embedding_rows=rows,
        has_template=tried["has_template"],
        licence=licence_of(path),
        bytes=sum(each.stat().st_size for each in path.iterdir() if each.is_file()),
    )


def _refuse_odd_numbers(path: Path) -> None:
    odd = [name for file in loaded_files(path) for name in itertools.islice(odd_tensors(file), MAX_NAMED)]
    if odd:
        named = ", ".join(name[:80] for name in odd[:MAX_NAMED])
        raise TrainerError(
            "model.numbers",
            f"{path}: numbers that are infinite or NaN in {named}{' and more' if len(odd) >= MAX_NAMED else ''}",
            "download it again; where the release has them, no run or answer of it would be one",
        )


def _said_of(path: Path, tokenizer: Any) -> dict[str, Any]:
    _check_template(path, tokenizer)
    return {"vocabulary": len(tokenizer), "has_template": tokenizer.chat_template != PLAIN_TEMPLATE}


def _check_template(path: Path, tokenizer: Any) -> None:
    """A talk through the template and back.

    Raises:
        TrainerError: ``model.template``.
    """
    pieces = segments(tokenizer, _TALK)
    text = "".join(piece for piece, _ in pieces)
    read = [token for piece in as_tokens(tokenizer, [text for text, _ in pieces]) for token in piece]
    said = tokenizer.decode(read, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    problems = []
    if said.replace(" ", "") != text.replace(" ", ""):
        problems.append("a conversation does not come back from its tokens as it was")
    if any(message.content not in text for message in _TALK):
        problems.append("the template leaves parts of a message out")
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    if begin is not None and read[:2] == [begin, begin]:
        problems.append("the beginning of text is doubled")
    if any(pair == (end, end) for pair in itertools.pairwise(read)):
        problems.append("the end of text is doubled")
    if problems:
        raise TrainerError("model.template", f"{path}: " + "; ".join(problems), "use the template of the release")


def licence_of(path: Path) -> str:
    """The licence in the card's front matter, where it is one short word. Source: the hub's model card format."""
    card = path / "README.md"
    if not card.is_file():
        return ""
    with card.open("rb") as source:
        text = source.read(1 << 16).decode(errors="replace")
    found = re.match(r"---\n(?:.*\n)*?licen[sc]e:\s*[\"']?([A-Za-z0-9.+-]{1,40})[\"']?\s*\n", text)
    return found.group(1) if found else ""
