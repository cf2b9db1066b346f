"""EG-RL from a recipe: load the models, read the pairs, train, save."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from embedrl.data.protocols import Judges
from embedrl.data.sample import Pair
from embedrl.data.sources.lines import read_lines
from embedrl.data.sources.row import SourceProblem
from embedrl.data.tcot import count_words
from embedrl.embedder.prefix import embed_groups
from embedrl.errors import ConfigError
from embedrl.log import is_main_process
from embedrl.models.training import run_folder
from embedrl.reasoner.local import LocalReasoner
from embedrl.reasoner.prompts import prompt_hash
from embedrl.rl.config import Recipe
from embedrl.rl.replay import Examples, PairExamples
from embedrl.rl.rollouts import Scorer
from embedrl.rl.train import read_trainer, train
from embedrl.runtime.names import load_local_embedder, load_reasoner
from embedrl.world.tasks import lazy_pairs, make_families, names_to_draw


def train_reasoner(recipe: Recipe) -> Path:
    """Train a Reasoner with EG-RL, resuming an interrupted run. Returns the folder of the finished model."""
    read_trainer(recipe)
    reasoner = local_reasoner(recipe.start_from, dtype=recipe.dtype, attention=recipe.attention)
    prompt_hashes = {reasoner.settings.prompts: prompt_hash(reasoner.settings.prompts)}
    with run_folder(recipe.out, recipe, prompt_hashes=prompt_hashes, inputs=recipe.inputs()):
        pairs = training_pairs(recipe)
        scorer = make_scorer(recipe, pairs, num_frames=reasoner.num_frames, count_tokens=reasoner.num_tokens)
        train(reasoner, pairs, scorer, recipe, replay_examples(recipe, reasoner, pairs))
        if is_main_process():
            reasoner.save(recipe.out / "model")
    return recipe.out / "model"


def training_pairs(recipe: Recipe) -> Sequence[Pair]:
    """Return the pairs of a recipe, grouped by task, with lazily rendered media. Raises ConfigError for a file that cannot be used."""
    if recipe.pairs is None:
        tasks = names_to_draw(recipe.world, recipe.tasks)
        return lazy_pairs(make_families("rl", recipe.seed, recipe.num_families, recipe.family_size, tasks))
    pairs = []
    for outcome in read_lines(recipe.pairs):
        if isinstance(outcome, SourceProblem):
            raise ConfigError(str(outcome))
        pairs.append(outcome)
    return sorted(pairs, key=lambda pair: pair.task)


def replay_examples(recipe: Recipe, reasoner: LocalReasoner, pairs: Sequence[Pair]) -> Examples | None:
    """Return the examples of `recipe.replay`, if it has any. Raises ConfigError for pairs of a file without T-CoTs."""
    if recipe.replay is None:
        return None
    if recipe.pairs is not None:
        return PairExamples.of_annotated(reasoner, pairs)
    from embedrl.nano.data import SFTExamples

    num_micro_batches = read_trainer(recipe)["max_steps"] * recipe.trainer.get("gradient_accumulation_steps", 1)
    share, size = recipe.replay.answer_share, recipe.replay.batch_size
    return SFTExamples(recipe.seed + 1, num_micro_batches, size, answer_share=share, world=recipe.world, tasks=recipe.tasks)


def make_scorer(recipe: Recipe, pairs: Sequence[Pair], *, num_frames: int, count_tokens: Callable[[str], int] = count_words) -> Scorer:
    """Load the frozen Embedder and the judge of a recipe. Raises ConfigError for unsuitable models."""
    embedder = load_local_embedder(recipe.embedder, quantize=recipe.quantize)
    judge = load_reasoner(recipe.judge, quantize=recipe.quantize) if recipe.judge and recipe.rewards.process_weight else None
    if judge is None and recipe.rewards.process_weight:
        raise ConfigError("judge: name a Reasoner, or set rewards.process_weight=0")
    if judge is not None and not isinstance(judge, Judges):
        raise ConfigError(f"judge={recipe.judge!r}: this model cannot judge")
    return Scorer(
        pairs,
        partial(embed_groups, embedder, show_evidence=recipe.show_evidence),
        judge,
        recipe.rewards,
        num_frames=num_frames,
        control_every=recipe.control_every,
        count_tokens=count_tokens,
    )


def local_reasoner(name: str, *, temperature: float = 0.0, dtype: str | None = None, attention: str | None = None) -> LocalReasoner:
    """Load a Reasoner whose weights can be trained. Raises ConfigError for one that has none."""
    reasoner = load_reasoner(name, temperature=temperature, dtype=dtype, attention=attention)
    if not isinstance(reasoner, LocalReasoner):
        raise ConfigError(f"reasoner={name!r}: a model with loaded weights is needed")
    return reasoner
