"""Axial slices of the PET template and the T1 template beside it, as a set to denoise.

    python benchmarks/pet_slices.py ../shared/data/spm_templates runs/spm_slices.npz
    python benchmarks/application.py pet-ddpm --data runs/spm_slices.npz --map clean=pet mr=t1 --minutes 10

There is one PET template, an average of people, so that nobody can be held out: the lower slices train, the
upper ones test, five slices (10 mm) apart. Counts are simulated.
"""

import argparse
from pathlib import Path

import nibabel
import numpy as np

TRAIN, TEST = range(8, 53), range(58, 79)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("templates", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    places = [*TRAIN, *TEST]
    arrays = {}
    for key, name in (("pet", "PET"), ("t1", "avg152T1")):
        volume = np.asarray(nibabel.load(arguments.templates / f"{name}.nii.gz").dataobj)
        slices = np.stack([volume[..., k] for k in places]).astype(np.float32)
        arrays[key] = (255 * slices / volume.max()).round().astype(np.uint8)
    arrays["split"] = np.array(["train"] * len(TRAIN) + ["test"] * len(TEST))
    np.savez(arguments.out, **arrays)


if __name__ == "__main__":
    main()
