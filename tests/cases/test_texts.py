"""Text of any encoding, with damage, with halves of characters, blank, and in names: read, found, and no end of a run.

Reported: one bad byte turned a UTF-8 file into mojibake; other encodings than Western vanished; a lone surrogate ended runs with a
TypeError; one empty document ended an mteb task; `--words` missed names of macOS and of Chinese files (media.md 11 and 12, models.md F13
and F17).
"""

import unicodedata
from pathlib import Path

import pytest

from embedrl.data.sample import Item, Role
from embedrl.embedder.inputs import build
from embedrl.errors import MediaError
from embedrl.index.filter import read_filter
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.query import Selection
from embedrl.index.search import browse
from embedrl.media.content import Text, content_key
from embedrl.media.resize import PAPER_BUDGET
from embedrl.media.store import media_kind
from embedrl.media.text import load_text
from embedrl.reasoner.prompts import CutNotice, rerank_prompt, tcot_prompt
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.conftest import make_random_reasoner, nano_processor

RUSSIAN = "Красная звезда лежит на синем столе. Рядом стоит зелёный куб, а над ними висит лампа.\n"
SIMPLIFIED = "红色的星星在蓝色的桌子上。旁边有一个绿色的立方体，上面挂着一盏灯。\n"
TRADITIONAL = "紅色的星星在藍色的桌子上。旁邊有一個綠色的立方體，上面掛著一盞燈。\n"
JAPANESE = "赤い星が青いテーブルの上にあります。隣には緑の立方体があり、その上にランプが吊るされています。\n"
KOREAN = "빨간 별이 파란 탁자 위에 있습니다. 그 옆에는 초록색 정육면체가 있고 위에는 등이 걸려 있습니다.\n"
POLISH = "Zażółć gęślą jaźń. Czerwona gwiazda leży na niebieskim stole, obok stoi zielony sześcian.\n"
CZECH = "Příliš žluťoučký kůň úpěl ďábelské ódy. Červená hvězda leží na modrém stole.\n"
GREEK = "Το κόκκινο αστέρι βρίσκεται πάνω στο μπλε τραπέζι, δίπλα σε έναν πράσινο κύβο.\n"
HEBREW = "הכוכב האדום נמצא על השולחן הכחול, ליד קובייה ירוקה.\n"
ARABIC = "النجمة الحمراء على الطاولة الزرقاء بجانب مكعب أخضر.\n"
THAI = "ดาวสีแดงอยู่บนโต๊ะสีน้ำเงิน ข้างๆ มีลูกบาศก์สีเขียว\n"
GERMAN = "Der rote Stern liegt auf dem blauen Tisch, daneben ein grüner Würfel für die Größe. Straße, Äpfel.\n"
FRENCH = "L'étoile rouge est posée sur la table bleue, à côté d'un cube vert. Ça a été réglé en août, là-bas où…\n"
SPANISH = "¿Dónde está la estrella roja? ¡Está sobre la mesa azul, señor! El niño comió piñas.\n"


@pytest.mark.parametrize("repeats", [1, 60, 1500])
@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        *[(RUSSIAN, name) for name in ("cp1251", "koi8_r", "iso8859_5", "cp866", "utf-16-le", "utf-16-be", "utf-8")],
        *[(SIMPLIFIED, name) for name in ("gbk", "gb18030", "utf-16-le")],
        *[(TRADITIONAL, name) for name in ("big5", "utf-16-be")],
        *[(JAPANESE, name) for name in ("shift_jis", "euc_jp", "iso2022_jp", "utf-16-le")],
        *[(KOREAN, name) for name in ("euc_kr", "utf-16-le")],
        *[(text, name) for text in (POLISH, CZECH) for name in ("iso8859_2", "cp1250")],
        *[(GREEK, name) for name in ("iso8859_7", "cp1253")],
        *[(HEBREW, "cp1255"), (ARABIC, "cp1256"), (THAI, "cp874")],
        *[(text, name) for text in (GERMAN, SPANISH) for name in ("latin-1", "cp1252")],
        *[(FRENCH, name) for name in ("cp1252", "utf-16-le")],
    ],
)
def test_a_text_reads_the_same_in_every_encoding(tmp_path: Path, text: str, encoding: str, repeats: int):
    if repeats == 1 and encoding == "koi8_r":
        pytest.skip("a line is too little to tell")
    path = tmp_path / "letter.txt"
    path.write_bytes((text * repeats).encode(encoding))
    assert media_kind(path) == "text"
    assert load_text(path) == text * repeats


@pytest.mark.parametrize("bad", [b"\xe9", b"\xff", b"\xc3", b"\xe6\x9d"])
@pytest.mark.parametrize("where", ["end", "middle"])
def test_one_bad_byte_is_one_replacement(tmp_path: Path, bad: bytes, where: str):
    text = "café, naïve, 東京の写真。\n" * 50
    data = text.encode()
    path = tmp_path / "letter.txt"
    at = data.index("東".encode(), len(data) // 2)
    path.write_bytes(data + bad + b"\n" if where == "end" else data[:at] + bad + data[at:])
    read = load_text(path)
    assert read.count("\ufffd") == 1
    assert read.replace("\ufffd", "").strip() == text.strip()


def test_a_zero_byte_in_a_text_does_no_harm(tmp_path: Path):
    path = tmp_path / "log.txt"
    path.write_bytes(b"the red star\n" * 30 + b"\0" + b"the blue star\n" * 30)
    assert media_kind(path) == "text"
    assert load_text(path) == "the red star\n" * 30 + "the blue star\n" * 30


def test_what_is_no_text_is_still_refused(tmp_path: Path):
    path = tmp_path / "data.txt"
    path.write_bytes(bytes(range(256)) * 16)
    with pytest.raises(MediaError, match="named like a text"):
        media_kind(path)
    with pytest.raises(MediaError, match="binary"):
        load_text(path)
    path.write_bytes(b" \n\t \n")
    with pytest.raises(MediaError, match="holds no text"):
        load_text(path)


def test_halves_of_characters_end_at_the_gate():
    assert Text(text="a star \ud83d").text == "a star \ufffd"
    assert Text(text="a star \ud83d\ude00").text == "a star \U0001f600"
    assert content_key((Text(text="größe 尺寸"),)) == content_key((Text.model_validate({"text": "größe 尺寸"}),))
    item = Item(content=(Text(text="red \udcff star"),), instruction="Find \ud83d it.", role=Role.TARGET_TEXT)
    tokenizer = nano_processor().tokenizer
    for message in (
        build(item, None, PAPER_BUDGET, 32).messages[-1],
        tcot_prompt(item, "nano", PAPER_BUDGET, 32).messages[-1],
    ):
        for part in message["content"]:
            assert tokenizer(part.get("text", "")).input_ids is not None
            assert part.get("text", "").encode("utf-8") is not None


def test_text_that_a_reasoner_does_not_read_is_said_once(capsys: pytest.CaptureFixture[str]):
    """The text of an item ended at 2,000 characters without a word."""
    long, short = (Item(content=(Text(text="word " * count),), role=Role.TARGET_TEXT) for count in (401, 400))
    notice = CutNotice("this Reasoner")
    for item, warnings in ((short, 0), (long, 1), (long, 0)):
        prompt = tcot_prompt(item, "nano", PAPER_BUDGET, 32)
        assert prompt.is_cut is (item is long)
        notice.check([prompt], PAPER_BUDGET)
        said = capsys.readouterr().err
        assert said.count("text behind 2,000 characters of an item is not seen: all that this Reasoner reads") == warnings
    reasoner = make_random_reasoner()
    reasoner.reason([long])
    assert "2,000 characters" in capsys.readouterr().err
    assert rerank_prompt((short, None), (long, None), PAPER_BUDGET, 32).is_cut


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = tmp_path_factory.mktemp("named")
    names = {
        "写真の猫.txt": "a cat",
        unicodedata.normalize("NFD", "café crème.txt"): "a cup",
        "IMG_2034-holiday.md": "a beach",
        unicodedata.normalize("NFD", "plain.txt"): unicodedata.normalize("NFD", "déjà vu"),
    }
    for name, text in names.items():
        (folder / name).write_text(text, "utf-8")
    embedder = FakeEmbedder()
    index = Index.open(folder, embedder=embedder)
    ingest(folder, index, FakeReasoner(), embedder)
    return index


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("写真", "写真の猫"),
        ("猫", "写真の猫"),
        ("写真の猫.txt", "写真の猫"),
        ("café", "café crème"),
        (unicodedata.normalize("NFD", "CRÈME"), "café crème"),
        ("2034", "IMG_2034-holiday"),
        ("IMG_2034-holiday.md", "IMG_2034-holiday"),
        ("holiday", "IMG_2034-holiday"),
        ("déjà", "plain"),
    ],
)
def test_words_find_names_and_texts_however_they_are_written(named: Index, word: str, name: str):
    found = [unicodedata.normalize("NFC", place.path.stem) for place in named.places([word])]
    assert found == [name]


def test_an_empty_document_does_not_end_a_task():
    mteb = pytest.importorskip("mteb")
    from embedrl.integrations.mteb import BLANK, MTEBEncoder

    encoder = MTEBEncoder(FakeEmbedder())
    task = mteb.get_task("SciFact").metadata
    vectors = encoder.encode([{"text": ["a red star", "", "  ", "half \ud83d"]}], task_metadata=task)
    assert vectors.shape[0] == 4
    alone = encoder.encode([{"text": [BLANK]}], task_metadata=task)
    assert vectors[1].tolist() == alone[0].tolist()
    assert vectors[2].tolist() == alone[0].tolist()


def test_half_a_character_among_the_words_of_a_filter_is_in_no_item_and_blames_no_index(tmp_path: Path):
    """It ended in the advice to delete the index."""
    (tmp_path / "a.txt").write_text("a red star", "utf-8")
    index = Index.open(tmp_path, embedder=FakeEmbedder())
    ingest(tmp_path, index, None, FakeEmbedder(), think=False)
    chosen = read_filter(words="red \udcff", under="\udcff", camera="\ud83d")
    assert chosen.words == ("red", "\N{REPLACEMENT CHARACTER}")
    assert browse(index, Selection(filter=read_filter(words="red \ud83d"))).hits == ()
    assert browse(index, Selection(filter=chosen)).hits == ()
    assert len(browse(index, Selection(filter=read_filter(words="red"))).hits) == 1


@pytest.mark.parametrize("key", ["'", "' OR 1=1 --", "\ud83d", "", "é", "%", "a'b"])
def test_what_is_no_key_is_in_no_index(key: str, tmp_path: Path):
    (tmp_path / "a.txt").write_text("a red star", "utf-8")
    index = Index.open(tmp_path, embedder=FakeEmbedder())
    ingest(tmp_path, index, None, FakeEmbedder(), think=False)
    [row] = index.rows([next(index.places()).key, key])
    assert index.rows([key]) == []
    assert index.places_of([key]) == []
    assert index.vectors([key], "plain") == {}
    assert list(index.vectors([key, row.place.key], "plain")) == [row.place.key]
