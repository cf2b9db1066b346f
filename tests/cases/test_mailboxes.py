"""Archives of mail and texts with front matter were one long text with the date of the copy (issue 23, 3)."""

import mailbox
import shutil
from base64 import b64encode
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from email.message import EmailMessage
from pathlib import Path

import pytest

from embedrl.index.filter import Filter
from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.index.ingest_report import IngestReport
from embedrl.index.query import Query
from embedrl.index.search import search
from embedrl.media.decode import read_metadata
from embedrl.media.mail import mails_of
from embedrl.media.store import Limits
from embedrl.testing import FakeEmbedder

MAILS = (
    ("Picnic", "Mon, 01 Jul 2019 10:00:00 +0200", "From there we walk.\n\nFrom the bridge to the lake.\n"),
    ("Invoice", "Tue, 02 Jul 2019 10:00:00 +0200", "word " * 600),
    ("Größe", "no date at all", "<p>See the <b>zebra</b>.</p>"),
)


def mail(subject: str, sent: str, body: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"], message["Date"] = "Ann <ann@example.org>", "bob@example.org", subject, sent
    message.set_content(body, subtype="html" if body.startswith("<") else "plain")
    return message


def write_mailbox(path: Path, mails: Sequence[tuple[str, str, str]]) -> None:
    with closing(mailbox.mbox(path)) as box:
        for subject, sent, body in mails:
            box.add(mail(subject, sent, body))


def take_in(folder: Path, limits: Limits | None = None) -> IngestReport:
    return ingest(folder, Index.open(folder, embedder=FakeEmbedder()), None, FakeEmbedder(), think=False, limits=limits)


@pytest.mark.parametrize("name", ["archive.mbox", "Inbox"])
def test_each_mail_of_a_mailbox_is_found_with_its_own_date_and_subject(tmp_path: Path, name: str):
    write_mailbox(tmp_path / name, MAILS)
    report = take_in(tmp_path)
    assert report.failures == ()
    index = Index.open(tmp_path)
    places = sorted(index.places(), key=lambda place: place.position)
    assert [place.about.split("\n")[0] for place in places] == ["Picnic", *["Invoice"] * (len(places) - 2), "Größe"]
    assert len(places) > 3, "a long mail has several passages"
    assert all(place.about.endswith("Ann <ann@example.org>") for place in places)
    sent = datetime.fromisoformat("2019-07-01T10:00:00+02:00").timestamp()
    assert (places[0].captured_s, places[0].captured_from) == (sent, "mail")
    assert (places[-1].captured_s, places[-1].captured_from) == (None, None)
    texts = {row.place.unit: row.text for row in index.rows([place.key for place in places])}
    assert "From there we walk." in texts[1]
    assert "Where" not in texts[1]
    assert "See the zebra." in texts[len(places)]
    hits = search(index, Query(unit="unit", filter=Filter(words=("picnic",)))).hits
    assert [hit.unit for hit in hits] == [1]


def test_a_new_mail_is_all_that_is_embedded(tmp_path: Path):
    write_mailbox(tmp_path / "archive.mbox", MAILS)
    before = take_in(tmp_path).added
    write_mailbox(tmp_path / "archive.mbox", [("Later", "Wed, 03 Jul 2019 10:00:00 +0200", "One more.")])
    report = take_in(tmp_path)
    assert (report.added, report.reused) == (1, before)


def test_a_mailbox_with_too_many_words_is_listed_with_what_to_do(tmp_path: Path):
    write_mailbox(tmp_path / "archive.mbox", MAILS)
    report = take_in(tmp_path, Limits(max_text_chars=100))
    assert [failure.reason for failure in report.failures] == ["its mails are longer than 10 times max_text_chars=100; divide it"]


@pytest.mark.parametrize(
    "text",
    [
        '---\ntitle: "My garden"\ndate: 2018-04-05\ntags: [tulips, "red bulbs"]  \nauthor: Ann # me\n---\n# Spring\n',
        "---\ntitle: My garden\ncreated: 2018-04-05 12:00\ntags:\n  - tulips\n  - red bulbs\nauthor: 'Ann'\n...\nText\n",
        '+++\ntitle = "My garden"\ndate = 2018-04-05\ntags = ["tulips", "red bulbs"]\nauthor = "Ann"\n+++\nText\n',
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_front_matter_says_when_and_about_what_a_text_was_written(tmp_path: Path, text: str, line_end: str):
    (tmp_path / "post.md").write_bytes(text.replace("\n", line_end).encode())
    metadata = read_metadata(tmp_path / "post.md", "text")
    assert (metadata.captured_s, metadata.captured_from) == (datetime(2018, 4, 5, 12).timestamp(), "front_matter")
    assert sorted(metadata.about.split("\n")) == ["Ann", "My garden", "red bulbs", "tulips"]


@pytest.mark.parametrize(
    "text", ["---\n\nA rule\n\n---\n", "--- a/file.py\n+++ b/file.py\n", "no front matter\n", "---\ntitle: never ends\n"]
)
def test_what_is_no_front_matter_says_nothing(tmp_path: Path, text: str):
    (tmp_path / "a.txt").write_text(text)
    metadata = read_metadata(tmp_path / "a.txt", "text")
    assert (metadata.captured_s, metadata.about, metadata.damaged) == (None, "", ())


def test_front_matter_that_is_damaged_is_told(tmp_path: Path):
    (tmp_path / "a.md").write_text("+++\ntitle = \n+++\nText\n")
    assert read_metadata(tmp_path / "a.md", "text").damaged == ("front matter",)
    assert take_in(tmp_path).damaged_metadata == {"front matter": 1}


def test_a_mailbox_that_moves_is_not_embedded_again(tmp_path: Path):
    write_mailbox(tmp_path / "archive.mbox", MAILS)
    take_in(tmp_path)
    shutil.move(tmp_path / "archive.mbox", tmp_path / "old.mbox")
    assert take_in(tmp_path).added == 0


def test_a_mail_that_cannot_be_read_takes_no_other_with_it(tmp_path: Path):
    start = "From a@b Mon Jan  1 00:00:00 2020\nFrom: a@b\nSubject: {}\n"
    binary = "Content-Transfer-Encoding: base64\n\n" + b64encode(bytes(range(256))).decode()
    mails = [start.format("Broken") + binary, start.format("Odd") + "Content-Disposition: a=*b[\n\nhello"]
    mails += [start.format("Codec") + 'Content-Type: text/plain; charset="undefined"\n\nreadable', start.format("Last") + "\nFrom here on."]
    (tmp_path / "a.mbox").write_text("\n\n".join(mails))
    report = take_in(tmp_path)
    assert (report.failures, report.added) == ((), 4)
    texts = [row.text for row in Index.open(tmp_path).rows([place.key for place in Index.open(tmp_path).places()])]
    assert sum("From: a@b" in text for text in texts) == 4
    assert sum("Broken" in text and "not read: is binary" in text for text in texts) == 1
    assert sum("readable" in text for text in texts) == 1
    assert sum("From here on." in text for text in texts) == 1, "the last line"


@pytest.mark.parametrize("written", ["Mon, 9999999999999999999 Jan 2020 00:00:00 +0000", "Mon, 1 Jan 2020 00:00:00 +99999999999999999999"])
def test_a_mail_s_date_with_impossible_numbers_is_none(tmp_path: Path, written: str):
    (tmp_path / "a.mbox").write_text(f"From a@b Mon Jan  1 00:00:00 2020\nX-Header: 1\n\nDate: {written}\n\nSubject {'x' * 5000}\n")
    report = take_in(tmp_path)
    assert (report.failures, report.damaged_metadata) == ((), {})
    assert {place.captured_s for place in Index.open(tmp_path).places()} == {None}


def test_what_a_mail_is_about_is_kept_within_bounds():
    [mail] = mails_of(f"# {'word ' * 100_000}\n\nFrom: a@b\n\nhello")
    assert len(mail.about) <= 2000
    assert mail.about.endswith("\na@b")
