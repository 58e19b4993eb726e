"""What a model in training answers to a few held-out prompts, looked at again and again, sealed.

Guarantees: the same prompts each time, answered greedily as at evaluation; texts are in ``answers-00000012.sealed``
(that after step 12) only, bound to its step, and each says whether it was cut for want of room; of the files,
``trainers.spec.ANSWERS_KEPT`` stay: the first and the last ones.
Does not: cost nothing; a prompt costs its answer's tokens at each evaluation.

Example:
    >>> answers = Answers(spec, records, tokenizer, stops, out, keys.output_key)
    >>> answers.look(parts, step=12, check=stop.check).score
    0.75
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from domains import metrics
from trainers import batches
from trainers.archive import digest_of
from trainers.classification import Classification
from trainers.encoding import as_tokens, prompt_tokens
from trainers.events import AnswersMeasured
from trainers.forward import ends_batch
from trainers.generation import ROOM, answer_all
from trainers.references import reference_of
from trainers.sealed import write_sealed
from trainers.shards import Record, context_of
from trainers.spec import SURPLUS_ANSWERS, TAGGED, Spec
from trainers.token_classification import TokenClassification, read_text

if TYPE_CHECKING:
    from trainers.loop import Parts

#: Room that answers have, as far as the spec gives it, though all references are shorter: an untuned model says more.
LEAST_ROOM = 48
_FILE = re.compile(r"answers-[0-9]{8,}\.sealed")


class Answers:
    """The prompts, and where their answers go."""

    def __init__(
        self, spec: Spec, records: list[Record], tokenizer: Any, stops: set[int], out: Path, key: bytes
    ) -> None:
        self._spec, self._records, self._tokenizer = spec, records, tokenizer
        self._stops, self._out, self._key = stops, out, key
        self._prompts = [self._tokens(record) for record in records]
        self._references = [reference_of(tokenizer, record) for record in records]
        longest = max(map(len, as_tokens(tokenizer, self._references)))
        self._room = min(spec.answers.max_new_tokens, max(LEAST_ROOM, math.ceil(ROOM * longest)))

    def _tokens(self, record: Record) -> list[int]:
        if self._spec.method in TAGGED:
            return read_text(self._tokenizer, record.messages[0].content, self._spec.max_length)[0]
        return prompt_tokens(self._tokenizer, record, self._spec.max_length)

    @torch.no_grad()
    def look(self, parts: Parts, step: int, check: Callable[[], None]) -> AnswersMeasured:
        """Lets the model answer as it is, seals the answers and says how they score.

        Args:
            parts: with the model in evaluation mode and the weights that are to answer in place.
            step: for name and binding of the file.
            check: called before each token; what it raises ends the look.

        Raises:
            TrainerError: ``output.unusable``.
        """
        settings = self._spec.answers
        texts, are_cut = self._texts(parts, check)
        scores: list[float] = []
        lines = []
        rows = zip(self._records, self._prompts, self._references, texts, are_cut, strict=True)
        for record, prompt, reference, text, is_cut in rows:
            line: dict[str, str | float] = {"id": record.id, "prompt": self._tokenizer.decode(prompt)}
            line |= {"reference": reference, "answer": text, "is_cut": is_cut}
            if settings.metric is not None:
                scores.append(metrics.score(settings.metric, text, reference))
                line["score"] = scores[-1]
            lines.append(json.dumps(line, ensure_ascii=False))
        content = ("\n".join(lines) + "\n").encode()
        path = self._out / f"answers-{step:08d}.sealed"
        context = context_of(self._spec.output.context, f"answers-{step}")
        written = write_sealed(path, content, self._key, context)
        files = sorted(each for each in self._out.iterdir() if _FILE.fullmatch(each.name))
        for older in files[SURPLUS_ANSWERS]:
            older.unlink()
        return AnswersMeasured(
            run=self._spec.run,
            step=step,
            file=path.name,
            answers=len(lines),
            metric=settings.metric or "",
            score=sum(scores) / len(scores) if scores else float("nan"),
            digest=digest_of(content),
            sealed_digest=written.sealed_digest,
            commitment=written.commitment,
        )

    def _texts(self, parts: Parts, check: Callable[[], None]) -> tuple[list[str], list[bool]]:
        """The answers, and whether each was cut: whether it had not ended when its room had."""
        adapter, texts, are_cut = parts.adapter, [""] * len(self._prompts), [False] * len(self._prompts)
        if isinstance(parts.method, TokenClassification):
            asked_of = [record.messages[0].content for record in self._records]
            limits = (self._spec.max_length, parts.device.micro_tokens)
            found = parts.method.answers(parts.forward, self._tokenizer, asked_of, *limits, parts.device.name, check)
            return found, are_cut
        if isinstance(parts.method, Classification):
            cut = batches.bucket if parts.forward.name == "bucket" else batches.pack
            lengths = [len(each) for each in self._prompts]
            for piece in cut(list(range(len(lengths))), lengths, parts.device.micro_tokens):
                check()
                batch = ends_batch([self._prompts[index] for index in piece], parts.device.name)
                for index, number in zip(piece, parts.method.said(parts.forward, batch), strict=True):
                    texts[index] = adapter.labels[number]
            return texts, are_cut
        asked = [[*adapter.prefix, *prompt] for prompt in self._prompts]
        with adapter.computing():
            for group, tokens in answer_all(adapter.base, asked, self._stops, self._room, check):
                said = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
                for index, text, each in zip(group, said, tokens, strict=True):
                    texts[index], are_cut[index] = text, len(each) >= self._room
        return texts, are_cut
