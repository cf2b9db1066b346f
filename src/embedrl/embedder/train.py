"""Contrastive training of the Embedder, with sentence-transformers' trainer, gradient caching and samplers.

Symmetric InfoNCE (paper, Eq. 3): temperature 0.02, the other rows of the batch are negatives in both directions unless their targets
or queries are equal, hard negatives are more documents, each batch from one dataset. Rows are keys; `resolve` turns a key into an item
and its T-CoT when the batch is built, so that T-CoT dropout and images cost no memory.
"""

import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Protocol

import torch
from datasets import Dataset, DatasetDict
from pydantic import BaseModel, ConfigDict, Field
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.modules.input_module import InputModule
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss, MatryoshkaLoss
from sentence_transformers.util.distributed import all_gather, all_gather_with_grad, get_rank
from torch import Tensor, nn
from transformers import AddedToken, AutoModel, ProcessorMixin, Trainer

from embedrl.data.sample import Item
from embedrl.data.tcot import TCoT
from embedrl.embedder.distill import Labels, Teacher, mean_cosine, without_teacher
from embedrl.embedder.embedder import Embedder, ending, pool
from embedrl.embedder.export import has_projection
from embedrl.embedder.inputs import DEFAULT_FORMAT, EmbedderInput, PromptFormat, collate
from embedrl.embedder.loss import positives, symmetric_info_nce
from embedrl.embedder.recipe import EmbedderRecipe
from embedrl.errors import ConfigError, ModelError
from embedrl.log import progress
from embedrl.media.resize import VisualBudget
from embedrl.models.adapters import add_lora, grow_embedding, is_adapted, restore, save_adapter
from embedrl.models.load import EMB, load
from embedrl.models.names import resolve_start
from embedrl.models.trainer_settings import make_arguments, read_settings
from embedrl.models.training import fit, keep_freed_memory, last_checkpoint, old_names, run_folder
from embedrl.models.weights import gather_shards

Resolve = Callable[[str], EmbedderInput]
Row = Sequence[str]
"""Keys of a query, its target and its hard negatives; an empty key is no item."""
FILLER = "filler:"
"""Key prefix of filler items, which are embedded and masked out of the loss."""
ITEM_IDS = "item_ids"
"""Name of the features that tell which items are equal."""
_IN_MODULE = "0.model."
"""What stands before the names of the weights in sentence-transformers' state."""


class Config(BaseModel):
    """Settings of a contrastive run."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    out: Path
    """Run folder: checkpoints, metrics.jsonl and the finished model in `model/`."""
    temperature: float = Field(default=0.02, gt=0, allow_inf_nan=False)
    mini_batch_size: int = Field(default=32, ge=1)
    """Rows whose activations are held at once (gradient caching)."""
    matryoshka_dims: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Matryoshka dimensions (MatryoshkaLoss, all weights 1): prefixes of the vector that are trained beside the full one."""
    trainer: dict[str, Any] = Field(default_factory=dict)
    """Passed verbatim to SentenceTransformerTrainingArguments."""


class EmbedderModule(InputModule):
    """The Embedder as sentence-transformers' first and only module: keys in, unit vectors out."""

    def __init__(self, embedder: Embedder, resolve: Resolve, teacher: Teacher | None = None) -> None:
        super().__init__()
        self.model, self.processor, self.resolve, self.teacher = embedder.model, embedder.processor, resolve, teacher
        self.tokenizer = embedder.processor.tokenizer

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Build the batch of these item keys, with `item_ids` that are equal for equal items; empty keys are skipped."""
        keys = [key for key in inputs if key]
        if not keys:
            return {}
        built = [self.resolve(key.removeprefix(FILLER)) for key in keys]
        ids = [-1 if key.startswith(FILLER) else _item_id(item_input) for key, item_input in zip(keys, built, strict=True)]
        taught = self.teacher.features(keys) if self.teacher else {}
        return {**collate(self.processor, built), ITEM_IDS: torch.tensor(ids), **taught}

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Add `sentence_embedding`: (N, dim), unit length."""
        tensors = {name: value for name, value in features.items() if isinstance(value, Tensor) and name != ITEM_IDS}
        return {**features, "sentence_embedding": pool(self.model, tensors)}

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the weights, or the adapter alone; the finished model is written by `Embedder.save`."""
        self.model.save_pretrained(output_path)


class _Trainer(SentenceTransformerTrainer):
    """Trainer that saves our single module and resumes from its checkpoints.

    Sharded weights (FSDP) come gathered as `state_dict`, and are read back as transformers does it.
    """

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Gather nothing for a model card: a checkpoint needs none, and its examples come with a progress bar of their own."""

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        if state_dict is None:
            self.model.save_pretrained(str(output_dir or self.args.output_dir), create_model_card=False)
        elif self.args.should_save:
            weights = {name.removeprefix(_IN_MODULE): weight for name, weight in state_dict.items()}
            self._module().model.save_pretrained(output_dir, state_dict=weights)

    def _load_from_checkpoint(self, checkpoint_path: str, model: nn.Module | None = None) -> None:
        if self.is_fsdp_enabled:
            Trainer._load_from_checkpoint(self, checkpoint_path, model)
        else:
            restore(self._module().model, Path(checkpoint_path))

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the loss; the mean cosine to a teacher is logged beside it."""
        loss = super().compute_loss(*args, **kwargs)
        if (teacher := self._module().teacher) is not None and teacher.last_cosine is not None:
            self.track_loss_components({"teacher_cosine": teacher.last_cosine})
        return loss

    def _module(self) -> EmbedderModule:
        module = self.model[0]
        assert isinstance(module, EmbedderModule)
        return module


class InOrder(DefaultBatchSampler):
    """Batch sampler in dataset order; the rows already separate duplicates and group hard negatives."""

    def __init__(self, dataset: Dataset, **settings: Any) -> None:
        super().__init__(dataset, **settings)
        self.num_rows = len(dataset)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, self.num_rows - self.batch_size + 1 if self.drop_last else self.num_rows, self.batch_size):
            yield list(range(start, min(start + self.batch_size, self.num_rows)))


class InfoNCE(CachedMultipleNegativesRankingLoss):
    """Gradient caching around `embedder.loss`: columns are queries, targets, and then hard negatives, of which a batch may have fewer."""

    num_negatives: int = 0
    """Columns of hard negatives, the same in each process."""
    always_caches: bool = False
    """Also cache the gradients of a batch that fits: MatryoshkaLoss backpropagates in `calculate_loss`."""
    teacher: Teacher | None = None

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Any = None) -> Tensor:
        """Return the loss of a batch of columns; their items' ids, and a teacher's vectors, take the labels' place."""
        columns = list(sentence_features)
        features = without_teacher(columns)
        compared: Any = Labels(item_ids(columns), [self.teacher.targets(column) for column in columns] if self.teacher else None)
        if not self.always_caches and sum(map(len, compared.ids)) <= self.mini_batch_size:  # one forward pass in place of two
            return self.calculate_loss([[self.model(column)["sentence_embedding"]] for column in features], compared)
        return self.forward_cached(features, compared)

    def calculate_loss(self, reps: list[list[Tensor]], labels: Any = None, *, with_backward: bool = False) -> Tensor:
        """Return the loss of vectors by column and mini-batch; `labels` are `Labels`, None if all items differ."""
        query_nD, target_nD, *others = (torch.cat(column) for column in reps)
        sizes = [len(query_nD), len(target_nD), *map(len, others)]
        ids = labels.ids if labels else list(torch.arange(sum(sizes)).split(sizes))
        query_ids, target_ids, *other_ids = (column.to(query_nD.device) for column in ids)
        queries_ND, documents_MD, query_ids, target_ids, document_ids = self._gathered(
            query_nD, target_nD, torch.cat([query_nD[:0], *others]), query_ids, target_ids, torch.cat([query_ids[:0], *other_ids])
        )
        positive_NM = positives(query_ids, target_ids, document_ids)
        start = len(query_nD) * get_rank() if self.gather_across_devices else 0
        loss = symmetric_info_nce(query_nD, target_nD, queries_ND, documents_MD, positive_NM, start=start, scale=self.scale)
        if self.teacher and labels and labels.targets:
            cosine = mean_cosine([query_nD, target_nD, *others], labels.targets)
            if query_nD.shape[1] == self.teacher.embedder.dim:
                self.teacher.last_cosine = cosine.detach()
            loss = loss + self.teacher.weight * (1 - cosine)
        if with_backward:
            loss.backward()
        return loss.detach() if with_backward else loss

    def _gathered(
        self, query_nD: Tensor, target_nD: Tensor, negative_kD: Tensor, query_ids: Tensor, target_ids: Tensor, negative_ids: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the queries and documents of all processes, with their ids; each process sends as many negatives, some of them empty."""
        if not self.gather_across_devices:
            kept = negative_ids >= 0
            documents = torch.cat([target_nD, negative_kD[kept]]), torch.cat([target_ids, negative_ids[kept]])
            return query_nD, documents[0], query_ids, target_ids, documents[1]
        room = len(query_nD) * self.num_negatives - len(negative_kD)
        negatives, ids = negative_kD, negative_ids
        if self.num_negatives:
            negatives = all_gather_with_grad(nn.functional.pad(negative_kD, (0, 0, 0, room)))
            ids = all_gather(nn.functional.pad(negative_ids, (0, room), value=-1))
        kept = ids >= 0
        targets, all_target_ids = all_gather_with_grad(target_nD), all_gather(target_ids)
        documents = torch.cat([targets, negatives[kept]]), torch.cat([all_target_ids, ids[kept]])
        return all_gather_with_grad(query_nD), documents[0], all_gather(query_ids), all_target_ids, documents[1]


def item_ids(features: Sequence[Mapping[str, Any]]) -> list[Tensor]:
    """Return the ids of each column's items; equal items have equal ones."""
    return [column[ITEM_IDS] for column in features]


def _item_id(built: EmbedderInput) -> int:
    assert built.item is not None, "embedder.inputs.build names it"
    return int(built.item.key[:15], 16)


def info_nce(model: SentenceTransformer, config: Config, *, num_negatives: int = 0) -> InfoNCE | MatryoshkaLoss:
    """Return the symmetric InfoNCE loss with gradient caching: the mean of both directions (all vectors equal: log B).

    A teacher of the model's module adds its term (`embedder.distill`). With `matryoshka_dims` it is summed over these lengths of a vector
    and the whole one. Raises ConfigError for one that is longer.
    """
    loss = InfoNCE(
        model,
        scale=1 / config.temperature,
        mini_batch_size=config.mini_batch_size,
        gather_across_devices=torch.distributed.is_initialized(),
    )
    module: Any = model[0]
    loss.num_negatives, loss.teacher = num_negatives, module.teacher
    loss.always_caches = bool(config.matryoshka_dims)
    if not config.matryoshka_dims:
        return loss
    dim: int = module.model.config.text_config.hidden_size
    if max(config.matryoshka_dims) > dim:
        raise ConfigError(
            f"matryoshka_dims={list(config.matryoshka_dims)}: the vectors of this model have {dim} numbers; give at most as many"
        )
    return MatryoshkaLoss(model, loss, sorted({*config.matryoshka_dims, dim}, reverse=True))


_REFUSED = {
    "per_device_train_batch_size": "set batch_size",
    "num_train_epochs": "set num_batches or num_epochs",
    **dict.fromkeys(("batch_sampler", "multi_dataset_batch_sampler", "dataloader_drop_last"), "batches are laid out beforehand"),
}


def read_trainer(recipe: EmbedderRecipe, *, here: bool = True) -> dict[str, Any]:
    """Return a recipe's trainer settings, typed. Raises ConfigError naming every wrong one; needs no model.

    Unless `here`, this machine may lack what they ask for, such as bf16.
    """
    settings = read_settings(SentenceTransformerTrainingArguments, recipe.trainer, refused=_REFUSED)
    if here:
        make_arguments(SentenceTransformerTrainingArguments, recipe.out, settings)
    return settings


def in_one_list(rows: Mapping[str, Sequence[Row]], batch_size: int, seed: int) -> Mapping[str, Sequence[Row]]:
    """Lay the batches of all data sets out in one list, shuffled whole.

    Processes take turns with their shares of it, so that together they hold a batch of one data set.
    """
    batches = [pairs[start : start + batch_size] for pairs in rows.values() for start in range(0, len(pairs) - batch_size + 1, batch_size)]
    if len(rows) > 1:
        random.Random(f"batches:{seed}").shuffle(batches)
    return {"pairs": [pair for batch in batches for pair in batch]}


def fill(rows: Sequence[Row], batch_size: int) -> list[Row]:
    """Give each row of a batch as many negatives as any of its rows has: processes that share weights run as many passes as each other."""
    filled: list[Row] = []
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        width = max(map(len, batch))
        filled += [(*row, *[f"{FILLER}{row[1]}"] * (width - len(row))) for row in batch]
    return filled


def columns(rows: Mapping[str, Sequence[Row]]) -> DatasetDict:
    """Return rows as columns of sentence-transformers: query, target, negative_1, ...; a row that has fewer negatives has empty keys."""
    num_negatives = max((len(row) for listed in rows.values() for row in listed), default=2) - 2
    names = ["query", "target", *(f"negative_{number + 1}" for number in range(num_negatives))]
    return DatasetDict(
        {
            dataset: Dataset.from_dict(
                {name: [row[place] if place < len(row) else "" for row in listed] for place, name in enumerate(names)}
            )
            for dataset, listed in rows.items()
        }
    )


def train(embedder: Embedder, rows: Mapping[str, Sequence[Row]], resolve: Resolve, config: Config, teacher: Teacher | None = None) -> Path:
    """Train on (query key, target key, negative keys …) rows of each dataset, resume from a checkpoint, return the model's folder."""
    keep_freed_memory()
    model = SentenceTransformer(modules=[EmbedderModule(embedder, resolve, teacher)], device=str(embedder.model.device))
    settings = read_settings(SentenceTransformerTrainingArguments, config.trainer)
    order: dict[str, Any] = {"batch_sampler": InOrder, "multi_dataset_batch_sampler": "proportional", "dataloader_drop_last": True}
    arguments = make_arguments(SentenceTransformerTrainingArguments, config.out, settings, logging_steps=10, **order)
    if arguments.world_size > 1:
        together = arguments.per_device_train_batch_size * arguments.world_size
        rows = {name: fill(listed, together) for name, listed in in_one_list(rows, together, arguments.seed).items()}
    data = columns(rows)
    num_negatives = len(next(iter(data.values())).column_names) - 2
    batches = sum(len(pairs) // (arguments.per_device_train_batch_size * arguments.world_size) for pairs in rows.values())
    steps = -(-batches // arguments.gradient_accumulation_steps)  # rounded up
    with progress(arguments.max_steps if arguments.max_steps > 0 else steps, "embedder") as bar:
        trainer = _Trainer(
            model=model,
            args=arguments,
            train_dataset=data,
            loss=info_nce(model, config, num_negatives=num_negatives),
        )
        fit(trainer, config.out, bar, "embedder", checkpoint=last_checkpoint(config.out / "checkpoints"))
        gather_shards(embedder.model)
        if trainer.is_world_process_zero():
            if is_adapted(embedder.model):
                save_adapter(embedder.model, config.out / "adapter")
                embedder.save_settings(config.out / "adapter")
            embedder.save(config.out / "model")
        trainer.accelerator.wait_for_everyone()
    return config.out / "model"


class ContrastiveRows(Protocol):
    """What a run is trained on: keys, and what they stand for."""

    num_batches: int

    def datasets(self, num_batches: int | None = None) -> Mapping[str, Sequence[Row]]:
        """Return (query key, target key, negative keys …) rows by data set, batch after batch; only the first `num_batches`, if given."""
        ...

    def resolve(self, key: str) -> tuple[Item, TCoT | None, bool]:
        """Return the item of a key, its T-CoT (or None) and whether its media are shown."""
        ...

    def tcot(self, key: str) -> TCoT | None:
        """Return the T-CoT of a key's item, shown or not; None if it has none."""
        ...


def run_recipe(recipe: EmbedderRecipe, rows: ContrastiveRows, budget: VisualBudget) -> Path:
    """Train from a recipe, resuming an interrupted run. Returns the folder of the finished model."""
    if recipe.batch_size % (num_processes := int(os.environ.get("WORLD_SIZE", "1"))):
        raise ConfigError(f"batch_size={recipe.batch_size}: must be a multiple of the {num_processes} processes")
    settings = read_trainer(recipe)
    with run_folder(recipe.out, recipe, inputs=recipe.inputs()):
        torch.manual_seed(recipe.seed)
        embedder = starting_embedder(recipe, budget)

        @lru_cache(maxsize=4 * recipe.batch_size)
        def resolve(key: str) -> EmbedderInput:
            item, tcot, show_media = rows.resolve(key)
            return embedder.build(item, tcot, show_media=show_media)

        def with_tcot(reader: Embedder, key: str) -> EmbedderInput | None:
            tcot = None if key.startswith(FILLER) else rows.tcot(key)
            return None if tcot is None else reader.build(rows.resolve(key)[0], tcot)

        teacher = Teacher.of(recipe, with_tcot, embedder.dim)
        arguments: dict[str, Any] = {
            "per_device_train_batch_size": recipe.batch_size // num_processes,
            "num_train_epochs": 1,
            "seed": recipe.seed,
            **settings,
        }
        if arguments.pop("gradient_checkpointing", False):
            with old_names():
                embedder.model.gradient_checkpointing_enable(arguments.pop("gradient_checkpointing_kwargs", {"use_reentrant": False}))
        shared = {name: getattr(recipe, name) for name in ("out", "temperature", "mini_batch_size", "matryoshka_dims")}
        return train(embedder, rows.datasets(), resolve, Config(**shared, trainer=arguments), teacher)


def starting_embedder(recipe: EmbedderRecipe, budget: VisualBudget) -> Embedder:
    """Load the model to start from, with what is to be trained unfrozen, or with an adapter on it. Raises ModelError."""
    folder = resolve_start(recipe.start_from, "embedder", "reasoner")
    if has_projection(folder):
        raise ConfigError(f"start_from={str(folder)!r} has a matrix behind its pooling, fitted to it: start from what it was made of")
    loaded = load(AutoModel, folder, device="cpu", dtype=recipe.dtype, attention=recipe.attention)
    model: Any = loaded[0]
    processor = loaded[1]
    layout, num_tokens = learn_ending(processor, model.config)
    if num_tokens > model.get_input_embeddings().num_embeddings:
        grow_embedding(model, num_tokens)
    model.visual.requires_grad_(not recipe.freeze_vision)
    if recipe.lora is not None:
        torch.manual_seed(recipe.seed)
        model = add_lora(model, recipe.lora)
    return Embedder(model, processor, budget, "embedder", layout=layout)


def learn_ending(processor: ProcessorMixin, config: Any) -> tuple[PromptFormat, int]:
    """Return the prompt format and vocabulary size, adding `<emb>` to tokenizers that lack a pooling token."""
    try:
        end = ending(processor, config)
    except ModelError:
        processor.tokenizer.add_tokens([AddedToken(EMB, special=True, normalized=False)], special_tokens=True)
        end = ending(processor, config)
    return DEFAULT_FORMAT if end == EMB else PromptFormat(end, None), len(processor.tokenizer)
