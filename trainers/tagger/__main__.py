"""``python -m trainers.tagger --data DIR --out FOLDER``: train the tagger, score it on held-out groups, export it.

``DIR`` holds the labelled sets ``pii/tab-train.gold.jsonl`` and ``pii/presidio-v2.gold.jsonl`` and the public texts of
``trainers.tagger.background``; what is missing of them is told before anything is trained. Without ``--all`` a fifth of
the court cases and templates is held out and scored; with it everything is trained on, by the same settings, for the
shipped weights, and nothing is left to be scored.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import torch
from tokenizers import Tokenizer

from trainers.tagger import distilling
from trainers.tagger.background import SOURCES, background_documents
from trainers.tagger.distilling import answers, distil
from trainers.tagger.documents import Document, read_gold, split_groups
from trainers.tagger.encoding import encode
from trainers.tagger.export import teacher_model, word_table, write_folder
from trainers.tagger.lessons import lessons
from trainers.tagger.network import Network
from trainers.tagger.rampart import installed_folder
from trainers.tagger.scores import predict, score
from trainers.tagger.student import Student, starting_words
from trainers.tagger.templates import make_documents, read_templates
from trainers.tagger.training import Settings, train

_COURTS, _SHORT = "pii/tab-train.gold.jsonl", "pii/presidio-v2.gold.jsonl"
_HELD_SHARE = 0.2
_SPLIT_SEED = 5


def _asked() -> argparse.Namespace:
    """The arguments, once it is sure that what they name is there: training takes long enough to end in a misprint."""
    parser = argparse.ArgumentParser(prog="python -m trainers.tagger", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=3, choices=range(1, 7))
    parser.add_argument("--epochs", type=int, default=Settings.epochs)
    parser.add_argument("--made", type=int, default=5000, help="documents made from templates in each epoch")
    parser.add_argument("--background", type=int, default=500, help="stretches of public text in each epoch")
    parser.add_argument("--courts", type=int, default=2, help="how often each court case is read in an epoch")
    parser.add_argument("--all", action="store_true", help="hold nothing out; for the weights that are shipped")
    parser.add_argument("--teacher", type=Path, help="an encoder kept before, instead of training one")
    parser.add_argument("--keep-teacher", type=Path, help="where the encoder is written, beside the student")
    parser.add_argument("--share", type=float, default=1.0, help="how much of its lessons the student gets")
    parser.add_argument("--pieces", type=int, default=distilling.Settings.pieces, help="how many the student reads")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    missing = [name for name in (_COURTS, _SHORT, *SOURCES) if not (asked.data / name).is_file()]
    if missing:
        parser.error(f"{asked.data} lacks {', '.join(missing)}; compliance/redaction/model/CARD.md names the sets")
    if asked.teacher is not None and not asked.teacher.is_file():
        parser.error(f"there is no encoder at {asked.teacher}")
    if asked.share <= 0 or min(asked.pieces, asked.epochs, asked.threads) < 1:
        parser.error("--share is above 0, and --pieces, --epochs and --threads are at least 1")
    for folder in (asked.out, *([asked.keep_teacher.parent] if asked.keep_teacher else ())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            parser.error(f"nothing can be written to {folder}: {error.strerror}")
    return asked


def main() -> int:
    """Train, score, save; 0 when done."""
    asked = _asked()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(Settings.seed)
    tokenizer = Tokenizer.from_file(str(installed_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()

    courts, held_courts = split_groups(read_gold(asked.data / _COURTS), _HELD_SHARE, _SPLIT_SEED)
    short, held_short = split_groups(read_gold(asked.data / _SHORT), _HELD_SHARE, _SPLIT_SEED)
    names = read_templates()
    made_held = [name for number, name in enumerate(names) if number % 8 == 3]
    held_made = list(make_documents({name: names[name] for name in made_held}, 400, seed=1)) if made_held else []
    if asked.all:
        courts, short = courts + held_courts, short + held_short
    else:
        names = {name: text for name, text in names.items() if name not in made_held}

    def documents(epoch: int) -> Iterable[Document]:
        made = make_documents(names, asked.made, seed=100 + epoch) if names else ()
        clean = background_documents(asked.data, asked.background, seed=200 + epoch) if asked.background else ()
        return chain(*[courts] * asked.courts, short, made, clean)

    def say(line: str) -> None:
        print(line, flush=True)

    if asked.teacher is None:
        network = Network(asked.layers)
        train(network, tokenizer, documents, Settings(epochs=asked.epochs), say)
        teacher = teacher_model(network)
    else:
        teacher = asked.teacher.read_bytes()
    if asked.keep_teacher is not None:
        asked.keep_teacher.write_bytes(teacher)
    torch.manual_seed(Settings.seed)
    passages = [p for d in lessons(asked.data, courts, short, names, asked.share) for p in encode(d, tokenizer)]
    say(f"student: {len(passages)} passages, {sum(len(p.ids) for p in passages)} pieces")
    student = Student(starting_words(word_table(teacher)))
    distil(student, answers(teacher, passages), passages, distilling.Settings(pieces=asked.pieces), say)
    write_folder(student, asked.out)
    if asked.all:
        say("nothing was held out, so nothing is scored")
        return 0
    for title, held in (("court cases", held_courts), ("short texts", held_short), ("made texts", held_made)):
        probabilities = predict(student, tokenizer, held)
        for threshold in (0.5, 0.25, 0.1):
            print(title, score(held, probabilities, threshold), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
