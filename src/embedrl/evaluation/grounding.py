"""Evidence metrics: box IoU, key-frame F1 and keyword precision against ground truth."""

from embedrl.data.evidence_kinds import EVIDENCE_KINDS, Evidence

FIGURES = {name: figure for kind in EVIDENCE_KINDS for name, figure in kind.figures.items()}
"""Every figure of evidence, by name; what each is, is said in `EVIDENCE_KINDS`."""


def compare(predicted: Evidence, truth: Evidence) -> dict[str, float]:
    """Score each kind of evidence that one side has, each in 0..1; a figure that is not defined is absent.

    - `box_iou50`: share of the given boxes that meet a true box with IoU >= 0.5; absent if no box is given
    - `box_recall`: share of the true boxes that a given box meets so; absent if there is no true box
    - `key_frame_f1`: of the two sets of frame numbers; absent if both are empty
    - `keyword_precision`: share of the given keywords that are true ones, letter case ignored; absent if none is given
    """
    scores = {
        name: figure.score(kind.pieces(predicted), kind.pieces(truth)) for kind in EVIDENCE_KINDS for name, figure in kind.figures.items()
    }
    return {name: score for name, score in scores.items() if score is not None}
