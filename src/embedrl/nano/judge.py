"""The nano judge: trained on T-CoT texts alone to pick the one that matches an anchor's.

One number a question is too little to learn from. So two things are learned on the side, which are never asked for later: at the end of
each candidate's line, whether it is the one; and the words of the question itself, since whoever can foretell a line that repeats the
anchor has found what to compare it with.
"""
# N questions, L tokens

import math
import random
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin

from embedrl.config import Metrics
from embedrl.data.protocols import Question
from embedrl.data.tcot import TCoT
from embedrl.log import progress
from embedrl.models.training import keep_freed_memory, require_finite
from embedrl.nano.recipes import JudgeRecipe
from embedrl.reasoner.prompts import pick_prompt
from embedrl.world.tasks import TASKS, AnySide, draw_family

MAX_RIVALS = 5
_SAME_TASK = 0.6
"""Share of easy distractors from the anchor's task."""


class Batch(NamedTuple):
    """A tokenised batch of questions."""

    ids: Tensor
    """(N, L)."""
    mask: Tensor
    """(N, L)."""
    answers: Tensor
    """Labels (N, L): the next token at verdict positions, -100 elsewhere."""
    last: Tensor
    """(N,): position at which the number is predicted."""


def draw_question(rng: random.Random, split: str, *, num_rivals: int, hard_share: float, whole: bool) -> tuple[Question, int]:
    """Draw (anchor, candidates) and the index of the matching one.

    That share of the rivals differs from it in one attribute, as members of its family; no rival means the same. `whole` T-CoTs tell
    everything, the others are the annotator's. The right one is any member of the family, so that it cannot be told from its
    rivals alone.
    """
    task = rng.choice(list(TASKS))
    num_hard = round(num_rivals * hard_share)
    family = draw_family(task, split, rng, num_variants=max(2, num_hard + 1))
    rng.shuffle(family)
    of_target = rng.random() < 0.5
    anchor, right = family[0][of_target], family[0][not of_target]
    rivals: dict[str, AnySide] = {right.truth.answer: right}
    for pair in family[1:]:
        if len(rivals) <= num_hard:
            rivals.setdefault(pair[not of_target].truth.answer, pair[not of_target])
    while len(rivals) <= num_rivals:
        other = task if rng.random() < _SAME_TASK else rng.choice(list(TASKS))
        side = draw_family(other, split, rng, num_variants=0)[0][not of_target]
        rivals.setdefault(side.truth.answer, side)

    def tcot(side: AnySide) -> TCoT:
        return side.truth if whole else side.annotated(rng)

    _, *wrong = rivals.values()
    place = rng.randrange(num_rivals + 1)
    shown = [tcot(side) for side in (*wrong[:place], right, *wrong[place:])]
    return (tcot(anchor), shown), place


def collate(processor: ProcessorMixin, questions: list[tuple[Question, int]]) -> Batch:
    """Lay questions out, padded on the right, with what should be said at each line's end and at the question's."""
    tokenizer = processor.tokenizer
    yes, no = (tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("yes", "no"))
    texts, ends = [], []
    for (anchor, candidates), _ in questions:
        text = processor.apply_chat_template(pick_prompt(anchor, candidates, "nano").messages, add_generation_prompt=True)
        at, lines = 0, []
        for number, tcot in enumerate(candidates, 1):
            line = f"\n{number}: {tcot.answer}"
            at = text.index(line, at) + len(line)
            lines.append(at)
        texts.append(text)
        ends.append(lines)
    encoded = tokenizer(
        texts, padding=True, padding_side="right", return_tensors="pt", return_offsets_mapping=True, add_special_tokens=False
    )
    answers = torch.full_like(encoded["input_ids"], -100)
    last = encoded["attention_mask"].sum(1) - 1
    for row, ((_, place), lines) in enumerate(zip(questions, ends, strict=True)):
        token_at = {stop: token for token, (start, stop) in enumerate(encoded["offset_mapping"][row].tolist()) if start < stop}
        for number, end in enumerate(lines):
            answers[row, token_at[end]] = yes if number == place else no
        answers[row, last[row]] = tokenizer(str(place + 1), add_special_tokens=False)["input_ids"][0]
    return Batch(encoded["input_ids"], encoded["attention_mask"], answers, last)


def losses(model: Any, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the mean cross-entropy of the numbers, of the lines' verdicts and of the question's words; and which numbers are right."""
    states_NLD = model.base_model.language_model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).last_hidden_state
    rows = torch.arange(len(batch.ids))
    is_number = torch.zeros_like(batch.answers, dtype=torch.bool).index_put((rows, batch.last), torch.tensor(True))
    is_line = (batch.answers != -100) & ~is_number
    is_word = (batch.mask == 1) & (batch.answers == -100)

    def logits_and_loss(chosen: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        logits = model.lm_head(states_NLD[chosen])
        return logits, nn.functional.cross_entropy(logits, wanted[chosen])

    numbers, of_numbers = logits_and_loss(is_number, batch.answers)
    _, of_lines = logits_and_loss(is_line, batch.answers)
    _, of_words = logits_and_loss(is_word, batch.ids.roll(-1, 1))
    return of_numbers, of_lines, of_words, numbers.argmax(1) == batch.answers[is_number]


def train_judge(model: PreTrainedModel, processor: ProcessorMixin, recipe: JudgeRecipe, metrics: Metrics) -> None:
    """Train the language model in place, with a curriculum from easy to hard questions."""
    keep_freed_memory()
    torch.manual_seed(recipe.seed)
    weights = [weight for name, weight in model.named_parameters() if "visual" not in name]
    optimiser = torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1, (step + 1) / recipe.warmup) * (1 + math.cos(math.pi * min(1, step / recipe.num_batches))) / 2
    )
    model.train()
    with progress(recipe.num_batches, "judge") as bar:
        for step in range(recipe.num_batches):
            rng = random.Random(f"judge:{recipe.seed}:{step}")
            done = step / recipe.num_batches
            num_rivals = rng.choice((1, 1, 2, 3, 4, MAX_RIVALS) if done < 0.5 else (2, 3, 4, MAX_RIVALS))
            hard_share = rng.choice((0.0, 0.0, 0.5, 1.0) if done < 0.3 else (0.0, 0.5, 1.0, 1.0))
            questions = [
                draw_question(rng, "train", num_rivals=num_rivals, hard_share=hard_share, whole=rng.random() < recipe.whole_share)
                for _ in range(recipe.batch_size)
            ]
            of_numbers, of_lines, of_words, right = losses(model, collate(processor, questions))
            optimiser.zero_grad()
            loss = of_numbers + of_lines + recipe.word_weight * of_words
            loss.backward()
            require_finite(step + 1, "the loss or a gradient", [loss, nn.utils.clip_grad_norm_(weights, 1.0)])
            optimiser.step()
            schedule.step()
            bar.advance()
            if step % 25 == 0 or step == recipe.num_batches - 1:
                parts = {"loss": of_numbers, "lines": of_lines, "words": of_words, "right": right.float().mean()}
                figures = {name: value.item() for name, value in parts.items()} | {"num_rivals": num_rivals, "hard_share": hard_share}
                metrics.write(step, {f"judge/{name}": value for name, value in figures.items()})
    require_finite(recipe.num_batches, "a weight", weights)
    model.eval()
