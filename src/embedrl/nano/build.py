"""Train the nano Reasoner and the nano judge: tokenizer, vision tower, supervised stages.

Each stage keeps its result in the run folder and is skipped when it is there, so a killed build goes on where it stopped.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoProcessor, PreTrainedModel, ProcessorMixin, Qwen3VLForConditionalGeneration

from embedrl.config import METRICS, Metrics
from embedrl.log import info
from embedrl.models.load import SETTINGS, load
from embedrl.models.names import resolve_start
from embedrl.models.qwen3_vl_fast import patch_forward
from embedrl.models.training import run_folder
from embedrl.nano.data import REASONER_BUDGET, SFTExamples
from embedrl.nano.judge import train_judge
from embedrl.nano.models import nano_config
from embedrl.nano.recipes import JudgeRecipe, ReasonerRecipe
from embedrl.nano.tokenizer import SPECIAL, build_processor
from embedrl.nano.vision import directions, train_vision
from embedrl.reasoner import train as reasoner_train
from embedrl.reasoner.local import LocalReasoner, ReasonerSettings
from embedrl.reasoner.prompts import prompt_hash

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the shipped models."""
_REFUSED = {"per_device_train_batch_size": "set batch_size", **dict.fromkeys(("max_steps", "num_train_epochs"), "set num_batches")}


def build_reasoner(recipe: ReasonerRecipe) -> Path:
    """Train the nano Reasoner before RL. Returns its folder."""
    settings = reasoner_train.read_trainer(recipe.trainer, recipe.out, refused=_REFUSED)
    with run_folder(recipe.out, recipe, prompt_hashes={"nano": prompt_hash("nano")}, inputs={"start_from": recipe.start_from}):
        torch.manual_seed(recipe.seed)
        model, processor = (
            _sighted(recipe)
            if recipe.start_from is None
            else load(Qwen3VLForConditionalGeneration, resolve_start(recipe.start_from, "reasoner"), device="cpu")[:2]
        )
        model.model.visual.requires_grad_(False)
        arguments = {"per_device_train_batch_size": recipe.batch_size, "max_steps": recipe.num_batches, "seed": recipe.seed, **settings}
        examples = SFTExamples(
            recipe.seed,
            recipe.num_batches,
            recipe.batch_size,
            num_answers=recipe.num_answers,
            answer_share=recipe.answer_share,
            world=recipe.world,
            tasks=recipe.tasks,
        )
        reasoner_train.train(model, processor, examples, reasoner_train.Config(out=recipe.out, trainer=arguments))
        reasoner = ReasonerSettings(prompts="nano", budget=REASONER_BUDGET, max_new_tokens=160)
        LocalReasoner(model, processor, reasoner, "reasoner-sft").save(recipe.out / "model")
    return recipe.out / "model"


def _sighted(recipe: ReasonerRecipe) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Return a model with a pre-trained vision tower, and its processor."""
    processor_folder, tower = recipe.out / "processor", recipe.out / "vision.safetensors"
    if not processor_folder.is_dir():
        info("training the tokenizer")
        build_processor(recipe.seed).save_pretrained(processor_folder)
    processor = AutoProcessor.from_pretrained(processor_folder, local_files_only=True, trust_remote_code=False)
    tokenizer = processor.tokenizer
    config = nano_config(len(tokenizer), {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL})
    torch.manual_seed(recipe.seed)
    model = patch_forward(Qwen3VLForConditionalGeneration(config))
    if not tower.is_file():
        heads = directions(model.lm_head.weight, tokenizer, recipe.seed)
        right = train_vision(config, heads, recipe.vision, tower, Metrics(recipe.out / "vision.jsonl"))
        info("vision stage, right per token: " + ", ".join(f"{name} {share:.3f}" for name, share in right.items()))
    visual = model.model.visual
    visual.load_state_dict(load_file(tower))
    for merger in visual.deepstack_merger_list:  # untrained, and what they would add drowns what the tower says: silenced
        nn.init.zeros_(merger.linear_fc2.weight)
        nn.init.zeros_(merger.linear_fc2.bias)
    return model, processor


def build_judge(recipe: JudgeRecipe) -> Path:
    """Train the nano judge from a nano Reasoner's weights, unless it is there. Returns its folder."""
    folder = recipe.out / "model"
    if (folder / SETTINGS).is_file():
        return folder
    with run_folder(recipe.out, recipe, prompt_hashes={"nano": prompt_hash("nano")}, inputs={"start_from": recipe.start_from}):
        judge = LocalReasoner.load(resolve_start(recipe.start_from, "reasoner"), device="cpu")
        train_judge(judge.model, judge.processor, recipe, Metrics(recipe.out / METRICS))
        judge.save(folder)
    return folder
