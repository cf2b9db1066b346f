"""EG-RL training: TRL's GRPOTrainer with the frozen Embedder's reward.

Both sides of a pair are adjacent rows, each generation batch is of one task, and families (pairs that differ in one
attribute) stay together. The order is laid out beforehand for the whole run, reshuffled for each pass over the pairs, so a
resumed run sees exactly what it missed.
"""

import copy
import inspect
import random
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin
from trl import GRPOConfig, GRPOTrainer

from embedrl.data.lazy_pairs import tasks_of
from embedrl.data.sample import Pair
from embedrl.errors import ConfigError
from embedrl.log import progress
from embedrl.models.adapters import is_adapted, lora_config, merge, save_adapter
from embedrl.models.qwen3_vl_fast import patch_forward
from embedrl.models.trainer_settings import make_arguments, read_settings
from embedrl.models.training import fit, keep_freed_memory, last_checkpoint, old_names, require_finite
from embedrl.models.weights import gather_shards
from embedrl.reasoner.local import LocalReasoner, forbidden_tokens
from embedrl.reasoner.prompts import CutNotice, tcot_prompt
from embedrl.reasoner.train import SFTCollator, SFTExample
from embedrl.rl import rollout_buffer
from embedrl.rl.config import Config, ReplayConfig
from embedrl.rl.replay import Examples
from embedrl.rl.rollout_buffer import KeepRollouts
from embedrl.rl.rollouts import Scorer

_REFERENCE = "reference"
"""Folder, in an unfinished run's folder, of the KL term's reference model."""


class ReplayTrainer(GRPOTrainer):
    """GRPO whose loss has the cross-entropy of a few supervised examples beside each micro-batch of rollouts.

    Which examples follows from the step alone, so that a resumed run sees those that it missed.
    """

    def __init__(self, *, replay: ReplayConfig, examples: Examples, collator: SFTCollator, **settings: Any) -> None:
        super().__init__(**settings)
        self.replay, self.examples, self.collator = replay, examples, collator
        self._num_replayed = 0
        """Micro-batches of the current step that have been replayed for."""
        self._replayed_step = -1

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Tensor:
        """Return the loss of a micro-batch, scaled for gradient accumulation as TRL does."""
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if not model.training:
            return loss
        batch = {name: values.to(self.accelerator.device) for name, values in self.collator(self._next()).items()}
        replayed = model(**batch).loss
        self._metrics["train"]["replay"].append(replayed.item())
        return loss + self.replay.weight * replayed / self.current_gradient_accumulation_steps

    def _next(self) -> list[SFTExample]:
        """Return the next examples: those of a step, process and micro-batch are the same in every run."""
        step = self.state.global_step
        self._num_replayed = self._num_replayed + 1 if step == self._replayed_step else 0
        self._replayed_step = step
        micro_batch = step * self.args.gradient_accumulation_steps + self._num_replayed
        start = (micro_batch * self.args.world_size + self.args.process_index) * self.replay.batch_size
        return [self.examples[place % len(self.examples)] for place in range(start, start + self.replay.batch_size)]


def train(reasoner: LocalReasoner, pairs: Sequence[Pair], scorer: Scorer, config: Config, examples: Examples | None = None) -> None:
    """Train the Reasoner's weights in place; resume from the run folder's last checkpoint if there is one.

    `examples` are those of `config.replay`. The reference of the KL term is the Reasoner as it is at the start of the run. Raises
    ConfigError if batches cannot be made.
    """
    keep_freed_memory()
    arguments = _arguments(config, reasoner.processor)
    batches = config.batches(arguments.world_size)
    assert batches.num_pairs * batches.group_size * 2 == arguments.generation_batch_size
    if config.lora is not None and config.trainable:
        raise ConfigError(f"trainable={list(config.trainable)}: an adapter is trained (lora); leave one of the two out")
    freeze(reasoner.model, config.trainable)
    checkpoint = last_checkpoint(config.out / "checkpoints", also=partial(rollout_buffer.is_whole, arguments))
    if arguments.beta and config.lora is None:  # an adapter is switched off instead
        _keep_reference(reasoner.model, config.out / _REFERENCE, arguments, anew=checkpoint is None)
    chosen = order(tasks_of(pairs), batches.num_pairs, config.family_size, batches.number, config.seed)
    with progress(arguments.max_steps, "reasoner") as bar, old_names():
        kind: Any = GRPOTrainer
        if config.replay is not None:
            assert examples is not None, "the caller makes them"
            kind = partial(ReplayTrainer, replay=config.replay, examples=examples, collator=SFTCollator(for_rollouts(reasoner.processor)))
        trainer = kind(
            model=reasoner.model,
            args=arguments,
            reward_funcs=[scorer.reward],
            train_dataset=prompts(reasoner, pairs, chosen),
            processing_class=for_rollouts(reasoner.processor),
            peft_config=None if config.lora is None else lora_config(reasoner.model, config.lora),
        )
        if isinstance(trainer.ref_model, PreTrainedModel):
            patch_forward(trainer.ref_model)
        checked = reasoner.model.register_forward_hook(partial(_require_finite_logits, trainer))
        trainer.add_callback(KeepRollouts(trainer))
        if checkpoint is not None:
            rollout_buffer.restore(trainer, Path(checkpoint))
        fit(trainer, config.out, bar, "rl", checkpoint=checkpoint, shown=("reward", "reward/positive", "kl"))
        checked.remove()
        reasoner.model = trainer.accelerator.unwrap_model(trainer.model)
        gather_shards(reasoner.model)
        if is_adapted(reasoner.model) and trainer.is_world_process_zero():
            save_adapter(reasoner.model, config.out / "adapter")
            reasoner.save_settings(config.out / "adapter")
        if trainer.is_world_process_zero():
            shutil.rmtree(config.out / _REFERENCE, ignore_errors=True)
    reasoner.model = merge(reasoner.model).eval()


def _require_finite_logits(trainer: GRPOTrainer, model: PreTrainedModel, inputs: Any, output: Any) -> None:
    """Raise ModelError, naming the step, before tokens are sampled from logits that are not finite."""
    if (logits := getattr(output, "logits", None)) is not None:
        require_finite(trainer.state.global_step + 1, "a logit", [logits[:, -1]], Path(trainer.args.output_dir or ""))


def _keep_reference(model: PreTrainedModel, folder: Path, arguments: GRPOConfig, *, anew: bool) -> None:
    """Save the model atomically as reference of TRL's KL term; a resumed run keeps its reference.

    TRL loads it by `config._name_or_path`, which for a merged adapter names the base (https://github.com/huggingface/trl/pull/4723).
    """
    with arguments.main_process_first(local=False):
        if arguments.process_index == 0 and (anew or not folder.is_dir()):
            draft = folder.with_name(f".{folder.name}")
            for old in (draft, folder):
                shutil.rmtree(old, ignore_errors=True)
            model.save_pretrained(draft)
            draft.rename(folder)
    model.config._name_or_path = str(folder)


def freeze(model: PreTrainedModel, trainable: Sequence[str]) -> None:
    """Freeze all weights whose name contains none of `names`; without names, none. Raises ConfigError if nothing is left to train."""
    for name, weight in model.named_parameters():
        weight.requires_grad_(not trainable or any(part in name for part in trainable))
    if not any(weight.requires_grad for weight in model.parameters()):
        raise ConfigError(f"trainable={list(trainable)}: no weight has such a name; see the model's named_parameters()")


_REFUSED = {
    "shuffle_dataset": "the order is laid out beforehand, so that a resumed run sees what it missed",
    "num_train_epochs": "set trainer.max_steps",
    "reward_weights": "set rewards.format_weight, rewards.outcome_weight and rewards.process_weight",
    "model_init_kwargs": "set dtype and attention",
    "sync_ref_model": "the reference of the KL term is the start of the run",
}


def read_trainer(config: Config, *, here: bool = True) -> dict[str, Any]:
    """Validate a run's trainer settings as GRPOConfig, without a model. Raises ConfigError naming every wrong one.

    Unless `here`, this machine may lack what they ask for, such as bf16.
    """
    settings = read_settings(GRPOConfig, config.trainer, refused=_REFUSED)
    if settings.get("max_steps", 0) < 1:
        raise ConfigError("trainer.max_steps: give a whole number of 1 or more, the number of steps")
    if here:
        make_arguments(GRPOConfig, config.out, settings)
    return settings


def _arguments(config: Config, processor: ProcessorMixin) -> GRPOConfig:
    settings = read_trainer(config)
    never = _never_sampled(processor, vllm=settings.get("use_vllm", False))
    settings["generation_kwargs"] = {**(settings.get("generation_kwargs") or {}), **never}
    defaults: dict[str, Any] = {"logging_steps": 1, "seed": config.seed, "beta": 0.01}
    return make_arguments(GRPOConfig, config.out, {**settings, "shuffle_dataset": False}, **defaults)


def _never_sampled(processor: ProcessorMixin, *, vllm: bool) -> dict[str, Any]:
    """Return generation settings that suppress special tokens, for transformers and for vLLM."""
    forbidden = forbidden_tokens(processor)
    return {"logit_bias": dict.fromkeys(forbidden, -100.0)} if vllm else {"suppress_tokens": forbidden}


def order(tasks: Sequence[str], pairs_per_batch: int, family_size: int, num_batches: int, seed: int) -> list[int]:
    """Draw task-homogeneous batches of pairs: (num_batches * pairs_per_batch,) indexes into `tasks`, batch after batch.

    Runs of `family_size` adjacent pairs stay together. Each epoch is reshuffled; pairs that do not fill a batch are left out of it.
    A task's batches are spread evenly over an epoch, so that rewards of two stretches can be compared. Raises ConfigError if no task
    fills a batch.
    """
    families: dict[str, list[list[int]]] = {}
    for start in range(0, len(tasks), family_size):
        family = list(range(start, min(start + family_size, len(tasks))))
        if len({tasks[place] for place in family}) > 1:
            raise ConfigError(f"family_size={family_size}: pairs {family[0]} to {family[-1]} are of several tasks")
        families.setdefault(tasks[start], []).append(family)
    size = pairs_per_batch // family_size
    if all(len(members) < size for members in families.values()):
        raise ConfigError(f"no task has the {pairs_per_batch} pairs that fill a batch: give more pairs, or a smaller generation_batch_size")
    chosen: list[int] = []
    epoch = 0
    while len(chosen) < num_batches * pairs_per_batch:
        rng = random.Random(f"order:{seed}:{epoch}")
        timed: list[tuple[float, list[list[int]]]] = []
        for members in families.values():
            shuffled = rng.sample(members, len(members))
            batches = [shuffled[start : start + size] for start in range(0, len(members) - size + 1, size)]
            timed += [((number + rng.random()) / len(batches), batch) for number, batch in enumerate(batches)]
        timed.sort(key=lambda row: row[0])
        chosen += [place for _, batch in timed for family in batch for place in family]
        epoch += 1
    return chosen[: num_batches * pairs_per_batch]


def prompts(reasoner: LocalReasoner, pairs: Sequence[Pair], chosen: Sequence[int]) -> Dataset:
    """Return the prompt dataset: query and target of each chosen pair in adjacent rows; media are decoded lazily."""
    settings, cut = reasoner.settings, CutNotice("the Reasoner in training")

    def read(batch: dict[str, list]) -> dict[str, list]:
        rows = list(zip(batch["pair"], batch["is_query"], strict=True))
        items = [pairs[pair].query if is_query else pairs[pair].target for pair, is_query in rows]
        asked = [tcot_prompt(item, settings.prompts, settings.budget, reasoner.factor, special=reasoner.special) for item in items]
        cut.check(asked, settings.budget)
        return {**batch, "prompt": [prompt.messages for prompt in asked], "images": [list(prompt.images) for prompt in asked]}

    columns = {"pair": [pair for pair in chosen for _ in range(2)], "is_query": [True, False] * len(chosen)}
    dataset = Dataset.from_dict(columns)
    # Undecorated: for a fingerprint that nothing reads, the decorator pickles all that the transform refers to, weights and pixels
    # (https://github.com/huggingface/datasets/blob/4.0.0/src/datasets/fingerprint.py).
    inspect.unwrap(Dataset.set_format)(dataset, "custom", transform=read)
    return dataset


def for_rollouts(processor: ProcessorMixin) -> ProcessorMixin:
    """Return a copy of a processor for TRL's GRPO: left padding, no image resizing, rows without images allowed.

    TRL pads prompts on the left when it samples and relies on the processor to do the same when it trains; a processor that pads
    on the right puts images at other positions (https://github.com/huggingface/trl/issues/5785). Saving the copy saves the original.
    """
    kind: Any = type(processor)

    class RolloutProcessor(kind):
        def __call__(self, images: Any = None, **kwargs: Any) -> Any:
            flat = [image for row in images or () for image in (row if isinstance(row, list) else [row]) if image is not None]
            return super().__call__(images=flat or None, **{"do_resize": False, **kwargs})

        def save_pretrained(self, save_directory: Any, **kwargs: Any) -> Any:
            return processor.save_pretrained(save_directory, **kwargs)

    parts = {name: getattr(processor, name) for name in kind.get_attributes()}
    parts["tokenizer"] = copy.deepcopy(parts["tokenizer"])
    parts["tokenizer"].padding_side = "left"
    return RolloutProcessor(**parts, chat_template=processor.chat_template)
