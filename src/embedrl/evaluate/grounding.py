"""How well a T-CoT's evidence agrees with the ground truth of its item."""

from embedrl.data.evidence import iou
from embedrl.data.tcot import Box, Evidence

MIN_IOU = 0.5


def compare(given: Evidence, truth: Evidence) -> dict[str, float]:
    """Score each kind of evidence that one side has, each in 0..1.

    - `box_iou50`: share of the given boxes that meet a true box with IoU >= 0.5; absent if no box is given
    - `box_recall`: share of the true boxes that a given box meets so; absent if there is no true box
    - `key_frame_f1`: of the two sets of frame numbers; absent if both are empty
    - `keyword_precision`: share of the given keywords that are true ones, letter case ignored; absent if none is given
    """
    figures: dict[str, float] = {}
    if given.boxes:
        figures["box_iou50"] = _share_met(given.boxes, truth.boxes)
    if truth.boxes:
        figures["box_recall"] = _share_met(truth.boxes, given.boxes)
    frames, true_frames = set(given.key_frames), set(truth.key_frames)
    if frames or true_frames:
        figures["key_frame_f1"] = 2 * len(frames & true_frames) / (len(frames) + len(true_frames))
    if given.keywords:
        true_words = {word.casefold() for word in truth.keywords}
        figures["keyword_precision"] = sum(word.casefold() in true_words for word in given.keywords) / len(given.keywords)
    return figures


def _share_met(boxes: tuple[Box, ...], others: tuple[Box, ...]) -> float:
    return sum(any(iou(box, other) >= MIN_IOU for other in others) for box in boxes) / len(boxes)
