"""What the nano judge is taught, and that it learns."""

import random
from pathlib import Path

import torch

from embedrl.config import METRICS, Metrics, read_metrics
from embedrl.nano.judge import collate, draw_question, losses, train_judge
from embedrl.nano.recipes import JudgeRecipe
from embedrl.world.annotator import REMARKS
from tests.conftest import make_random_reasoner, nano_processor


def test_a_question_has_one_right_answer_that_its_rivals_do_not_give_away() -> None:
    rng = random.Random(0)
    places, middle = set(), 0
    for _ in range(60):
        (anchor, shown), place = draw_question(rng, "train", num_rivals=4, hard_share=1.0, whole=True)
        assert len(shown) == 5
        assert len({tcot.answer for tcot in shown}) == 5
        places.add(place)

        def words_apart(number: int, shown=shown) -> int:
            mine = set(shown[number].answer.split())
            return sum(len(mine ^ set(other.answer.split())) for other in shown)

        middle += words_apart(place) == min(map(words_apart, range(5)))
        assert anchor.answer
    assert places == {0, 1, 2, 3, 4}
    assert middle < 45, "the right one is not the one that all rivals were made from"


def test_whole_tcots_have_no_remarks_and_the_annotators_do() -> None:
    def remarked(*, whole: bool) -> int:
        rng = random.Random(1)
        questions = [draw_question(rng, "train", num_rivals=2, hard_share=0.5, whole=whole)[0] for _ in range(20)]
        return sum(any(remark in anchor.thinking for remark in REMARKS) for anchor, _ in questions)

    assert remarked(whole=True) == 0
    assert remarked(whole=False) > 10


def test_verdicts_stand_at_the_end_of_each_line_and_of_the_question() -> None:
    processor = nano_processor()
    tokenizer = processor.tokenizer
    rng = random.Random(2)
    questions = [draw_question(rng, "train", num_rivals=number, hard_share=0.5, whole=True) for number in (1, 4)]
    batch = collate(processor, questions)
    for row, ((_, shown), place) in enumerate(questions):
        due = torch.nonzero(batch.answers[row] != -100).flatten().tolist()
        said = [tokenizer.decode([batch.answers[row, at]]) for at in due]
        words = [*("yes" if number == place else "no" for number in range(len(shown))), str(place + 1)]
        assert len(said) == len(words)
        assert all(word.startswith(start) for word, start in zip(words, said, strict=True))
        assert due[-1] == batch.last[row]
        assert batch.mask[row].sum() - 1 == batch.last[row]
        for at, tcot in zip(due, shown, strict=False):
            assert tokenizer.decode(batch.ids[row, : at + 1]).endswith(f": {tcot.answer}")


def test_a_judge_learns(tmp_path: Path) -> None:
    judge = make_random_reasoner()
    rng = random.Random(3)
    batch = collate(judge.processor, [draw_question(rng, "train", num_rivals=1, hard_share=0.0, whole=True) for _ in range(8)])

    def loss() -> float:
        with torch.no_grad():
            return sum(part.item() for part in losses(judge.model, batch)[:3])

    before, tower = loss(), judge.model.model.visual.patch_embed.proj.weight.detach().clone()
    recipe = JudgeRecipe(out=tmp_path, start_from=Path(), num_batches=6, batch_size=4, warmup=1)
    train_judge(judge.model, judge.processor, recipe, Metrics(tmp_path / METRICS))
    assert loss() < before - 0.5
    assert torch.equal(tower, judge.model.model.visual.patch_embed.proj.weight)
    assert {"judge/loss", "judge/lines", "judge/words", "judge/right"} <= set(read_metrics(tmp_path / METRICS)[0])
    (anchor, shown), _ = draw_question(rng, "test", num_rivals=3, hard_share=0.0, whole=True)
    assert judge.pick([(anchor, shown)])[0] in range(4)
