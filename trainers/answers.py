"""What a model in training answers to a few held-out prompts, looked at again and again, sealed.

Guarantees: the same prompts each time, answered greedily as at evaluation; texts are in ``answers-00000012.sealed``
(that after step 12) only, bound to its step; of the files, ``ANSWERS_KEPT`` stay: the first and the last ones.
Does not: cost nothing; a prompt costs its answer's tokens at each evaluation.

Example:
    >>> answers = Answers(spec, records, tokenizer, stops, out, keys.output_key)
    >>> answers.look(parts, step=12, check=stop.check).score
    0.75
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from domains import metrics
from trainers import batches
from trainers.archive import digest_of
from trainers.classification import Classification
from trainers.encoding import prompt_tokens
from trainers.events import AnswersMeasured
from trainers.forward import ends_batch
from trainers.generation import answer_all
from trainers.sealed import write_sealed
from trainers.shards import Record, context_of
from trainers.spec import ANSWERS_KEPT, TAGGED, Spec
from trainers.token_classification import TokenClassification, read_text

if TYPE_CHECKING:
    from trainers.loop import Parts

_FILE = re.compile(r"answers-[0-9]{8,}\.sealed")


class Answers:
    """The prompts, and where their answers go."""

    def __init__(
        self, spec: Spec, records: list[Record], tokenizer: Any, stops: set[int], out: Path, key: bytes
    ) -> None:
        self._spec, self._records, self._tokenizer = spec, records, tokenizer
        self._stops, self._out, self._key = stops, out, key
        self._prompts = [self._tokens(record) for record in records]

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
        texts = self._texts(parts, check)
        references = [record.messages[-1].content for record in self._records]
        scores: list[float] = []
        lines = []
        for record, prompt, text, reference in zip(self._records, self._prompts, texts, references, strict=True):
            line: dict[str, str | float] = {"id": record.id, "prompt": self._tokenizer.decode(prompt)}
            line |= {"reference": reference, "answer": text}
            if settings.metric is not None:
                scores.append(metrics.score(settings.metric, text, reference))
                line["score"] = scores[-1]
            lines.append(json.dumps(line, ensure_ascii=False))
        content = ("\n".join(lines) + "\n").encode()
        path = self._out / f"answers-{step:08d}.sealed"
        context = context_of(self._spec.output.context, f"answers-{step}")
        written = write_sealed(path, content, self._key, context)
        files = sorted(each for each in self._out.iterdir() if _FILE.fullmatch(each.name))
        for older in files[1 : 1 - ANSWERS_KEPT]:
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

    def _texts(self, parts: Parts, check: Callable[[], None]) -> list[str]:
        adapter, texts = parts.adapter, [""] * len(self._prompts)
        if isinstance(parts.method, TokenClassification):
            asked_of = [record.messages[0].content for record in self._records]
            limits = (self._spec.max_length, parts.device.micro_tokens)
            return parts.method.answers(parts.forward, self._tokenizer, asked_of, *limits, parts.device.name, check)
        if isinstance(parts.method, Classification):
            cut = batches.bucket if parts.forward.name == "bucket" else batches.pack
            lengths = [len(each) for each in self._prompts]
            for piece in cut(list(range(len(lengths))), lengths, parts.device.micro_tokens):
                check()
                batch = ends_batch([self._prompts[index] for index in piece], parts.device.name)
                for index, number in zip(piece, parts.method.said(parts.forward, batch), strict=True):
                    texts[index] = adapter.labels[number]
            return texts
        asked = [[*adapter.prefix, *prompt] for prompt in self._prompts]
        with adapter.computing():
            for group, tokens in answer_all(adapter.base, asked, self._stops, self._spec.answers.max_new_tokens, check):
                for index, text in zip(
                    group, self._tokenizer.batch_decode(tokens, skip_special_tokens=True), strict=True
                ):
                    texts[index] = text
        return texts
