"""Model folders as people have them: each is loaded whole, or refused in one ModelError that says what is wrong and what to do.

Reports: huggingface/transformers 48722, 32067 and 27923 (weights that do not fit, or are no weights, became random models or tracebacks),
codefuse-ai/MFTCoder 20 (a pointer of Git LFS), huggingface/peft 1457 (an adapter's own rows).
"""

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.utils import logging as transformers_logging

from embedrl.data.sample import Item, Role
from embedrl.embedder.embedder import Embedder
from embedrl.errors import ModelError
from embedrl.media.content import Text
from embedrl.models.architectures import decodes_greedily
from embedrl.models.load import load
from embedrl.models.names import shipped
from embedrl.reasoner.local import LocalReasoner
from embedrl.reasoner.train import SFTCollator
from embedrl.runtime.names import load_reasoner
from tests.checkpoints import write_embed_rl, write_instruct, write_qwen3_vl_embedding
from tests.test_checkpoints import SMALL, make_items, write_adapter

POINTER = (
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 9\n"
)
Change = Callable[[Path], Any]


def make_text_item(text: str) -> Item:
    return Item(role=Role.QUERY_TEXT_TO_IMAGE, content=(Text(text=text),))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_embed_rl(tmp_path_factory.mktemp("models") / "Embed-RL-2B")
    (folder / "embedrl.json").write_text(SMALL.model_dump_json(), "utf-8")
    return folder


@pytest.fixture(scope="module")
def adapter(good: Path) -> Path:
    write_adapter(good, good.parent / "adapter")
    shutil.copy(good / "embedrl.json", good.parent / "adapter")
    return good.parent / "adapter"


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def edit(name: str, **changes: Any) -> Change:
    """Change keys of a JSON file; those of "text" and "vision" inside its two parts."""

    def change(folder: Path) -> None:
        table = json.loads((folder / name).read_text("utf-8"))
        for key, value in changes.items():
            part, _, inner = key.partition("__")
            (table[f"{part}_config"] if inner else table)[inner or key] = value
        (folder / name).write_text(json.dumps(table), "utf-8")

    return change


def write(name: str, text: str) -> Change:
    return lambda folder: (folder / name).write_text(text, "utf-8")


def remove(pattern: str) -> Change:
    return lambda folder: [path.unlink() for path in folder.glob(pattern)]


def weights(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Change:
    """Write all weights again, changed, into one file."""

    def rewrite(folder: Path) -> None:
        table = {name: weight for path in shards(folder) for name, weight in load_file(path).items()}
        remove("*.safetensors*")(folder)
        save_file({name: weight.contiguous() for name, weight in change(table).items()}, folder / "model.safetensors", {"format": "pt"})

    return rewrite


def renamed(old: str, new: str) -> Change:
    return weights(lambda table: {name.replace(old, new, 1): weight for name, weight in table.items()})


def without(part: str) -> Change:
    return weights(lambda table: {name: weight for name, weight in table.items() if part not in name})


def set_number(value: float) -> Change:
    def change(table: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        table["model.language_model.norm.weight"][3] = value
        return table

    return weights(change)


def pickled(folder: Path) -> None:
    remove("*.safetensors*")(folder)
    (folder / "pytorch_model.bin").write_bytes(b"x")


def gguf(folder: Path) -> None:
    remove("*.safetensors*")(folder)
    (folder / "model-q4.gguf").write_bytes(b"GGUF")


def modules(pooling: dict[str, Any] | None, *others: str) -> Change:
    """Write the files by which sentence-transformers loads a folder."""

    def change(folder: Path) -> None:
        kinds = ["base.modules.transformer.Transformer", "models.Pooling", *others]
        rows = [{"idx": number, "path": f"{number}_Pooling" if number else "", "type": f"st.{kind}"} for number, kind in enumerate(kinds)]
        (folder / "modules.json").write_text(json.dumps(rows), "utf-8")
        if pooling is not None:
            (folder / "1_Pooling").mkdir()
            (folder / "1_Pooling/config.json").write_text(json.dumps(pooling), "utf-8")

    return change


MATRIX = {"bias": False, "activation_function": "torch.nn.modules.linear.Identity"}


def with_dense(*settings: dict[str, Any]) -> Change:
    """Write the files of a model whose pooling is followed by Dense modules with these settings, without their weights."""

    def change(folder: Path) -> None:
        modules({"pooling_mode": "lasttoken"}, *["models.Dense"] * len(settings))(folder)
        for number, of_module in enumerate(settings, 2):
            (folder / f"{number}_Pooling").mkdir()
            (folder / f"{number}_Pooling/config.json").write_text(json.dumps(of_module), "utf-8")

    return change


BROKEN: dict[str, tuple[Change, str]] = {
    "pointers of Git LFS": (
        lambda folder: [path.write_text(POINTER) for path in shards(folder)],
        r"weight files are not whole: .*00001.* is a Git LFS pointer; .*00002.* is a Git LFS pointer.*git lfs pull",
    ),
    "one shard cut in half": (
        lambda folder: os.truncate(shards(folder)[0], shards(folder)[0].stat().st_size // 2),
        r"1 weight files.*holds .* of .* bytes",
    ),
    "a shard cut in its header": (lambda folder: os.truncate(shards(folder)[1], 20), r"is no safetensors file, or cut off"),
    "an empty shard": (lambda folder: os.truncate(shards(folder)[0], 0), r"is empty"),
    "a shard that is missing": (lambda folder: shards(folder)[0].unlink(), r"00001.*is missing"),
    "a shard that is a broken link": (
        lambda folder: (path := shards(folder)[0], path.unlink(), path.symlink_to(folder / "nowhere")),
        r"00001.*is missing",
    ),
    "a shard without the tensors of its index": (
        lambda folder: save_file({"x": torch.zeros(1)}, shards(folder)[1]),
        r"00002.* lacks .*model\.",
    ),
    "an index that is broken": (write("model.safetensors.index.json", "{"), r"index.json' cannot be read as JSON"),
    "an index that leads elsewhere": (
        write("model.safetensors.index.json", '{"weight_map": {"a": "../other/model.safetensors"}}'),
        r"shards lie beside their index",
    ),
    "no weights": (remove("*.safetensors*"), r"has no model.safetensors, nor .*: download its weights"),
    "weights in a pickle": (pickled, r"pytorch_model.bin\) are pickles, which run code when they are read"),
    "weights of llama.cpp": (gguf, r"model-q4.gguf\) are of llama.cpp: .*URL of the server"),
    "no language model": (without("language_model"), r"do not fit .* missing: model\.language_model|missing: language_model"),
    "no vision tower": (without("visual"), r"missing: .*visual.*; and \d+ more"),
    "one weight less": (without("layers.1.mlp.up_proj"), r"1 missing: language_model.layers.1.mlp.up_proj.weight"),
    "one weight more": (
        weights(lambda table: {**table, "model.language_model.layers.9.mlp.up_proj.weight": torch.zeros(2)}),
        r"1 unexpected: .*layers.9.mlp.up_proj",
    ),
    "names of a wrapped model": (renamed("", "module."), r"missing: .* unexpected: "),
    "names of an adapted model": (renamed("", "base_model.model."), r"missing: .* unexpected: "),
    "a weight of another shape": (
        weights(lambda table: {name: weight[:-2] if "embed_tokens" in name else weight for name, weight in table.items()}),
        r"1 misshapen: .*embed_tokens.weight \(318x64, not 320x64\)",
    ),
    "fewer layers than its weights": (edit("config.json", text__num_hidden_layers=2), r"unexpected: .*layers.2"),
    "quantised weights that do not say how": (
        weights(lambda table: {name: weight.to(torch.int8) if "q_proj.weight" in name else weight for name, weight in table.items()}),
        r"weights are quantised, and config.json has no quantization_config .*q_proj.weight \(I8\)",
    ),
    "plain weights that are said to be quantised": (
        edit("config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
        r"says that its weights are quantised \(bitsandbytes\), and none is: remove quantization_config",
    ),
    "weights of 8 bits that do not say how": (
        weights(lambda table: {name: weight.to(torch.float8_e4m3fn) if "up_proj" in name else weight for name, weight in table.items()}),
        r"up_proj.weight \(F8_E4M3\)",
    ),
    "a chat template with a byte order mark": (edit("chat_template.json", chat_template="\ufeff{{ messages }}"), r"byte order mark"),
    "a weight that is no number": (set_number(math.nan), r"1 weights hold NaN or infinite numbers: .*norm.weight"),
    "a weight that is infinite": (set_number(math.inf), r"1 weights hold NaN or infinite numbers: .*norm.weight"),
    "config.json that is broken": (write("config.json", "{"), r"config.json' cannot be read as JSON"),
    "config.json that is a list": (write("config.json", "[]"), r"config.json' is no JSON object"),
    "config.json of nothing": (write("config.json", "{}"), r"without a model_type"),
    "config.json that is a pointer": (write("config.json", POINTER), r"is a Git LFS pointer"),
    "config.json with half its parts": (edit("config.json", vision_config=None), r"no vision_config and text_config"),
    "a million layers": (edit("config.json", text__num_hidden_layers=1_000_000), r"num_hidden_layers=1000000 is no number from 1 to 1,000"),
    "a million layers of the tower": (edit("config.json", vision__depth=10**6), r"depth=1000000 is no number"),
    "a wrong kind of number": (edit("config.json", text__hidden_size="64"), r"hidden_size=64 is no number"),
    "numbers that do not go together": (edit("config.json", text__num_attention_heads=3), r"cannot be loaded|do not fit"),
    "another architecture": (edit("config.json", model_type="qwen9_vl"), r"architecture 'qwen9_vl'; known are .*qwen3_vl \(Qwen3-VL"),
    "code of its own": (
        edit("config.json", model_type="evil", auto_map={"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}),
        r"architecture 'evil', and brings code of its own, which is never run",
    ),
    "a number that is none": (edit("config.json", text__rms_norm_eps=math.nan), r"config.json': rms_norm_eps=nan is no number"),
    "positions that do not turn": (edit("config.json", text__rope_theta=0), r"rope_theta=0 is no number above 0"),
    "positions that turn backwards": (
        edit("config.json", text__rope_parameters={"rope_type": "default", "rope_theta": -1.0, "mrope_section": [2, 3, 3]}),
        r"rope_theta=-1.0 is no number above 0",
    ),
    "a norm of nothing": (edit("config.json", text__rms_norm_eps=-1e-6), r"rms_norm_eps=-1e-06 is no number above 0"),
    "no keys and values": (edit("config.json", text__num_key_value_heads=0), r"num_key_value_heads=0 is no number from 1 to"),
    "heads of nothing": (edit("config.json", text__head_dim=-8), r"head_dim=-8 is no number from 1 to"),
    "frames that are not merged": (edit("config.json", vision__temporal_patch_size=0), r"temporal_patch_size=0 is no number from 1 to"),
    "pooling over all tokens": (modules({"pooling_mode": "mean"}), r"pools by 'mean', not by the last token: .*sentence-transformers"),
    "pooling over all tokens, as it was written before": (
        modules({"pooling_mode_mean_tokens": True, "pooling_mode_lasttoken": False}),
        r"pools by \['pooling_mode_mean_tokens'\], not by the last token",
    ),
    "pooling that does not say how": (modules(None), r"1_Pooling/config.json' cannot be read as JSON \(is missing"),
    "a layer behind the pooling": (
        modules({"pooling_mode": "lasttoken"}, "models.LayerNorm"),
        r"has a module 'LayerNorm' behind the transformer",
    ),
    "a dense layer with a bias and an activation": (
        with_dense({"bias": True, "activation_function": "torch.nn.modules.activation.Tanh"}),
        r"has a module 'Dense' behind the transformer with a bias and Tanh",
    ),
    "a dense layer of defaults": (with_dense({}), r"has a module 'Dense' behind the transformer with a bias and Tanh"),
    "a dense layer with a residual": (
        with_dense({**MATRIX, "use_residual": True}),
        r"has a module 'Dense' behind the transformer with a residual",
    ),
    "two dense layers": (with_dense(MATRIX, MATRIX), r"has a module 'Dense' behind the transformer with a second one"),
    "a dense layer without its weights": (with_dense(MATRIX), r"model.safetensors' is missing: download it again"),
    "modules that are broken": (write("modules.json", "{"), r"modules.json' cannot be read as JSON"),
    "modules of nothing": (write("modules.json", '{"a": 1}'), r"modules.json' is no JSON list"),
    "embedrl.json that is broken": (write("embedrl.json", "{"), r"embedrl.json' cannot be read as JSON"),
    "embedrl.json with an unknown key": (edit("embedrl.json", colour=1), r"embedrl.json': colour: Extra inputs are not permitted"),
    "embedrl.json with a limit of 0": (
        edit("embedrl.json", num_frames="many"),
        r"embedrl.json': num_frames: Input should be a valid integer",
    ),
    "tokenizer.json that is broken": (write("tokenizer.json", "{"), r"cannot be loaded"),
    "no tokenizer": (remove("*token*"), r"tokenizer|cannot be loaded"),
    "no image processor": (remove("*preprocessor_config.json"), r"has no image processor: its files beside the weights|cannot be loaded"),
    "a processor of its own": (
        edit("preprocessor_config.json", image_processor_type="Evil", auto_map={"AutoImageProcessor": "evil.Evil"}),
        r"cannot be loaded",
    ),
    "no chat template": (remove("chat_template*"), r"there is no chat template"),
    "a chat template that is broken": (edit("chat_template.json", chat_template="{% for m in"), r"the chat template cannot be read"),
    "a chat template that fails": (
        edit("chat_template.json", chat_template="{{ raise_exception('no') }}"),
        r"cannot be loaded: TemplateError: no",
    ),
    "a chat template of endless text": (
        edit("chat_template.json", chat_template="{{ 'a' * 10**10 }}"),
        r"could fill the memory or never end",
    ),
    "a chat template of endless loops": (
        edit(
            "chat_template.json",
            chat_template="{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}",
        ),
        r"counts in a loop inside another",
    ),
    "a chat template that doubles a text": (
        edit(
            "chat_template.json",
            chat_template="{% set n = namespace(s='a') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}",
        ),
        r"doubles a text",
    ),
    "a chat template as long as a book": (edit("chat_template.json", chat_template="a" * 300_000), r"300,000 characters; 200,000 at most"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_folder_that_is_not_whole_is_refused_with_its_reason(
    good: Path, case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    change, sentence = BROKEN[case]
    folder = shutil.copytree(good, tmp_path / "model")
    change(folder)
    with pytest.raises(ModelError, match=rf"(?s){sentence}") as raised:
        Embedder.load(folder)
    assert str(folder) in str(raised.value)


FITTING: dict[str, Change] = {
    "as published": lambda folder: None,
    "modules that pool the last token": modules({"pooling_mode": "lasttoken"}, "models.Normalize"),
    "modules as they were written before": modules({"pooling_mode_cls_token": False, "pooling_mode_lasttoken": True}),
    "settings with a byte order mark": lambda folder: (folder / "embedrl.json").write_bytes(
        b"\xef\xbb\xbf" + (folder / "embedrl.json").read_bytes()
    ),
    "in one file": weights(lambda table: table),
    "names without their prefix": renamed("model.", ""),
    "an attention of its own": edit("config.json", _attn_implementation="evil/kernel", text___attn_implementation="evil/kernel"),
}


@pytest.mark.parametrize("case", FITTING)
def test_a_folder_that_is_whole_gives_its_vectors(good: Path, case: str, tmp_path: Path) -> None:
    folder = shutil.copytree(good, tmp_path / "model")
    FITTING[case](folder)
    embedder = Embedder.load(folder)
    assert embedder.model.config._attn_implementation == "sdpa"
    expected = Embedder.load(good).embed(make_items(), [None] * 3)
    assert np.abs(embedder.embed(make_items(), [None] * 3) - expected).max() < 1e-6


def test_what_is_not_read_of_sentence_transformers_settings_is_said(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(good, tmp_path, dirs_exist_ok=True)
    modules({"pooling_mode": "lasttoken"})(tmp_path)
    settings = {"prompts": {"query": "Find: "}, "default_prompt_name": "query", "truncate_dim": 32}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(settings))
    Embedder.load(tmp_path)
    said = capsys.readouterr().err
    assert "the default prompt 'Find: ' of sentence-transformers is not used" in said
    assert "truncate_dim=32 is not applied" in said


def foreign(folder: Path, kind: str) -> Path:
    """Put tiny random weights of another architecture into a folder with all other files of a good one."""
    import transformers

    remove("*.safetensors*")(folder)
    text = {"vocab_size": 320, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    if kind == "text":
        config: Any = transformers.Qwen3Config(**text, num_key_value_heads=2, head_dim=16)
        transformers.Qwen3ForCausalLM(config).save_pretrained(folder)
    else:
        config = transformers.SiglipConfig(
            text_config={**text, "max_position_embeddings": 32}, vision_config={**text, "image_size": 32, "patch_size": 16}
        )
        transformers.SiglipModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("role", [Embedder, LocalReasoner])
def test_another_architecture_is_named_beside_those_that_are_known(good: Path, role: Any, tmp_path: Path) -> None:
    text = foreign(shutil.copytree(good, tmp_path / "text"), "text")
    (text / "embedrl.json").unlink()
    with pytest.raises(ModelError, match=r"architecture 'qwen3', which reads text only; known are .*Qwen3-VL"):
        role.load(text)
    other = foreign(shutil.copytree(good, tmp_path / "other"), "siglip")
    (other / "embedrl.json").unlink()
    with pytest.raises(ModelError, match=r"architecture 'siglip'; known are .*Qwen3-VL"):
        role.load(other)


def test_a_chat_template_in_the_tokenizers_settings_is_read(good: Path, tmp_path: Path) -> None:
    """Where text models keep it."""
    folder = shutil.copytree(good, tmp_path / "model")
    [path] = folder.glob("chat_template*")
    template = json.loads(path.read_text())["chat_template"] if path.suffix == ".json" else path.read_text()
    path.unlink()
    edit("tokenizer_config.json", chat_template=template)(folder)
    items = [make_text_item("a red star")]
    assert np.array_equal(Embedder.load(folder).embed(items, [None]), Embedder.load(good).embed(items, [None]))


@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_quantised_weights_say_which_package_they_need(good: Path, method: str, tmp_path: Path) -> None:
    folder = shutil.copytree(good, tmp_path / "model")
    edit("config.json", quantization_config={"quant_method": method, "bits": 4, "group_size": 128})(folder)
    with pytest.raises(ModelError, match=r"needs a package that is not installed: .*(gptqmodel|optimum)"):
        Embedder.load(folder)


def test_the_folder_of_the_other_role_is_named_as_such(good: Path, tmp_path: Path) -> None:
    """The likeliest slip of all."""
    with pytest.raises(ModelError, match=r"is the folder of a Reasoner: give it as the Reasoner \(--reasoner\)"):
        Embedder.load(shipped("reasoner")["nano"])
    for folder in (shipped("embedder")["nano"], good, write_qwen3_vl_embedding(tmp_path / "Qwen3-VL-Embedding-2B")):
        with pytest.raises(ModelError, match=r"is the folder of an Embedder: give it as the Embedder \(--embedder\)"):
            load_reasoner(str(folder))
    with pytest.raises(ModelError, match="knows no <emb>"):
        Embedder.load(write_instruct(tmp_path / "Qwen3-VL-2B-Instruct"))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ('{"prompts":', "cannot be read as JSON"),
        ('{"prompts": "../../../etc"}', "prompts: .*choose from full, nano"),
        ('{"max_new_tokens": 0}', "max_new_tokens: "),
        ('{"budget": 3}', "budget: "),
    ],
)
def test_settings_of_a_reasoner_are_checked(settings: str, sentence: str, tmp_path: Path) -> None:
    folder = write_instruct(tmp_path / "model")
    (folder / "embedrl.json").write_text(settings, "utf-8")
    with pytest.raises(ModelError, match=sentence):
        LocalReasoner.load(folder)


def test_the_folder_of_a_run_leads_to_its_model(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "run/model")
    with pytest.raises(ModelError, match=r"config.json is missing; it may be a run's folder, whose model is '.*run/model'"):
        Embedder.load(tmp_path / "run")


BROKEN_ADAPTERS: dict[str, tuple[Change, str]] = {
    "a pointer of Git LFS": (write("adapter_model.safetensors", POINTER), r"adapter_model.safetensors is a Git LFS pointer.*git lfs pull"),
    "cut in half": (lambda folder: os.truncate(folder / "adapter_model.safetensors", 4000), r"holds .* of .* bytes|cut off"),
    "empty": (write("adapter_model.safetensors", ""), r"is empty"),
    "no weights": (remove("*.safetensors"), r"adapter_model.safetensors is missing"),
    "a pickle": (
        lambda folder: (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin"),
        r"adapter_model.bin is a pickle",
    ),
    "settings that are broken": (write("adapter_config.json", "{"), r"adapter_config.json' cannot be read as JSON"),
    "settings of nothing": (lambda folder: edit("adapter_config.json", peft_type=None)(folder), r"type 'None': only LoRA is known"),
    "another type": (edit("adapter_config.json", peft_type="IA3"), r"type 'IA3': only LoRA is known"),
    "half of each pair": (
        lambda folder: save_file(
            {
                name: weight
                for name, weight in load_file(folder / "adapter_model.safetensors").items()
                if "layers.1.self_attn.q_proj.lora_B" not in name
            },
            folder / "adapter_model.safetensors",
        ),
        r"1 weights of the adapter are missing: .*layers.1.self_attn.q_proj.lora_B",
    ),
    "no numbers": (
        lambda folder: save_file(
            {name: weight * math.nan for name, weight in load_file(folder / "adapter_model.safetensors").items()},
            folder / "adapter_model.safetensors",
        ),
        r"weights of the adapter hold NaN or infinite numbers",
    ),
}


@pytest.mark.parametrize("case", BROKEN_ADAPTERS)
def test_an_adapter_that_is_not_whole_is_refused_with_its_reason(adapter: Path, case: str, tmp_path: Path) -> None:
    change, sentence = BROKEN_ADAPTERS[case]
    folder = shutil.copytree(adapter, tmp_path / "adapter")
    change(folder)
    with pytest.raises(ModelError, match=rf"(?s){sentence}"):
        Embedder.load(folder)


def test_a_name_changes_with_the_type_of_its_numbers(good: Path) -> None:
    """Vectors in bf16 were taken from the cache of a float32 run."""
    names = {str(dtype): Embedder.load(good, dtype=dtype).fingerprint for dtype in (torch.float32, torch.bfloat16)}
    assert names["torch.bfloat16"] != names["torch.float32"]
    assert "bfloat16" in names["torch.bfloat16"]


def untied(folder: Path) -> Path:
    """Write the layout of Qwen3-VL-8B-Instruct, whose head is not its embedding."""
    text = {**json.loads((write_instruct(folder / "tied") / "config.json").read_text("utf-8"))["text_config"], "tie_word_embeddings": False}
    return write_instruct(folder / "Qwen3-VL-8B-Instruct", seed=3, added=("<emb>",), tie_word_embeddings=False, text_config=text)


def test_a_head_of_its_own_is_kept_by_both_roles(tmp_path: Path) -> None:
    """An Embedder trained from an untied base was saved without its head, and every load made another."""
    base = untied(tmp_path)
    Embedder.load(base).save(tmp_path / "embedder")
    LocalReasoner.load(base).save(tmp_path / "reasoner")
    head = {name: weight for path in shards(base) for name, weight in load_file(path).items()}["lm_head.weight"]
    for saved in ("embedder", "reasoner"):
        assert torch.equal(load_file(tmp_path / saved / "model.safetensors")["lm_head.weight"], head), saved
        model, info = AutoModelForImageTextToText.from_pretrained(tmp_path / saved, output_loading_info=True)
        assert not info["missing_keys"], saved
        assert not torch.equal(model.lm_head.weight, model.get_input_embeddings().weight), saved
    assert Embedder.load(tmp_path / "embedder").dim == 64
    without("lm_head")(base)
    with pytest.raises(ModelError, match=r"has no language model head \(lm_head.weight\): it gives vectors and cannot write"):
        LocalReasoner.load(base)
    assert Embedder.load(base).dim == 64


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")  # of peft, as the adapter is made
@pytest.mark.parametrize("how", ["saved", "target"])
def test_an_adapter_may_bring_a_head(good: Path, how: str, tmp_path: Path) -> None:
    """A Reasoner gets it; an Embedder, which has no use for a head, is the same as without."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    modules = {"modules_to_save": ["lm_head"]} if how == "saved" else {}
    pattern = r".*language_model.*\.(q_proj|v_proj)" + ("|lm_head" if how == "target" else "")
    adapted = get_peft_model(
        AutoModelForImageTextToText.from_pretrained(good, dtype=torch.float32), LoraConfig(r=4, target_modules=pattern, **modules)
    )
    for name, weight in adapted.named_parameters():
        if "lora_B" in name or "modules_to_save" in name:
            torch.nn.init.normal_(weight, std=0.3)
    adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    model, _, _ = load(AutoModelForImageTextToText, tmp_path / "adapter", dtype=torch.float32)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        expected = adapted.eval()(input_ids=ids).logits
        assert (model(input_ids=ids).logits - expected).abs().max() < 1e-4
    shutil.copy(good / "embedrl.json", tmp_path / "adapter")
    assert Embedder.load(tmp_path / "adapter", dtype=torch.float32).dim == 64


def test_an_adapter_of_several_ranks_is_merged_with_each(good: Path, tmp_path: Path) -> None:
    """As EVA writes them: ranks and scales by the full names of modules."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    name = "model.language_model.layers.1.self_attn.q_proj"
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], rank_pattern={name: 2}, alpha_pattern={name: 16})
    adapted = get_peft_model(AutoModelForImageTextToText.from_pretrained(good, dtype=torch.float32), config)
    for key, weight in adapted.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(weight, std=0.3)
    adapted.save_pretrained(tmp_path / "adapter")
    merged = adapted.merge_and_unload().model.state_dict()
    shutil.copy(good / "embedrl.json", tmp_path / "adapter")
    embedder = Embedder.load(tmp_path / "adapter", dtype=torch.float32)
    assert all(torch.allclose(weight, merged[key], atol=1e-5) for key, weight in embedder.model.state_dict().items())


def test_loading_leaves_the_settings_of_the_process_alone(good: Path) -> None:
    transformers_logging.enable_progress_bar()
    before = transformers_logging.get_verbosity(), torch.get_num_threads()
    Embedder.load(good)
    assert transformers_logging.is_progress_bar_enabled()
    assert (transformers_logging.get_verbosity(), torch.get_num_threads()) == before


def test_the_faster_passes_can_be_left_out(good: Path) -> None:
    quick, plain = Embedder.load(good, dtype=torch.float32), Embedder.load(good, dtype=torch.float32, fast=False)
    assert any("forward" in vars(module) for module in quick.model.modules())
    assert not any("forward" in vars(module) for module in plain.model.modules())
    assert np.abs(quick.embed(make_items(), [None] * 3) - plain.embed(make_items(), [None] * 3)).max() < 1e-5
    assert quick.fingerprint == plain.fingerprint
    reasoner = load_reasoner("nano", fast=False)
    assert isinstance(reasoner, LocalReasoner)
    assert not any("forward" in vars(module) for module in reasoner.model.modules())


GENERATION: dict[str, dict[str, Any]] = {
    "beams": {"num_beams": 4},
    "several answers": {"num_beams": 3, "num_return_sequences": 3},
    "an object of outputs": {"return_dict_in_generate": True, "output_scores": True},
    "words that end it": {"stop_strings": ["</thinking>"]},
    "no end before": {"min_length": 500, "min_new_tokens": 40},
    "an end by the total": {"max_length": 5},
    "a second forward pass": {"guidance_scale": 1.5},
    "an algorithm from a hub": {"penalty_alpha": 0.6, "top_k": 4},
    "another one": {"dola_layers": "high"},
}


@pytest.mark.parametrize("case", GENERATION)
def test_a_reasoner_gives_one_answer_whatever_its_folder_says_of_generation(case: str, tmp_path: Path) -> None:
    folder = shutil.copytree(shipped("reasoner")["nano"], tmp_path / "model")
    items = [make_text_item("a red star"), make_text_item("a blue ring on white")]
    expected = LocalReasoner.load(folder).reason(items)
    edit("generation_config.json", **GENERATION[case])(folder)
    reasoner = LocalReasoner.load(folder)
    assert decodes_greedily(reasoner.model) == ("output_scores" not in GENERATION[case] and "max_length" not in GENERATION[case])
    assert reasoner.reason(items) == expected
    reasoner.continuous = False
    assert reasoner.reason(items) == expected


def test_an_answer_ends_where_either_file_says_so_and_a_folder_without_an_end_is_refused(tmp_path: Path) -> None:
    """Without an end every answer was written to the limit, and "None" was taught as the end of answers."""
    folder = shutil.copytree(shipped("reasoner")["nano"], tmp_path / "model")
    item = make_text_item("a red star")
    expected = LocalReasoner.load(folder).reason([item])
    edit("tokenizer_config.json", eos_token=None)(folder)
    reasoner = LocalReasoner.load(folder)
    assert reasoner.reason([item]) == expected
    assert reasoner.processor.tokenizer.eos_token == "<|im_end|>"
    edit("generation_config.json", eos_token_id=None)(folder)
    edit("config.json", eos_token_id=None, text__eos_token_id=None)(folder)
    with pytest.raises(ModelError, match=r"names the token that ends an answer \(eos_token\)"):
        LocalReasoner.load(folder)
    with pytest.raises(ModelError, match="no token that ends an answer"):
        SFTCollator(AutoProcessor.from_pretrained(folder, local_files_only=True))
