"""Checkpoints of others, in exactly their file layouts: they load, give the vectors of a plain implementation, and ours load elsewhere."""

import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from embedrl.config import Lora
from embedrl.data.sample import Item, Role
from embedrl.data.tcot import Evidence, ParseFailure, TCoT
from embedrl.embedder.embedder import EMBED_RL_BUDGET, QWEN3_VL_EMBEDDING_BUDGET, Embedder
from embedrl.embedder.inputs import render_text
from embedrl.embedder.prefix import embed_groups
from embedrl.errors import ModelError
from embedrl.media.content import Image, Text
from embedrl.media.resize import PixelRange, VisualBudget
from embedrl.models.adapters import add_lora, load_adapter
from embedrl.models.load import load
from embedrl.reasoner.local import LocalReasoner, forbidden_tokens
from tests.checkpoints import write_embed_rl, write_instruct, write_qwen3_vl_embedding

SMALL = VisualBudget(
    image=PixelRange(min_pixels=4096, max_pixels=16384),
    frame=PixelRange(min_pixels=4096, max_pixels=8192),
    crop=PixelRange(min_pixels=4096, max_pixels=8192),
)
BOX = TCoT(thinking="A patch.", evidence=Evidence(boxes=((100, 100, 900, 800),)), rethink="Yes.", answer="a patch")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("checkpoints")
    write_instruct(root / "Qwen3-VL-2B-Instruct")
    write_embed_rl(root / "Embed-RL-2B")
    write_qwen3_vl_embedding(root / "Qwen3-VL-Embedding-2B")
    for name in ("Embed-RL-2B", "Qwen3-VL-Embedding-2B"):
        (root / name / "embedrl.json").write_text(SMALL.model_dump_json(), "utf-8")
    return root


def make_items() -> list[Item]:
    rng = np.random.default_rng(0)
    picture = PIL.Image.fromarray(rng.integers(0, 255, (96, 128, 3), dtype=np.uint8))
    both = (Image(pixels=picture), Text(text="what is it?"))
    return [
        Item(content=(Text(text="a patch of noise <|image_pad|>"),), instruction="Find the picture", role=Role.QUERY_TEXT_TO_IMAGE),
        Item(content=(Image(pixels=picture),), role=Role.TARGET_IMAGE),
        Item(content=both, instruction="Answer.", role=Role.QUERY_IMAGE),
    ]


def test_instruct_is_a_reasoner_and_no_embedder(folders: Path) -> None:
    reasoner = LocalReasoner.load(folders / "Qwen3-VL-2B-Instruct")
    reasoner.settings = reasoner.settings.model_copy(update={"budget": SMALL, "max_new_tokens": 6})
    texts = reasoner.processor.tokenizer.convert_ids_to_tokens(forbidden_tokens(reasoner.processor))
    assert {"<|endoftext|>", "<|image_pad|>", "<|im_start|>"} <= set(texts)
    assert "<|im_end|>" not in texts
    assert "<think>" not in texts
    assert all(isinstance(found, ParseFailure) for found in reasoner.reason(make_items())), "random weights write nonsense, to its end"
    assert reasoner.factor == 32
    assert reasoner.settings.prompts == "full"
    with pytest.raises(ModelError, match="knows no <emb>"):
        Embedder.load(folders / "Qwen3-VL-2B-Instruct")


def test_embed_rl_gives_the_state_at_its_token_as_published(folders: Path) -> None:
    """The published prompt closes the turn behind `<emb>`; attention looks back only, so the state there is the same."""
    folder = folders / "Embed-RL-2B"
    embedder = Embedder.load(folder, dtype=torch.float32)
    items, tcots = make_items(), [None, BOX, None]
    ours = embedder.embed(items, tcots)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)
    emb = json.loads((folder / "config.json").read_text("utf-8"))["emb_token_ids"][0]
    for item, tcot, vector in zip(items, tcots, ours, strict=True):
        built = embedder.build(item, tcot)
        turn = {"role": "assistant", "content": [{"type": "text", "text": "<emb>"}]}
        text = processor.apply_chat_template([*built.messages, turn])
        assert text.endswith("<|im_start|>assistant\n<emb><|im_end|>\n")
        batch = processor(text=[text], images=list(built.images) or None, return_tensors="pt", do_resize=False)
        with torch.inference_mode():
            states = model.model(**batch).last_hidden_state[0]
        place = (batch["input_ids"][0] == emb).nonzero()[-1, 0]
        assert np.abs(torch.nn.functional.normalize(states[place], dim=-1).numpy() - vector).max() < 1e-5


def test_a_token_id_that_contradicts_the_tokenizer_is_refused(folders: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(folders / "Embed-RL-2B", tmp_path / "wrong")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "emb_token_ids": [7]}), "utf-8")
    with pytest.raises(ModelError, match=r"<emb> is token 282 .* says 7"):
        Embedder.load(folder)


def test_the_request_of_another_training_is_a_setting(folders: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(folders / "Embed-RL-2B", tmp_path / "other")
    (folder / "embedrl.json").write_text(json.dumps({**SMALL.model_dump(), "request": "One word, please:"}), "utf-8")
    embedder = Embedder.load(folder)
    text = render_text(embedder.processor, embedder.build(make_items()[0], None))
    assert text.endswith("\nOne word, please:<|im_end|>\n<|im_start|>assistant\n<emb>")
    embedder.save(tmp_path / "again")
    again = Embedder.load(tmp_path / "again")
    assert again.layout == embedder.layout
    assert again.budget == SMALL


def test_qwen3_vl_embedding_is_asked_in_its_own_words(folders: Path) -> None:
    folder = folders / "Qwen3-VL-Embedding-2B"
    embedder = Embedder.load(folder, dtype=torch.float32)
    items = make_items()
    assert render_text(embedder.processor, embedder.build(items[0], None)) == (
        "<|im_start|>system\nFind the picture.<|im_end|>\n<|im_start|>user\na patch of noise ‹|image_pad|><|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert render_text(embedder.processor, embedder.build(items[1], None)) == (
        "<|im_start|>system\nRepresent the user's input.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|><|im_end|>\n<|im_start|>assistant\n"
    )
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)
    ours = embedder.embed(items, [None] * 3)
    for item, vector in zip(items, ours, strict=True):
        built = embedder.build(item, None)
        text = processor.apply_chat_template(built.messages, add_generation_prompt=True)
        batch = processor(text=[text], images=list(built.images) or None, return_tensors="pt", do_resize=False)
        assert processor.tokenizer.convert_ids_to_tokens(int(batch["input_ids"][0, -1])) == "<|endoftext|>"
        with torch.inference_mode():
            state = model(**batch).last_hidden_state[0, -1]
        assert np.abs(torch.nn.functional.normalize(state, dim=-1).numpy() - vector).max() < 1e-5
    assert np.abs(embedder.embed(items[1:2], [BOX]) - ours[1]).max() > 1e-4, "it reads T-CoTs all the same"


@pytest.mark.parametrize("name", ["Embed-RL-2B", "Qwen3-VL-Embedding-2B"])
def test_groups_share_their_prefix_in_every_layout(folders: Path, name: str) -> None:
    embedder = Embedder.load(folders / name, dtype=torch.float32)
    items, groups = make_items(), [[None, BOX], [BOX, None], [None, BOX.model_copy(update={"answer": "grey"})]]
    for item, group, vectors in zip(items, groups, embed_groups(embedder, items, groups), strict=True):
        plain = embedder.embed([item] * len(group), group)
        assert (vectors * plain).sum(1).min() > 0.99999


def test_without_settings_each_layout_has_its_published_limits(folders: Path, tmp_path: Path) -> None:
    for name, budget in (("Embed-RL-2B", EMBED_RL_BUDGET), ("Qwen3-VL-Embedding-2B", QWEN3_VL_EMBEDDING_BUDGET)):
        folder = shutil.copytree(folders / name, tmp_path / name)
        (folder / "embedrl.json").unlink()
        assert Embedder.load(folder).budget == budget


@pytest.mark.parametrize("name", ["Embed-RL-2B", "Qwen3-VL-Embedding-2B"])
def test_what_we_save_is_a_sentence_transformers_model(folders: Path, name: str, tmp_path: Path) -> None:
    embedder = Embedder.load(folders / name)
    embedder.save(tmp_path)
    saved = Embedder.load(tmp_path, dtype=torch.float32)
    items, tcots = make_items(), [None, BOX, BOX]
    theirs = SentenceTransformer(str(tmp_path), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32})
    messages = []
    for item, tcot in zip(items, tcots, strict=True):
        built = saved.build(item, tcot)
        images = iter(built.images)
        parts = [{**part, "image": next(images)} if part["type"] == "image" else part for part in built.parts]
        messages.append([*built.messages[:-1], {"role": "user", "content": parts}])
    vectors = np.concatenate([theirs.encode([message]) for message in messages])
    ours = saved.embed(items, tcots)
    assert np.abs(vectors - ours).max() < 1e-5
    assert np.abs(ours - embedder.embed(items, tcots)).max() < 2e-2
    assert theirs.get_embedding_dimension() == 64


def test_what_we_save_is_a_plain_model_for_any_engine_that_pools_the_last_token(folders: Path, tmp_path: Path) -> None:
    """As an engine does it: names of weights as published, the template with a generation prompt, the last state."""
    Embedder.load(folders / "Embed-RL-2B").save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert config["architectures"] == ["Qwen3VLForConditionalGeneration"]
    assert config["emb_token_ids"] == [282]
    published = {name for part in (folders / "Embed-RL-2B").glob("*.safetensors") for name in load_file(part)}
    saved = load_file(tmp_path / "model.safetensors")
    assert saved.keys() == published
    assert {weight.dtype for weight in saved.values()} == {torch.bfloat16}
    model, processor = (
        AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32).eval(),
        AutoProcessor.from_pretrained(tmp_path),
    )
    embedder, item = Embedder.load(tmp_path, dtype=torch.float32), make_items()[0]
    tokens = processor.apply_chat_template(
        embedder.build(item, BOX).messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    with torch.inference_mode():
        state = model.model(**tokens).last_hidden_state[0, -1]
    assert np.abs(torch.nn.functional.normalize(state, dim=-1).numpy() - embedder.embed([item], [BOX])).max() < 1e-5
    Embedder.load(tmp_path).save(tmp_path / "again")
    assert (tmp_path / "again/chat_template.jinja").read_text("utf-8") == (tmp_path / "chat_template.jinja").read_text("utf-8")


def write_adapter(
    base: Path, folder: Path, *, auto=AutoModelForImageTextToText, named: str | None = None, seed: int = 1
) -> torch.nn.Module:
    """Train nothing: an adapter with random weights in peft's own files. Returns the merged model."""
    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=r".*(language_model|visual).*\.(q_proj|v_proj|down_proj|qkv)")
    adapted = get_peft_model(auto.from_pretrained(base, dtype=torch.float32), config)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    adapted.save_pretrained(folder)
    if named:
        settings = json.loads((folder / "adapter_config.json").read_text("utf-8"))
        (folder / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": named}), "utf-8")
    return adapted.merge_and_unload().eval()


@pytest.mark.parametrize("auto", [AutoModelForImageTextToText, AutoModel])
def test_an_adapter_is_merged_whatever_it_was_trained_on(folders: Path, auto, tmp_path: Path) -> None:
    """Published adapters were trained with the head around the model, ours without: both fit both roles."""
    base = folders / "Embed-RL-2B"
    merged = write_adapter(base, tmp_path / "adapter", auto=auto).base_model.state_dict()
    for name in ("tokenizer.json", "tokenizer_config.json", "embedrl.json"):
        shutil.copy(base / name, tmp_path / "adapter" / name)
    for name in ("chat_template.json", "preprocessor_config.json", "video_preprocessor_config.json", "vocab.json", "merges.txt"):
        shutil.copy(base / name, tmp_path / "adapter" / name)
    embedder = Embedder.load(tmp_path / "adapter", dtype=torch.float32)
    assert all(torch.allclose(weight, merged[name], atol=1e-6) for name, weight in embedder.model.state_dict().items())
    plain = Embedder.load(base, dtype=torch.float32)
    items = make_items()
    assert np.abs(embedder.embed(items, [None] * 3) - plain.embed(items, [None] * 3)).max() > 1e-3
    reasoner, _, name = load(AutoModelForImageTextToText, tmp_path / "adapter", dtype=torch.float32)
    assert all(torch.allclose(weight, merged[key], atol=1e-6) for key, weight in reasoner.base_model.state_dict().items())
    assert name.startswith("adapter-")
    assert name != Embedder.load(base).fingerprint


def test_the_base_of_an_adapter_is_found_by_its_published_name(folders: Path, tmp_path: Path) -> None:
    base = shutil.copytree(folders / "Qwen3-VL-2B-Instruct", tmp_path / "Qwen3-VL-2B-Instruct")
    write_adapter(base, tmp_path / "adapter", named="Qwen/Qwen3-VL-2B-Instruct")
    assert LocalReasoner.load(tmp_path / "adapter").factor == 32
    shutil.rmtree(base)
    with pytest.raises(ModelError, match=r"adapter of 'Qwen/Qwen3-VL-2B-Instruct', which is no folder here: put that model beside it"):
        LocalReasoner.load(tmp_path / "adapter")


def test_an_adapter_that_does_not_fit_is_refused(folders: Path, tmp_path: Path) -> None:
    base = folders / "Qwen3-VL-2B-Instruct"
    write_adapter(base, tmp_path / "adapter")
    model, _, _ = load(AutoModel, base)
    weights = load_file(tmp_path / "adapter/adapter_model.safetensors")
    save_file(
        {name.replace("layers.2.", "layers.9."): weight for name, weight in weights.items()}, tmp_path / "adapter/adapter_model.safetensors"
    )
    with pytest.raises(ModelError, match=r"does not fit|has weights that the model has not"):
        load_adapter(model, tmp_path / "adapter")


def test_a_new_adapter_changes_nothing_and_spares_the_head(folders: Path) -> None:
    embedder = Embedder.load(folders / "Embed-RL-2B", dtype=torch.float32)
    items = make_items()
    before = embedder.embed(items, [None] * 3)
    for vision in (False, True):
        adapted = add_lora(embedder.model, Lora(rank=4, alpha=8, vision=vision))
        trained = {name.split(".lora_")[0] for name, weight in adapted.named_parameters() if weight.requires_grad}
        assert any("visual" in name for name in trained) == vision
        assert not any("lm_head" in name for name in trained)
        assert sum("language_model" in name for name in trained) == 3 * 7, "every linear layer of every block"
        embedder.model = adapted
        assert np.abs(embedder.embed(items, [None] * 3) - before).max() < 1e-6
        embedder.model = adapted.unload()


def test_a_tokenizer_that_is_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    folder = write_instruct(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"<extra_{number}>" for number in range(60)])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match="342 tokens and the model 320 rows"):
        LocalReasoner.load(folder)
