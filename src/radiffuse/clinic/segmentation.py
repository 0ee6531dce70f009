"""Label maps and probabilities of labels as DICOM segmentation objects (SEG)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..data.formats.dicom_write import own_equipment, save, software
from ..data.image import Image
from .codes import Label, concept
from .derived import Series
from .equipment import algorithm
from .frames import finish, flat_array, others, references, where
from .source import Source

__all__ = ["write_segmentation"]


def write_segmentation(
    image: Image, labels: Sequence[Label], sources: Sequence[Source], series: Series, path: Path
) -> Path:
    """Write one SEG object: binary of a label map, fractional (probability, 255 steps) of probabilities.

    Args:
        image: labels `(1, rows, columns[, slices])`, or probabilities `(L, ...)` of the L labels.
        labels: the L labels, by value; segments are numbered 1 to L in that order.
        sources: what it was made of.
        series: see `Series`.
        path: of the file.
    """
    from highdicom.seg import Segmentation as Object
    from highdicom.seg import SegmentationTypeValues, SegmentDescription
    from pydicom.uid import generate_uid

    array, binary = flat_array(image), not image.data.is_floating_point()
    if binary:
        array = np.stack([array[..., 0] == one.value for one in labels], -1).astype(np.uint8)
    else:
        array = np.clip(array.astype(np.float32), 0, 1)
    segments = [
        SegmentDescription(
            segment_number=place,
            segment_label=label.name,
            segmented_property_category=concept(label.category),
            segmented_property_type=concept(label.type),
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm(series.made),
            display_color=label.lab,
        )
        for place, label in enumerate(labels, 1)
    ]
    kinds = SegmentationTypeValues
    made = Object(
        source_images=references(sources[0]),
        pixel_array=array,
        segmentation_type=kinds.BINARY if binary else kinds.FRACTIONAL,
        segment_descriptions=segments,
        series_instance_uid=series.uid,
        series_number=series.number,
        sop_instance_uid=str(generate_uid(None)),
        instance_number=1,
        omit_empty_frames=False,  # so that it lies on the grid of the source, also where it is empty
        series_description=series.description[:64],
        content_description=series.meaning.said[:64],
        content_label="SEGMENTATION" if binary else "PROBABILITY",
        contributing_equipment=[own_equipment(series.made)],
        further_source_images=others(sources),
        **software(series.made),
        **where(image, path),
    )
    finish(made, sources[0])
    save(made, path)
    return path
