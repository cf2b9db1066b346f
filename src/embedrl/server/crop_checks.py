"""Zero-shot verification of boxes: the Embedder compares each crop with the box's name."""

from embedrl.data.box_names import box_names
from embedrl.data.crop_check import check_crops
from embedrl.errors import ConfigError
from embedrl.index.hit import tcot_of
from embedrl.server import images
from embedrl.server.problem import Problem
from embedrl.server.schemas import CropChecked, CropsChecked
from embedrl.server.served_index import ServedIndex
from embedrl.server.service import Service


def check(service: Service, library: ServedIndex, key: str) -> CropsChecked:
    """Compare the boxes of an item's T-CoT with their crops.

    Raises Problem 404 for an item without an image, 422 if there are too few names to compare with.
    """
    row = library.row(key)
    tcot = tcot_of(row)
    if tcot is None:
        return CropsChecked(boxes=(), num_others=0)
    names = box_names(tcot)
    others = [name for name in library.box_names if name not in names]
    image = images.still(service, library, row)
    try:
        checks = check_crops(library.embedder, image, tcot.evidence.boxes, names, others)
    except ConfigError as error:
        raise Problem(422, str(error), "too_few_names") from error
    shown = tuple(
        CropChecked(name=name, score=check and check.score, fits=check and check.fits) for name, check in zip(names, checks, strict=True)
    )
    return CropsChecked(boxes=shown, num_others=len(others))
