"""Rejection sampling: supervised fine-tuning on the best rollout of each EG-RL group.

It costs what EG-RL's rollouts cost and a short supervised stage: the control that says what GRPO adds, and what many can afford.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from embedrl.data.lazy_pairs import tasks_of
from embedrl.errors import ConfigError
from embedrl.evaluation.compare import text
from embedrl.files import write_bytes
from embedrl.log import info, progress, warn
from embedrl.models.training import run_folder
from embedrl.pipelines.eg_rl import local_reasoner, make_scorer, training_pairs
from embedrl.reasoner import train as supervised
from embedrl.reasoner.local import LocalReasoner
from embedrl.reasoner.prompts import prompt_hash
from embedrl.rl.config import Recipe
from embedrl.rl.replay import PairExamples
from embedrl.rl.rollouts import Rollout, Scorer
from embedrl.rl.train import freeze, order, read_trainer

CHOSEN = "chosen"
"""Folder in a run folder: a file for each batch of rollouts, with the best of its groups."""


def train_by_rejection(recipe: Recipe) -> Path:
    """Sample as many rollouts as the recipe's run of EG-RL would, learn from the best of each group; returns the model's folder.

    A killed run goes on with the first batch of rollouts that is not written yet, or from the supervised stage's last checkpoint.
    Raises ConfigError for batches that cannot be made, and in more than one process.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("method=rejection: samples in one process; start it without torchrun")
    trainer = read_trainer(recipe, here=False)
    settings = supervised.read_trainer(recipe.rejection, recipe.out)
    num_batches, pairs_per_batch, group_size = recipe.batches()
    reasoner = local_reasoner(
        recipe.start_from, temperature=trainer.get("temperature", 1.0), dtype=recipe.dtype, attention=recipe.attention
    )
    reasoner.quotes = False  # as in EG-RL
    prompt_hashes = {reasoner.settings.prompts: prompt_hash(reasoner.settings.prompts)}
    with run_folder(recipe.out, recipe, prompt_hashes=prompt_hashes, inputs=recipe.inputs()):
        pairs = training_pairs(recipe)
        scorer = make_scorer(recipe, pairs, num_frames=reasoner.num_frames, count_tokens=reasoner.num_tokens)
        chosen = order(tasks_of(pairs), pairs_per_batch, recipe.family_size, num_batches, recipe.seed)
        rows: list[tuple[int, bool, str]] = []
        with progress(num_batches, "rollouts") as bar:
            for number in range(num_batches):
                places = chosen[number * pairs_per_batch : (number + 1) * pairs_per_batch]
                rows += _best_of_batch(recipe, reasoner, scorer, places, number, group_size)
                bar.advance()
        if not rows:
            raise ConfigError(f"start_from={recipe.start_from!r}: none of its rollouts is a T-CoT; train it with supervision first")
        info(f"{len(rows)} T-CoTs chosen, the best of {group_size} each")
        options: dict[str, Any] = {
            "num_train_epochs": 1,
            "seed": recipe.seed,
            "use_cpu": not torch.cuda.is_available(),
            **settings,
        }
        freeze(reasoner.model, recipe.trainable)
        supervised.train(
            reasoner.model, reasoner.processor, PairExamples(reasoner, pairs, rows), supervised.Config(out=recipe.out, trainer=options)
        )
        reasoner.model.eval()
        reasoner.save(recipe.out / "model")
    return recipe.out / "model"


def _kept(path: Path) -> list[tuple[int, bool, str]] | None:
    """Return what was chosen of a batch before; None if its file is not there, or damaged: the batch is sampled again, alike."""
    try:
        return [(int(place), bool(is_query), str(written)) for place, is_query, written, _ in json.loads(path.read_text("utf-8"))]
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        warn(f"{str(path)!r} is damaged ({error}): its rollouts are sampled again")
        return None


def _best_of_batch(
    recipe: Recipe, reasoner: LocalReasoner, scorer: Scorer, places: Sequence[int], number: int, group_size: int
) -> list[tuple[int, bool, str]]:
    """Sample and score one batch, unless its file is there; keep the best valid T-CoT of each group."""
    path = recipe.out / CHOSEN / f"{number:06}.json"
    if (kept := _kept(path)) is not None:
        return kept
    torch.manual_seed(1_000_003 * recipe.seed + number)
    sides = [(place, is_query) for place in places for is_query in (True, False) for _ in range(group_size)]
    items = [scorer.pairs[place].query if is_query else scorer.pairs[place].target for place, is_query in sides]
    rollouts = [Rollout(*side, text(outcome)) for side, outcome in zip(sides, reasoner.reason(items), strict=True)]
    scores = scorer.score(rollouts, seed=str(number))
    scorer.require_judge(scores, number)
    rewards = scores.total.masked_fill(torch.tensor([tcot is None for tcot in scores.tcots]), torch.nan)
    best = []
    for start in range(0, len(rollouts), group_size):
        group = rewards[start : start + group_size]
        if not group.isnan().all():
            row = start + int(group.nan_to_num(-torch.inf).argmax())
            best.append((*sides[row], rollouts[row].text, float(rewards[row])))
    write_bytes(path, json.dumps(best, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    return [(place, is_query, written) for place, is_query, written, _ in best]
