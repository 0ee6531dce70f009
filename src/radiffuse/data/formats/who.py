"""Who is the same person, as far as names of files, folders and series say."""

import re
from collections import Counter
from collections.abc import Sequence

__all__ = ["ABOUT", "people", "people_in_folders", "people_in_names", "subject_of", "told"]

ABOUT = ("IssuerOfPatientID", "PatientBirthDate", "PatientSex")
"""What tells people of one PatientID apart, in the headers of two institutions for instance."""

_NUMBERED = re.compile(r"(.+?)[_-]((?:slice|slc|sl|z|frame|fr)[_-]?)?\d+", re.IGNORECASE)
_VISITS = re.compile(
    r"(?P<person>.+?)[_-](?:"
    r"(?:ses|sess|session|visit|vis|tp|timepoint|scan|mr|ct|run|acq|echo|month|week|year|day|exam|view|phase)[_-]?\d+"
    r"|[mv]\d{1,3}|fu\d*|baseline|bl|follow[_-]?up|pre|post|left|right|[lr]|o[dsu]|cc|mlo|ap|pa|lat|lateral|frontal"
    r"|axial|coronal|sagittal|t[12]w?|flair|pd|dwi|adc|bold)",
    re.IGNORECASE,
)
"""What several images of one person are told apart by, behind the person's name."""
_SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")
_PERSON = re.compile(
    r"(sub|subj|subject|pat|patient|pt|p|person|participant|volunteer|case)[ _-]?\d+", re.IGNORECASE
)


def people_in_names(stems: Sequence[str], ids: Sequence[str]) -> tuple[str, ...] | None:
    """Patient of each file where names tell: p01_slice003, p01_004, p01_visit2, p01_left; None where they do not.

    What stands before a bare number, a visit, a side or a view names a patient only if it has a number of its own:
    img_001, img_002 are a count of files, and so is normal_001. Files of one name in two folders are two files.

    Args:
        stems: names of files without endings.
        ids: names of cases, all different: of those who are known by nothing else.
    """
    begins = []
    for stem, own in zip(stems, ids, strict=True):
        found = _NUMBERED.fullmatch(stem)
        name = found[1] if found and (found[2] or re.search(r"\d", found[1])) else stem
        while (visit := _VISITS.fullmatch(name)) and re.search(r"\d", visit["person"]):
            name = visit["person"]
        begins.append(own if name == stem else name)
    patients = set(begins)
    return tuple(begins) if 1 < len(patients) < len(begins) else None


def subject_of(parts: Sequence[str]) -> str | None:
    """The folder of a person among the folders of a file, sub-NAME (BIDS) or patient012; None without one."""
    bids = (part for part in parts if _SUBJECT.fullmatch(part))
    return next(bids, None) or next((part for part in parts if _PERSON.fullmatch(part)), None)


def people_in_folders(
    parts: Sequence[Sequence[str]], stems: Sequence[str]
) -> tuple[str, ...] | None:
    """The folder of a person that each file lies in; None where there is none for some.

    See `subject_of`; or folders of one level that are all numbered with three digits or more (LIDC-IDRI-0001), or after
    which their files are called (TCGA_A/TCGA_A_1): classes are few, and are called otherwise.

    Args:
        parts: the folders of each file, from the top.
        stems: its name without the ending.
    """
    found = [subject_of(part) for part in parts]
    if all(found):
        return tuple(name for name in found if name)
    for level in range(min(map(len, parts), default=0)):
        names = [part[level] for part in parts]
        called = all(
            re.search(r"\d", name) and own.startswith(name) and own != name
            for own, name in zip(stems, names, strict=True)
        )
        if len(set(names)) > 1 and (called or all(re.search(r"\d{3}", name) for name in names)):
            return tuple(names)
    return None


def told(patients: Sequence[str] | None) -> str:
    """What `people_in_names` took as a person, as a line for the user."""
    if patients is None:
        return "no patient is known; each file counts as one, slices of one person too"
    (name, most), *_ = Counter(patients).most_common(1)
    return (
        f"no patient is known; files that begin alike count as one ({len(set(patients))} patients, "
        f"{most} files of {name})"
    )


def people(
    names: Sequence[str],
    studies: Sequence[str],
    ids: Sequence[str],
    about: Sequence[Sequence[str]] = (),
) -> tuple[tuple[str, ...], list[str]]:
    """Who each series is of, and what was taken as a person.

    Args:
        names: PatientID of each series, "" where there is none.
        studies: StudyInstanceUID of each, "" likewise.
        ids: name of each case, which stands for a person of whom nothing is known.
        about: what else each series says of the person (`ABOUT`), "" where it does not. One PatientID is one person
            all the same: two people held for one are never on both sides of a split.

    Returns:
        What each person is called in the headers, which is not to be shown, and lines that name nobody.
    """
    owner = {study: name for study, name in zip(studies, names, strict=True) if study and name}
    found, by_study, alone = [], 0, 0
    for name, study, case in zip(names, studies, ids, strict=True):
        found.append(name or owner.get(study) or study or case)
        by_study += not name and bool(study)
        alone += not name and not study
    lines = []
    if by_study:
        lines.append(
            f"no patient is named (PatientID) in {by_study} of {len(ids)} series; series of one study "
            f"(StudyInstanceUID) count as one person ({len(set(found))} people)"
        )
    if alone:
        lines.append(
            f"neither patient nor study is named in {alone} of {len(ids)} series; each counts as one person"
        )
    named = {(study, name) for study, name in zip(studies, names, strict=True) if study and name}
    several = sum(count > 1 for count in Counter(study for study, _ in named).values())
    if several:
        lines.append(
            "series of one study (StudyInstanceUID) name several PatientIDs, in "
            f"{several} of {len(set(studies))} studies; each PatientID counts as one person: where one person has two, "
            "name them in a cases.csv"
        )
    if len(set(found)) == 1 and len(set(studies)) > 1:
        lines.append("every series is of one PatientID, and all count as one person")
    for place, what in enumerate(ABOUT if about else ()):
        said = {
            (name, each[place])
            for name, each in zip(names, about, strict=True)
            if name and each[place]
        }
        several = sum(count > 1 for count in Counter(name for name, _ in said).values())
        if several:
            lines.append(
                f"series of one PatientID differ in {what} for {several} of {len(set(found))} people; each PatientID "
                "counts as one person all the same: where it stands for several, give these apart, or name them in "
                "a cases.csv"
            )
    return tuple(found), lines
