"""How metrics are named and explained to a reader, and where long names may break."""

import re
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Wording:
    """Words for one metric.

    Attributes:
        label: its name in a table.
        better: which way is better.
        meaning: one line for a reader who does not know it.
    """

    label: str
    better: str
    meaning: str


_METRICS = {
    "fid": Wording(
        "FID", "lower", "Fréchet distance to held-out images; biased upward where n is small"
    ),
    "fid_corrected": Wording(
        "FID, bias-corrected", "lower", "FID less its bias (by bootstrap); 0 = no difference"
    ),
    "fid_to_train": Wording(
        "FID to training images", "lower", "how well the training law was learned, copies included"
    ),
    "fid_planes": Wording(
        "FID of slices", "lower", "the same of slices of volumes, mean of three planes"
    ),
    "fid_planes_corrected": Wording(
        "FID of slices, bias-corrected", "lower", "less its bias (by bootstrap over volumes)"
    ),
    "kid_planes": Wording(
        "KID of slices", "lower", "kernel distance of volumes by their slices; 0 = no difference"
    ),
    "mmd": Wording("MMD of voxels", "lower", "kernel distance of volumes; 0 = no difference"),
    "coherence": Wording(
        "coherence", "as reference", "correlation of neighbouring slices, where it is least"
    ),
    "nearest_aligned": Wording(
        "nearest training volume, aligned", "as reference",
        "as in pixels, centres of mass laid on each other",
    ),
    "copies_aligned": Wording("suspected copies, aligned", "about 0.01", "the same, so aligned"),
    "kid": Wording("KID", "lower", "kernel distance of features, unbiased; 0 = no difference"),
    "precision": Wording(
        "precision", "higher", "share of these that lie among real ones: realism"
    ),
    "recall": Wording("recall", "higher", "share of real images that lie among these: variety"),
    "density": Wording("density", "about 1", "realism, robust to outliers of the real set"),
    "coverage": Wording("coverage", "higher", "share of real images with one of these near by"),
    "ms_ssim": Wording(
        "MS-SSIM of pairs", "as reference",
        "likeness of two images of the set; high: little variety"
    ),
    "nearest_pixels": Wording(
        "nearest training image, pixels", "as reference",
        "root mean square difference, image range 2; small = copies, large = unlike any",
    ),
    "nearest_features": Wording(
        "nearest training image, features", "as reference", "the same in feature space"
    ),
    "copies_pixels": Wording(
        "suspected copies, pixels", "about 0.01",
        "share closer to a training image than 99 % of held-out real images",
    ),
    "copies_features": Wording(
        "suspected copies, features", "about 0.01", "the same in feature space"
    ),
    "bits_per_dimension": Wording(
        "bits per dimension", "lower", "code length of held-out images under the model, per value"
    ),
    "psnr": Wording("PSNR (dB)", "higher", "peak signal-to-noise ratio"),
    "crps": Wording("CRPS", "lower", "error of the law of the draws, images in [-1, 1]"),
    "coverage_90": Wording("coverage", "0.9", "share of the body inside 90 % intervals of the draws"),
    "lesion_psnr": Wording("PSNR of lesions (dB)", "higher", "inside the mask"),
    "ssim": Wording("SSIM", "higher", "structural similarity"),
    "accuracy": Wording("accuracy", "higher", "share of images in their class, mean over patients"),
    "balanced_accuracy": Wording("balanced accuracy", "higher", "mean recall of the classes"),
    "f1": Wording("F1 (macro)", "higher", "mean over classes"),
    "auroc": Wording("AUROC", "higher", "one class against the others, mean; 0.5 = chance"),
    "ece": Wording("calibration error", "lower", "gap of confidence and accuracy over 15 bins"),
    "brier": Wording("Brier score", "lower", "squared distance of probability and truth"),
    "accuracy_20_referred": Wording(
        "accuracy, 20 % referred", "higher", "of the rest, once the most doubtful are sent on"
    ),
    "accuracy_50_referred": Wording("accuracy, 50 % referred", "higher", "the same, half sent on"),
    "cnr": Wording("CNR", "higher", "contrast to noise of homogeneous blocks and background"),
    "enl": Wording("ENL", "as reference", "mean^2 / variance of homogeneous blocks: smoothness"),
    "activity_bias": Wording(
        "intensity bias", "about 0", "relative error of the mean of homogeneous blocks"
    ),
    "dice": Wording("Dice", "higher", "overlap of structures, mean over labels, per patient"),
    "hd95": Wording("HD95", "lower", "95th percentile of the distances of borders"),
    "surface_dice": Wording("surface Dice", "higher", "share of borders within one voxel"),
    "generalised_energy": Wording(
        "generalised energy distance", "lower", "of the law of the draws and the true labels"
    ),
    "uncertainty_error_correlation": Wording(
        "correlation of doubt and error", "higher", "uncertainty map and error map, over voxels"
    ),
    "errors_in_doubtful_tenth": Wording(
        "errors in the doubtful tenth", "higher", "share of wrong voxels where doubt is greatest"
    ),
    "correlation": Wording("correlation", "higher", "of warped and fixed image, over all voxels"),
    "mse": Wording("mean squared error", "lower", "of warped and fixed image in [-1, 1]"),
    "folded": Wording("folded voxels", "lower", "share where the map is not one to one"),
    "frames_psnr": Wording("PSNR of frames between (dB)", "higher", "against the known frames"),
    "frames_nmse": Wording("NMSE of frames between", "lower", "against the known frames, in [0, 1]"),
    "seconds_per_pair": Wording("seconds per pair", "lower", "one pair at a time, this machine"),
    "ms_ssim_to_target": Wording("MS-SSIM", "higher", "likeness to the target at five scales or fewer"),
    "psnr_single": Wording("PSNR of one draw (dB)", "higher", "a draw is noisier than the mean"),
    "detail": Wording("detail", "about 1", "deviation of fine structure over that of the target"),
    "shift": Wording("shift (voxels)", "lower", "how far the output lies from the target"),
    "deviation_correlation": Wording(
        "correlation of doubt and error", "higher", "deviation map and absolute error, over voxels"
    ),
    "lesion_contrast": Wording("contrast of lesions", "as reference", "mean inside less mean of the rest of the body"),
    "lesion_contrast_error": Wording("error of that contrast", "lower", "its distance from the target's"),
    "residual": Wording("residual", "about 1", "what the answer misses of the measurement, over the noise"),
    "nmse": Wording("NMSE", "lower", "squared error over the squared truth"),
    "psnr_sample": Wording("PSNR of one draw (dB)", "higher", "a draw is noisier than the mean"),
    "psnr_mean_of_draws": Wording("PSNR, mean of draws (dB)", "higher", "of all draws of a scan"),
    "coverage90": Wording("coverage", "0.9", "share of pixels inside 90 % intervals"),
    "coverage90_conformal": Wording("coverage, scaled", "0.9", "after a factor set on other patients"),
    "coverage90_body": Wording("coverage of the body", "0.9", "the same without air"),
    "coverage90_body_conformal": Wording("of the body, scaled", "0.9", "after a factor set on other patients"),
    "end_point_error": Wording("end point error (voxels)", "lower", "distance from the true displacement"),
    "auc": Wording("AUC", "higher", "of voxels in the field of view; 0.5 = chance"),
    "cldice": Wording("clDice", "higher", "overlap of centrelines: thin branches count as wide ones"),
    "sensitivity": Wording("sensitivity", "higher", "share of the structure that is found"),
    "iou": Wording("IoU", "higher", "overlap of shapes over their union"),
    "volume_error": Wording("volume error", "lower", "absolute, over the true volume"),
    "surface_error": Wording("surface error", "lower", "absolute, over the true surface"),
    "roughness_error": Wording("roughness error", "lower", "absolute, over the true roughness"),
    "silhouette_dice": Wording("Dice of the silhouette", "higher", "of the projection against the truth's"),
    "volume_crps": Wording("CRPS of the volume", "lower", "its error where draws spread as they should"),
    "spread_over_error": Wording("spread over error", "about 1", "below 1: draws are too sure"),
    "pairwise_iou": Wording("IoU of pairs of draws", "as reference", "high: little variety"),
    "macro_f1": Wording("F1 with drawn shapes", "higher", "of a classifier that learned from them too"),
    "macro_f1_gain": Wording("gain in F1", "higher", "what drawn shapes add to it"),
    "average_precision": Wording("AP of images", "higher", "which images are not healthy"),
    "pixel_auroc": Wording("AUROC of voxels", "higher", "which voxels are lesions; 0.5 = chance"),
    "pixel_average_precision": Wording("AP of voxels", "higher", "the same; chance is the share of lesions"),
    "dice_fitted": Wording("Dice, threshold of healthy cases", "higher", "of the mask, per patient"),
    "dice_best": Wording("Dice, best threshold", "higher", "a bound: nobody knows that threshold"),
    "psnr_healthy": Wording("PSNR of healthy images (dB)", "higher", "what should stay the same"),
    "psnr_outside": Wording("PSNR outside lesions (dB)", "higher", "what should stay the same"),
    "bond_error": Wording("bond error (Å)", "lower", "distance of neighbours from 3.8 Å"),
    "bend_distance": Wording("bend distance (degrees)", "lower", "of the laws of angles of three atoms"),
    "clashes": Wording("clashes", "lower", "pairs of atoms too near, for 100 residues"),
    "gyration": Wording("radius of gyration", "about 1", "over that of folded chains of the length"),
    "helix": Wording("helix", "as reference", "share of residues, by P-SEA"),
    "strand": Wording("strand", "as reference", "share of residues, by P-SEA"),
    "left_handed": Wording("left-handed turns", "lower", "share of helical turns; proteins have none"),
    "tm_pairs": Wording("TM-score of pairs", "lower", "high: little variety"),
    "tm_to_training": Wording("TM-score to training", "as reference", "nearest training chain; 1 = a copy"),
    "motif_rmsd": Wording("error of the motif (Å)", "lower", "after the best turn"),
    "joint_error": Wording("joint error (Å)", "lower", "bonds where the motif meets the scaffold, from 3.8 Å"),
    "motif_clashes": Wording("clashes with the motif", "lower", "pairs too near, for 100 residues"),
}  # fmt: skip


_ATTACKS = {
    "fgsm": ("FGSM", "attacked in one step, the defence unknown to the attacker"),
    "pgd": ("PGD", "attacked in many steps, the defence unknown to the attacker"),
    "apgd": (
        "Auto-PGD",
        "attacked by AutoAttack's first member, the defence unknown to the attacker",
    ),
    "adaptive": ("known defence", "attacked through the defence (BPDA, EOT)"),
}


def wording(name: str) -> Wording:
    """Words for a metric; an unknown one speaks for itself."""
    if name.startswith("told_"):
        label = f"follows {name.removeprefix('told_').replace('_', ' ')}"
        return Wording(
            label, "as reference", "correlation of what was told with what is read off the image"
        )
    clean, _, attack = name.rpartition("accuracy_")
    if attack in _ATTACKS:
        label = f"{clean.replace('_', ' ')}accuracy, {_ATTACKS[attack][0]}"
        return Wording(label, "higher", _ATTACKS[attack][1])
    structure = name.removeprefix("dice_")
    if structure.isdigit():
        return Wording(f"Dice of label {structure}", "higher", "overlap, per patient")
    return _METRICS.get(name, Wording(name.replace("_", " "), "", ""))


def breakable(text: str) -> str:
    """A name in HTML, which may break where its parts meet if it is long."""
    return escape(text) if len(text) <= 24 else re.sub(r"([-_./]+)", r"\1<wbr>", escape(text))
