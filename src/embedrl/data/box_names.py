"""What the boxes of a T-CoT are about: the words of its thinking that each box follows."""

import re

from embedrl.data.tcot import TCoT

_CLAUSES = re.compile(r"[.;,!?。；，、！？]+(?=\s|$)|[。；，、！？]|\band\b")
_HEADING = re.compile(r"^[^:：]{0,60}[:：]\s+")


def box_names(tcot: TCoT) -> tuple[str | None, ...]:
    """Return the name of each box, as the thinking calls what it holds; None where that cannot be told.

    A T-CoT lists what it sees and then its boxes, in the same order. If there are as many clauses as boxes they belong together; one box
    alone has the first clause. Nothing else is guessed.
    """
    num_boxes = len(tcot.evidence.boxes)
    if not num_boxes:
        return ()
    thinking = _HEADING.sub("", tcot.thinking.strip())
    clauses = [clause.strip() for clause in _CLAUSES.split(thinking) if clause.strip()]
    if num_boxes == 1 and clauses:
        return (clauses[0],)
    return tuple(clauses) if len(clauses) == num_boxes else (None,) * num_boxes
