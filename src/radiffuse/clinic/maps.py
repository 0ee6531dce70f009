"""Maps of a quantity (anomaly, uncertainty) as DICOM parametric maps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..data.formats.dicom_write import own_equipment, save, software
from ..data.image import Image
from .derived import Series
from .equipment import local_code
from .frames import finish, flat_array, others, references, where
from .source import Source

__all__ = ["write_map"]


def write_map(
    image: Image, sources: Sequence[Source], series: Series, path: Path, unit: tuple[str, str, str]
) -> Path:
    """Write one Parametric Map object with the numbers as they are (32-bit float).

    Args:
        image: `(1, rows, columns[, slices])`, which lies in space: the standard knows no map that does not.
        sources: what it was made of.
        series: see `Series`.
        path: of the file.
        unit: code, scheme (UCUM) and meaning of the unit.
    """
    from highdicom import VOILUTTransformation
    from highdicom.pm import ParametricMap, RealWorldValueMapping
    from highdicom.sr import CodedConcept
    from pydicom.uid import generate_uid

    array = flat_array(image)[..., 0].astype(np.float32)
    low, high = float(array.min()), float(array.max())
    said, _, of = series.meaning.said.partition(", ")
    mapping = RealWorldValueMapping(
        lut_label="MAP",
        lut_explanation=series.meaning.said[:64],
        unit=CodedConcept(*unit),
        value_range=(low, high),
        slope=1.0,
        intercept=0.0,
        quantity_definition=local_code(
            (of or said).upper().replace(" ", "_"), series.meaning.said.capitalize()
        ),
    )
    made = ParametricMap(
        source_images=references(sources[0]),
        pixel_array=array,
        series_instance_uid=series.uid,
        series_number=series.number,
        sop_instance_uid=str(generate_uid(None)),
        instance_number=1,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[
            VOILUTTransformation(
                window_center=(low + high) / 2,
                window_width=max(high - low, 1e-6),
                voi_lut_function="LINEAR_EXACT",
            )
        ],
        series_description=series.description[:64],
        content_description=series.meaning.said[:64],
        contributing_equipment=[own_equipment(series.made)],
        further_source_images=others(sources),
        **software(series.made),
        **where(image, path),
    )
    finish(made, sources[0])
    save(made, path)
    return path
