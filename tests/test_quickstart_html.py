"""The HTML report: self-contained, escaped, with the evidence on the media."""

import re
from html.parser import HTMLParser

import numpy as np
import PIL.Image

from embedrl.data.evidence import Verification
from embedrl.data.sample import Item, Role
from embedrl.data.tcot import Evidence, TCoT
from embedrl.evaluation.evaluate import FIGURES, SystemResult, TaskResult
from embedrl.evaluation.report import Report, make_report
from embedrl.media.content import Frames, Image, Page, Text, Video
from embedrl.reports.cards import Search, Side, search_card
from embedrl.reports.html import render_html

EVIL = "<script>alert(1)</script>\"'&"


def report(*names: str) -> Report:
    systems = []
    for step, name in enumerate(names):
        columns = {figure: np.full(40, np.nan) for figure in FIGURES}
        columns["hit@1"] = np.repeat([1.0, 0.0], [10 + 15 * step, 30 - 15 * step])
        if name != "plain":
            columns |= {"tcot_valid": np.ones(40), "tcot_tokens": np.full(40, 61.0), "evidence/box_iou50": np.full(40, 0.5)}
        systems.append(SystemResult(name, (TaskResult(f"task {EVIL}", "image", 256, tuple(map(str, range(40))), (), columns),), {}, 1.0))
    return make_report(systems, seed=7, seconds=12.0, num_resamples=200)


def tcot(answer: str = "a red star", **evidence: object) -> TCoT:
    return TCoT(thinking="I look for it.", evidence=Evidence(**evidence), rethink="It is there.", answer=answer)


def picture(colour: str = "red") -> PIL.Image.Image:
    return PIL.Image.new("RGB", (60, 40), colour)


def query(text: str = "a red star", **evidence: object) -> Side:
    return Side(Item(content=(Text(text=text),), role=Role.QUERY_TEXT_TO_IMAGE), tcot(**evidence))


def hit(*parts: object, **options: object) -> Side:
    return Side(Item(content=parts, role=Role.TARGET_IMAGE), score=0.91, **options)


class Tags(HTMLParser):
    """Checks that every tag is closed in order, and collects the attributes that could fetch something."""

    VOID = frozenset({"meta", "img", "rect", "line", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe"), tag
        assert not any(name.startswith("on") for name, _ in attrs)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_is_well_formed_and_fetches_nothing():
    searches = [
        Search(
            "Text to image",
            query(EVIL),
            (hit(Image(pixels=picture()), tcot=tcot(EVIL, keywords=(EVIL,)), verification=Verification(keywords=(False,)), name=EVIL),),
        )
    ]
    page = render_html(report("plain", "before_rl", "ceiling"), searches, about=EVIL)
    tags = Tags()
    tags.feed(page)
    assert not tags.open
    assert tags.sources
    assert all(source.startswith("data:image/webp;base64,") for source in tags.sources)
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert "@import" not in page
    assert page.count("&lt;script&gt;") >= 5
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_the_lead_says_what_the_figures_say():
    lead = re.sub(r"<[^>]+>", "", render_html(report("plain", "before_rl", "ceiling")).split('<p class="lead">')[1].split("</p>")[0])
    assert lead.startswith("Embedded as they are, 25.0 % of all queries find their target first.")
    assert "before RL, 62.5 % do: +37.5 points (95 % interval" in lead
    assert "no clear difference" not in lead
    assert lead.endswith("100.0 % do.")


def test_the_lead_does_not_call_noise_a_gain():
    same = report("plain", "before_rl")
    same["differences"]["before_rl-plain"]["overall"]["hit@1"] = {"value": -0.01, "ci95": [-0.05, 0.03]}
    page = render_html(same)
    assert "\u22121.0 points" in page
    assert "which is no clear difference" in page


def test_the_page_leads_with_what_this_run_trained_and_ends_with_what_comes_next():
    curve = [{"step": float(step), "rl/reward": step / 10} for step in range(1, 6)]
    following = [("look at it", "embedrl serve --index library")]
    figures = report("plain", "before_rl", "live_rl")
    page = render_html(figures, curve=curve, trained=("before_rl", "live_rl"), cases=["<b>a case</b>"], following=following)
    lead = re.sub(r"<[^>]+>", "", page.split('<p class="lead">')[1].split("</p>")[0])
    assert lead.startswith("This run trained the Reasoner for 5 steps. With its T-CoTs from before, 62.5 % of all queries")
    assert "with those from after, 100.0 %: +37.5 points" in lead
    assert "The same query, before and after" in page
    assert "Nothing that is measured here fell." in page
    for axis in (
        "<span>step 1</span><span>5</span>",
        "<span>0.5</span><span>0.1</span>",
        "<span>100 % of queries</span>",
        "reward, no unit",
    ):
        assert axis in page
    assert page.index("embedrl serve --index library") > page.index("What got worse")


def test_what_got_worse_is_said():
    figures = report("plain", "before_rl", "live_rl")
    systems = figures["systems"]
    for group in (systems["live_rl"]["overall"], *systems["live_rl"]["tasks"].values()):
        group["hit@1"]["value"], group["evidence"]["box_iou50"]["value"] = 0.5, 0.25
    page = render_html(figures, trained=("before_rl", "live_rl"))
    worse = re.sub(r"<[^>]+>", " ", page.split("What got worse")[1].split("</table>")[0])
    assert re.search(r"hit@1, task.*62\.5 %\s+50\.0 %\s+\u221212\.5", worse)
    assert re.search(r"T-CoTs: boxes right\s+50\.0 %\s+25\.0 %\s+\u221225\.0", worse)
    assert "length" not in worse


def test_systems_of_any_name_and_a_single_one_are_shown():
    page = render_html(report("mine"))
    assert "mine" in page
    assert "What it finds" not in page


def test_bars_are_as_long_as_their_figures():
    page = render_html(report("plain", "before_rl"))
    assert '<rect class="fill plain" y="3" width="25.00%"' in page
    assert 'aria-label="no T-CoT: 25.0 %, 95 % interval' in page


def test_boxes_are_drawn_and_unverified_evidence_is_badged():
    sure = hit(Image(pixels=picture()), tcot=tcot(boxes=((100, 200, 400, 700),)))
    boxes = ((0, 0, 500, 500), (100, 200, 1400, 700))
    unsure = hit(Page(pixels=picture()), tcot=tcot(boxes=boxes), verification=Verification(boxes=(True, False)))
    card = search_card(Search("Text to image", query(), (sure, unsure)))
    assert '<rect class="box" x="100" y="200" width="300" height="500"/>' in card
    assert card.count('class="box unsure"') == 1
    assert card.count("not inside the picture") == 1
    assert "box 2: not inside the picture<" in card


def test_key_frames_stand_out_with_their_times():
    frames = Frames(tuple(picture(colour) for colour in ("red", "blue", "green")), (0.0, 0.5, 1.0))
    card = search_card(Search("Text to video", query(), (hit(Video(frames=frames), tcot=tcot(key_frames=(2,))),)))
    assert card.count("<figcaption>") == 3
    assert re.findall(r'<figure class="key">.*?<figcaption>(.*?)</figcaption>', card) == ["0.5 s"]


def test_keywords_are_marked():
    card = search_card(Search("t", query("a red star, red & blue", keywords=("red", "red star")), ()))
    assert '<p class="asked">a <mark>red star</mark>, <mark>red</mark> &amp; blue</p>' in card
    assert "Nothing was found." in card


def test_a_search_without_tcots_says_so():
    plain = Side(query().item)
    card = search_card(Search("t", plain, (hit(Text(text="a blue ring"), is_right=True),)))
    assert "No T-CoT" in card
    assert "right" in card
    assert '<p class="text">a blue ring</p>' in card
