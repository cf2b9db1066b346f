import subprocess
import sys

import numpy as np

from embedrl.data.protocols import Embeds, Judges, Reasons
from embedrl.data.sample import Item, Role
from embedrl.data.tcot import ParseFailure, TCoT, parse, render
from embedrl.media.content import Frames, Image, Text, Video
from embedrl.testing import FakeEmbedder, FakeJudge, FakeReasoner
from tests.coloured_folder import picture

TEXT = Item(content=(Text(text="a letter from the elephant"),), role=Role.TARGET_TEXT)
RED = Item(content=(Image(pixels=picture("red")),), role=Role.TARGET_IMAGE)
CLIP = Item(content=(Video(frames=Frames((picture("green"), picture("blue"), picture("blue")), (0.0, 0.5, 1.0))),), role=Role.TARGET_VIDEO)


def answer(text: str) -> TCoT:
    return TCoT(thinking="t", rethink="r", answer=text)


def test_fakes_play_their_roles():
    assert isinstance(FakeReasoner(), Reasons)
    assert isinstance(FakeEmbedder(), Embeds)
    assert isinstance(FakeJudge(), Judges)


def test_the_reasoner_says_what_is_there():
    reasoner = FakeReasoner(fail_keys=[TEXT.key])
    text, red, clip = reasoner.reason([TEXT, RED, CLIP])
    assert isinstance(text, ParseFailure)
    assert isinstance(red, TCoT)
    assert isinstance(clip, TCoT)
    assert (red.answer, clip.answer) == ("a red picture", "a blue clip")
    assert red.evidence.boxes == ((250, 250, 750, 750),)
    assert clip.evidence.key_frames == (2,)
    assert all(parse(render(tcot)) == tcot for tcot in (red, clip))
    assert FakeReasoner().reason([TEXT])[0] == FakeReasoner().reason([TEXT])[0]
    assert reasoner.reasoned[RED.key] == 1


def test_vectors_mean_something_and_never_change():
    embedder, (thought,) = FakeEmbedder(), FakeReasoner().reason([RED])
    assert isinstance(thought, TCoT)
    plain, tcot, query, other = embedder.embed(
        [RED, RED, TEXT.model_copy(update={"content": (Text(text="something red"),)}), TEXT], [None, thought, None, None]
    )
    assert plain.dtype == np.float32
    assert np.allclose(np.linalg.norm([plain, tcot, query, other], axis=1), 1)
    assert tcot @ query > plain @ query > 0
    assert tcot @ query > tcot @ other
    assert (FakeEmbedder().embed([RED], [None])[0] == plain).all()
    assert embedder.embed([], []).shape == (0, 64)


def test_the_judge_compares_words():
    judge = FakeJudge()
    star = answer("a red star")
    assert judge.match([(star, answer("the red star")), (star, answer("a blue disc"))]) == [True, False]
    assert judge.pick([(star, [answer("blue star"), star, answer("red")]), (star, [answer("blue")])]) == [1, None]


def test_fakes_need_no_torch():
    code = f"import sys; sys.path[:0] = {sys.path!r}; import embedrl.testing; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
