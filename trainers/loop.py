"""The training loop: steps, held-out loss, best adapter, checkpoints, and stopping in time.

Guarantees: after ``go`` the best adapter, by held-out loss or by the answers' metric, is in ``best``; a run that was
interrupted anywhere and taken up again from its checkpoint makes the same steps bit by bit on a CPU with as many
threads; a step that runs out of memory is repeated in smaller pieces with the same effective batch; updates that are
not finite are left out, and too many of them in a row end the run, those aside that only halve the scale of fp16.
Does not: know what a method learns, nor where output goes.

Example:
    >>> loop = Loop(spec, parts, out, key, speak, stop)
    >>> loop.go()
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainers import batches, loss_scale
from trainers.adapter import Adapter
from trainers.answers import Answers
from trainers.archive import load
from trainers.checkpoint import State, checkpoint_file, keep_checkpoint, load_checkpoint, save_checkpoint
from trainers.device import Device, Sensors, memory_bytes
from trainers.dpo import log_likelihoods
from trainers.encoding import Split
from trainers.errors import EXIT_FAULT, EXIT_MEMORY, Cancelled, TrainerError
from trainers.events import AnswersMeasured, CheckpointSaved, EvalLoss, MemoryShort, RunResumed, TrainStep
from trainers.flops import Flops
from trainers.footprint import evaluation_interval
from trainers.forward import Forward, Look, MicroBatch, micro_batch
from trainers.holding import choose_holding
from trainers.methods import Method
from trainers.optimiser import AdamW, Average, clip, learning_rate_at
from trainers.parallel import ALONE, Group
from trainers.process import Speaker, Stop
from trainers.shards import context_of
from trainers.spec import Spec, identity

MOST_SKIPPED = 3
LEAST_MICRO_TOKENS = 16


@dataclass
class Parts:
    """What a run works with; ``answers`` where prompts are answered on the way."""

    adapter: Adapter
    forward: Forward
    device: Device
    method: Method
    train: Split
    held_out: Split
    answers: Answers | None = None


class Loop:
    """One run. ``state`` and ``best``, this process's part of the best state, are its result.

    ``met`` (2, records) is each training record's loss when it was first and when it was last learnt from.
    """

    def __init__(
        self,
        spec: Spec,
        parts: Parts,
        out: Path,
        key: bytes,
        speak: Speaker,
        stop: Stop,
        group: Group = ALONE,
    ) -> None:
        self.group = group
        self.spec, self.parts, self.out = spec, parts, out
        self._key, self._speak, self._stop = key, speak, stop
        self._identity = identity(spec)
        self._context = context_of(spec.output.context, "checkpoint")
        self._lengths = parts.train.lengths
        self._flops = Flops.of(parts.adapter)
        self.schedule = batches.Schedule(self._lengths, spec.batch_tokens, spec.epochs, spec.max_steps, spec.seed)
        self.holding = choose_holding(parts.adapter, group, spec.parallel)
        self._optimiser = AdamW(self.holding.mine, spec.optimiser)
        micro_tokens = spec.micro_tokens or parts.device.micro_tokens
        self.state = State(micro_tokens=micro_tokens, loss_scale=loss_scale.scale_for(parts.device.precision))
        self.best = self.holding.mine.clone()
        self._average = Average(self.holding.mine, spec.average_decay) if spec.average_decay is not None else None
        self.met = torch.full((2, len(parts.train)), math.nan)
        self._random = torch.get_rng_state()
        self._held_out_units = sum(parts.method.units(parts.held_out, index) for index in range(len(parts.held_out)))
        self._evaluate_every = evaluation_interval(
            spec, self.schedule.steps, parts.train.token_count, parts.held_out.token_count
        )
        self._sensors = Sensors(parts.device.name)
        self._started = time.monotonic()

    @property
    def stopped_early(self) -> bool:
        """Whether patience ended the run."""
        return self.spec.patience is not None and self.state.stale >= self.spec.patience

    @property
    def seconds(self) -> float:
        """Time of the run, interruptions not counted."""
        return self.state.seconds + time.monotonic() - self._started

    @torch.no_grad()
    def look_at_start(self) -> None:
        """Log-likelihoods of all answers by the untouched model, where the method measures against them.

        To be called before anything was trained or taken up. The untouched model knows no soft prompt.

        Raises:
            TrainerError: ``memory.exhausted``.
        """
        if not self.parts.method.needs_reference:
            return
        self.parts.adapter.model.eval()
        for split in (self.parts.train, self.parts.held_out):
            reference = torch.zeros(2, len(split))

            def look(piece: list[int], batch: MicroBatch, reference: Tensor = reference) -> float:
                answers = log_likelihoods(self.parts.forward.losses(batch), batch)
                reference[:, piece] = answers.cpu().view(2, -1)
                return 0.0

            prefix, split.prefix = split.prefix, ()
            mine = self.group.share(list(range(len(split))), split.lengths)
            self._in_pieces(split, mine, look, lambda: None)
            self.group.add(reference)
            split.prefix, split.reference = prefix, reference
        self.parts.adapter.model.train(self.parts.adapter.has_dropout)

    @torch.no_grad()
    def begin_with(self, archive: bytes) -> None:
        """Puts the result of an earlier run in place of what was laid out.

        Raises:
            TrainerError: as ``trainers.archive.load``.
        """
        adapter, mine = self.parts.adapter, self.holding.mine
        begun = torch.empty(adapter.count, dtype=mine.dtype)
        load(adapter, archive, begun)
        mine.copy_(self.holding.cut(begun))
        self.holding.publish()
        self.best.copy_(mine)
        if self._average is not None:
            self._average.vector.copy_(mine)
        self.parts.forward.refresh()

    def resume(self, step: int | None = None) -> None:
        """Takes up the last checkpoint of the output folder, or the one kept after ``step``.

        Raises:
            TrainerError: as ``checkpoint_file`` and ``load_checkpoint``.
        """
        vectors = self._vectors()

        def keep(name: str, tensor: Tensor) -> Tensor:
            return vectors[name].copy_(self.holding.cut(tensor)) if name in vectors else tensor

        file = checkpoint_file(self.out, step)
        self.state, tensors = load_checkpoint(file, self._identity, self._key, self._context, keep)
        self.state.loss_scale = loss_scale.scale_for(self.parts.device.precision, self.state.loss_scale)
        if not vectors.keys() <= tensors.keys():
            raise TrainerError(
                "output.unreadable", "the checkpoint is of another version", "remove it to start the run anew"
            )
        self.holding.publish()
        if "met" in tensors:  # checkpoints of the first version lack it
            self.met.copy_(tensors["met"])
        self._random = tensors["random"]
        torch.set_rng_state(self._random)
        self.parts.forward.refresh()
        self._speak(RunResumed(run=self.spec.run, step=self.state.step, steps=self.schedule.steps))

    def _vectors(self) -> dict[str, Tensor]:
        """What a checkpoint holds of the trained numbers; in this process its parts of them."""
        vectors = {"weights": self.holding.mine, "best": self.best}
        vectors |= {"first": self._optimiser.first, "second": self._optimiser.second}
        return vectors if self._average is None else vectors | {"average": self._average.vector}

    def save(self) -> None:
        """Writes the checkpoint of the last finished step; the first of several processes does."""
        if self.group.rank:
            for part in self._vectors().values():
                self.holding.whole(part)
            return
        kept = {name: self.holding.later(part) for name, part in self._vectors().items()}
        kept |= {"random": self._random, "met": self.met}
        state = State(**(vars(self.state) | {"seconds": self.seconds}))
        size = save_checkpoint(self.out, state, kept, self._identity, self._key, self._context)
        if self.spec.keep_checkpoints > 1:
            keep_checkpoint(self.out, state.step, state.best_step, self.spec.keep_checkpoints)
        self._speak(CheckpointSaved(run=self.spec.run, step=self.state.step, bytes=size))

    def go(self) -> None:
        """Runs to the end.

        Raises:
            Cancelled: after a checkpoint of the last finished step was written.
            TrainerError: ``training.diverged``, ``memory.exhausted``, ``output.unusable``.
        """
        try:
            if self.state.step == 0:
                self._evaluate(is_start=True)
            while self.state.step < self.schedule.steps and not self.stopped_early:
                self._step()
                is_last = self.state.step == self.schedule.steps
                is_evaluated = is_last or self.state.step % self._evaluate_every == 0
                if is_evaluated:
                    self._evaluate()
                every = self.spec.checkpoint_every
                is_kept = self.spec.keep_checkpoints > 1 and self.state.best_step == self.state.step
                if is_last or is_kept or (self.state.step % every == 0 if every else is_evaluated):
                    self.save()
        except Cancelled:
            if self.state.step:
                self.save()
            raise

    def _step(self) -> None:
        begun = time.monotonic()
        batch = self.schedule.batch(self.state.step)
        train, method, forward = self.parts.train, self.parts.method, self.parts.forward
        lengths = [length for index in batch for length in train.side_lengths_of(index)]
        supervised = sum(map(train.learnt_of, batch))
        units = sum(method.units(train, index) for index in batch)
        losses: dict[int, float] = {}
        share = loss_scale.factor(self.state) / units

        def learn(piece: list[int], micro: MicroBatch) -> float:
            parts = method.learn(forward, micro, share).tolist()
            losses.update(zip(piece, parts, strict=True))
            return float(sum(parts))

        if self.group.size > 1:
            torch.manual_seed(self._seed_of_step())
        self._survey(train, batch)
        mine = self.group.share(batch, self._lengths)
        total = self._in_pieces(train, mine, learn, self.parts.adapter.clear_grads, is_learning=True)
        grads = loss_scale.unscale(self.holding.summed_grads(), self.state)
        total = self.group.total(total)
        self._meet(self._losses_of_all(batch, losses))
        norm = self.holding.norm(grads)
        rate = learning_rate_at(self.state.step, self.schedule.steps, self.spec.optimiser)
        scale = self.state.loss_scale
        self._update(grads, total, norm, rate)
        tokens, pairs = sum(lengths), sum(length**2 for length in lengths) // 2
        self.state.step += 1
        self.state.tokens += tokens
        self.state.flops += self._flops.training(tokens, pairs, supervised)
        self._random = torch.get_rng_state()
        self._report(total / units, rate, norm, scale, tokens / max(1e-9, time.monotonic() - begun))
        if self.state.skipped >= MOST_SKIPPED:
            raise TrainerError(
                "training.diverged",
                f"loss or gradient were not finite in {MOST_SKIPPED} steps in a row, last step {self.state.step}",
                "lower optimiser.learning_rate, or set precision to fp32",
                EXIT_FAULT,
            )

    def _update(self, grads: Tensor, total: float, norm: float, rate: float) -> None:
        """Moves the weights, unless the step's loss or the length of its gradient is not finite."""
        state = self.state
        if math.isfinite(total) and math.isfinite(norm):
            clip(grads, norm, self.spec.optimiser.clip_norm)
            self._optimiser.step(grads, state.step - state.left_out, rate)
            self.holding.publish()
            if self._average is not None:
                self._average.follow(state.step - state.left_out)
            self.parts.forward.refresh()
            state.skipped = 0
            loss_scale.raise_scale(state)
            return
        state.left_out += 1
        # A loss comes of the way forth, which knows no scale.
        if not (math.isfinite(total) and loss_scale.lower_scale(state)):
            state.skipped += 1

    def _survey(self, split: Split, batch: list[int]) -> None:
        """Lets a method see the whole of what it is to be measured on, where it wants that."""

        def mean(look: Look) -> float:
            mine = self.group.share(batch, split.lengths)
            total = self._in_pieces(split, mine, lambda _, piece: look(self.parts.forward, piece), lambda: None)
            return self.group.total(total) / len(batch)

        self.parts.method.survey(mean)

    def _seed_of_step(self) -> int:
        """So that each process drops other inputs, and the same ones again after a resume."""
        place = f"{self.spec.seed}:{self.state.step}:{self.group.rank}"
        return random.Random(place).getrandbits(32)  # noqa: S311 - a seed, not a secret

    def _losses_of_all(self, batch: list[int], own: dict[int, float]) -> dict[int, float]:
        """The losses of a step's records, those that other processes learnt from among them."""
        if self.group.size == 1:
            return own
        losses = torch.tensor([own.get(index, 0.0) for index in batch], dtype=torch.float64)
        self.group.add(losses)
        return dict(zip(batch, losses.tolist(), strict=True))

    def _meet(self, losses: dict[int, float]) -> None:
        """Remembers what each record of a step cost, per unit."""
        split, method = self.parts.train, self.parts.method
        for index, loss in losses.items():
            self.met[1, index] = loss / method.units(split, index)
            if math.isnan(float(self.met[0, index])):
                self.met[0, index] = self.met[1, index]

    def _in_pieces(
        self,
        split: Split,
        batch: list[int],
        work: Callable[[list[int], MicroBatch], float],
        begin: Callable[[], Any],
        *,
        is_learning: bool = False,
    ) -> float:
        """Sum of ``work`` over micro-batches, from ``begin`` again in smaller ones when memory runs out.

        With ``is_learning`` the work goes through the model forth and back, else forth only.
        """
        cut = batches.bucket if self.parts.forward.name == "bucket" else batches.pack
        lengths = {index: split.length_of(index) for index in batch}
        while True:
            begin()
            try:
                total = 0.0
                for piece in self._in_step(cut(batch, lengths, self.state.micro_tokens), is_learning=is_learning):
                    total += work(piece, micro_batch(split, piece, self.parts.device.name))
                return total
            except (MemoryError, RuntimeError) as fault:
                if not is_memory_short(fault):
                    raise
            self._shrink()

    def _in_step(self, pieces: Iterable[list[int]], *, is_learning: bool) -> Iterator[list[int]]:
        """Pieces one by one, as long as nobody asks to stop.

        Where work is shared, all processes learn of a stop before the same pass, and make as many passes.
        """
        if not self.holding.is_shared:
            for piece in pieces:
                self._stop.check()
                yield piece
            return
        waiting = list(pieces)
        while self._is_more_to_do(len(waiting)):
            if waiting:
                yield waiting.pop(0)
            else:
                self.holding.accompany(is_learning=is_learning)

    def _is_more_to_do(self, waiting: int) -> bool:
        """Whether any process has pieces left; ends the run in all of them once one was asked to stop."""
        told = torch.tensor([float(waiting), float(self._stop.is_due)])
        self.group.add(told)
        if told[1]:
            self._stop.check()
            raise Cancelled
        return bool(told[0])

    def _shrink(self) -> None:
        if self.parts.adapter.spread is not None:
            hint = "set micro_tokens lower: processes whose layers are spread cannot try again alone"
            raise TrainerError("memory.exhausted", "a micro-batch does not fit", hint, EXIT_MEMORY)
        if self.parts.device.name == "cuda":
            torch.cuda.empty_cache()
        hint = "set micro_tokens to this value to start with it; max_length and lora.rank also cost memory"
        if self.state.micro_tokens // 2 < LEAST_MICRO_TOKENS:
            raise TrainerError("memory.exhausted", "the smallest micro-batch does not fit", hint, EXIT_MEMORY)
        self.state.micro_tokens //= 2
        self._speak(MemoryShort(self.spec.run, self.state.step, self.state.micro_tokens, hint))

    def _report(self, loss: float, rate: float, norm: float, scale: float | None, speed: float) -> None:
        left = self.schedule.steps - self.state.step
        self._speak(
            TrainStep(
                run=self.spec.run,
                step=self.state.step,
                steps=self.schedule.steps,
                epoch=self.schedule.epoch_at(self.state.step),
                tokens=self.state.tokens,
                loss=loss,
                learning_rate=rate,
                grad_norm=norm,
                loss_scale=scale,
                tokens_per_second=speed,
                memory_bytes=memory_bytes(self.parts.device.name),
                eta_seconds=left * self.seconds / self.state.step,
                temperature_celsius=self._sensors.temperature_celsius(),
                power_watts=self._sensors.power_watts(),
            )
        )

    def _evaluate(self, *, is_start: bool = False) -> None:
        """Held-out loss and answers, by the average where there is one.

        Those of the untouched model are reported but never the best: it is no result of training.
        """
        is_untouched = is_start and self.spec.start is None
        held_out, method, forward = self.parts.held_out, self.parts.method, self.parts.forward
        adapter, run, step = self.parts.adapter, self.spec.run, self.state.step
        judged = self.holding.mine if self._average is None else self._average.vector
        # Without dropout, which would blur the loss and move the random state on.
        adapter.model.eval()
        everything = list(range(len(held_out)))
        # Methods that watch more than the loss want to see every record.
        is_shared = self.spec.method == "sft"
        with self.having(judged):
            self._survey(held_out, everything)
            total = self._in_pieces(
                held_out,
                self.group.share(everything, held_out.lengths) if is_shared else everything,
                lambda _, piece: method.measure(forward, piece),
                lambda: method.measured(run, step),
            )
            said = method.measured(run, step)
            answered = self._answer(step)
        total = self.group.total(total) if is_shared else total
        adapter.model.train(adapter.has_dropout)
        loss = total / self._held_out_units
        score = self._agree_on(answered) if self.parts.answers is not None and self.spec.best_by == "metric" else None
        is_best = not is_untouched and self._is_better(loss, score)
        if is_best:
            self.state.best_loss, self.state.best_score = loss, score
            self.state.best_step, self.state.stale = step, 0
            self.best.copy_(judged)
        elif not is_untouched:
            self.state.stale += 1
        self._speak(EvalLoss(run=run, step=step, loss=loss, best=is_best))
        for event in (said, answered):
            if event is not None:
                self._speak(event)

    def _answer(self, step: int) -> AnswersMeasured | None:
        """What the model answers as it is; the first of several processes asks it."""
        answers = self.parts.answers
        if answers is None:
            return None

        def look(check: Callable[[], None]) -> AnswersMeasured | None:
            try:
                return answers.look(self.parts, step, check)
            except Cancelled:
                if not self.holding.is_shared:
                    raise
                return None  # all hear of it below, and leave together

        answered = self.holding.by_first_however_long(look, self._stop.check)
        if self.holding.is_shared:
            self._is_more_to_do(0)
        return answered

    def _agree_on(self, answered: AnswersMeasured | None) -> float:
        """The score of the answers, in every process."""
        return self.group.total(0.0 if answered is None else answered.score)

    @contextmanager
    def having(self, part: Tensor) -> Iterator[None]:
        """With other weights in the model, unless they are its own."""
        if part is self.holding.mine:
            yield
            return
        try:
            with self.holding.having(part):
                self.parts.forward.refresh()
                yield
        finally:
            self.parts.forward.refresh()

    def go_back_to_best(self) -> None:
        """Puts the best state in the place of the last one, for good; all processes do."""
        self.holding.put(self.best)
        self.parts.forward.refresh()

    def _is_better(self, loss: float, score: float | None) -> bool:
        """Than the best state so far: a higher score, where scores decide, and else a lower loss."""
        if score is None or not math.isfinite(loss) or self.state.best_score is None:
            return loss < self.state.best_loss
        return (score, -loss) > (self.state.best_score, -self.state.best_loss)


def is_memory_short(fault: BaseException) -> bool:
    """Whether an error says that memory ran out, on a device or on the CPU."""
    text = str(fault)
    return (
        isinstance(fault, MemoryError | torch.OutOfMemoryError) or "allocate memory" in text or "out of memory" in text
    )
