"""What the nano models are taught: labels of visual tokens checked by hand, examples that repeat."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from embedrl.errors import ConfigError
from embedrl.models.names import resolve_start, shipped
from embedrl.nano.data import SFTExamples
from embedrl.nano.vision import HEADS, WORDS, VisionProbe, directions, label_grid, label_page
from embedrl.world.annotator import REMARKS
from embedrl.world.objects import COLOURS, SHAPES, Thing
from embedrl.world.pages import PageSpec
from tests.conftest import nano_processor, tiny_config

INDEX = {name: number for number, name in enumerate(HEADS)}


def test_tokens_under_a_thing_say_what_it_is() -> None:
    labels = label_grid((Thing("star", "blue", "large", 4),), 3, 6, 6)
    assert labels.shape == (6, 6, len(HEADS))
    shown = labels[..., INDEX["shape"]] > 0
    assert shown[2:4, 2:4].all()
    assert shown.sum() == 4
    assert set(labels[shown][:, INDEX["colour"]]) == {1 + list(COLOURS).index("blue")}
    assert set(labels[shown][:, INDEX["shape"]]) == {1 + SHAPES.index("star")}
    assert (labels[..., INDEX["word"]] == 0).all()


def test_every_token_knows_its_place() -> None:
    labels = label_grid((), 3, 6, 4)
    assert labels[:, 0, INDEX["row"]].tolist() == [1, 2, 3, 5, 6, 7]
    assert labels[0, :, INDEX["column"]].tolist() == [1, 3, 5, 7]


def test_tokens_under_print_say_the_word() -> None:
    labels = label_page(PageSpec("chart", "tea", (("oslo", "low"), ("lima", "top"), ("paris", "mid"))), 8, 6)
    words = labels[..., INDEX["word"]]
    assert words[0, 0] == 1 + WORDS.index("tea")
    assert {WORDS[number - 1] for number in np.unique(words[words > 0])} == {"tea", "chart", "oslo", "lima", "paris"}
    assert (labels[..., INDEX["bar"]] > 0).any()


def test_answers_come_first_then_what_the_annotator_writes() -> None:
    examples = SFTExamples(0, 60, 2, num_answers=20)
    texts = [examples[index].completion for index in range(120)]
    assert not any("<thinking>" in text for text in texts[:40])
    assert {bool(examples[index].prompt.images) for index in range(40)} == {True, False}, "pictures are read, and texts"
    tcots = [text for text in texts[40:] if "<thinking>" in text]
    remarked = [any(remark in text for remark in REMARKS) for text in tcots]
    assert len(tcots) >= 50
    assert any(remarked)
    assert not all(remarked)
    assert set(texts[40:]) - set(tcots) <= {"yes", "no", "1", "2", "3", "4", "5", "6"}


def test_some_of_the_later_batches_teach_to_read() -> None:
    examples = SFTExamples(0, 200, 1, num_answers=20, answer_share=0.35)
    later = [examples[index] for index in range(20, 200)]
    asked = [str(example.prompt.messages) for example in later]
    readings = [example for example, text in zip(later, asked, strict=True) if "Answer only." in text]
    assert 0.2 < len(readings) / len(later) < 0.5
    assert not any("<thinking>" in example.completion for example in readings)
    assert all(str(examples[index].prompt.messages).count("Answer only.") == 1 for index in range(20)), "and all of the first"


def test_what_happens_in_a_clip_is_read_with_its_frame() -> None:
    examples = SFTExamples(0, 100, 1, num_answers=100)
    clips = [example.completion for index in range(100) if len((example := examples[index]).prompt.images) > 1]
    assert len(clips) > 20
    for answer in clips:
        frames = [int(told.rsplit(" ", 1)[1]) for told in answer.split(", ")]
        assert frames == sorted(frames)
        assert set(frames) <= {2, 3, 6, 7}


def test_heads_point_along_the_words_and_only_the_angle_counts() -> None:
    tokenizer = nano_processor().tokenizer
    embeddings = torch.randn(len(tokenizer), 192, generator=torch.Generator().manual_seed(0))
    heads = directions(embeddings, tokenizer)
    star = embeddings[tokenizer(" star")["input_ids"][0]]
    assert torch.allclose(heads["shape"][SHAPES.index("star")], star / star.norm())
    assert len(heads["row"]) == 8
    looker = VisionProbe(tiny_config().vision_config, heads)
    seen = torch.stack([7 * star, 0.1 * star])
    looker.tower.forward = lambda *_, **__: SimpleNamespace(pooler_output=seen)  # ty: ignore
    scores = looker(None, None)["shape"]
    assert scores.argmax(1).tolist() == [1 + SHAPES.index("star")] * 2
    assert torch.allclose(scores[0], scores[1])


def test_an_example_depends_on_seed_and_index_only() -> None:
    first, again, other = SFTExamples(0, 8, 2), SFTExamples(0, 8, 2), SFTExamples(1, 8, 2)
    assert [first[i].completion for i in range(16)] == [again[i].completion for i in reversed(range(16))][::-1]
    assert [first[i].completion for i in range(16)] != [other[i].completion for i in range(16)]


def test_a_training_starts_from_a_shipped_name_a_folder_or_says_which_there_are(tmp_path: Path) -> None:
    """Recipes named folders of the source tree, which who installed the package has not."""
    assert resolve_start("nano-sft", "embedder", "reasoner") == shipped("reasoner")["nano-sft"]
    assert resolve_start(Path("nano"), "embedder", "reasoner") == shipped("embedder")["nano"]
    assert resolve_start("nano", "reasoner") == shipped("reasoner")["nano"]
    assert resolve_start(tmp_path, "reasoner") == tmp_path
    with pytest.raises(ConfigError, match=r"start_from='nano-stf': not a folder, nor one of nano, nano-sft, nano-judge, .*a hub id"):
        resolve_start("nano-stf", "reasoner")
