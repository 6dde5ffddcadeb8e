"""Specs, the names of data sets that users type. No torch or numpy.

A *spec* is a published name such as `cifar10`, or `npz:PATH`, `folder:PATH`, `stream:PATH`. A suffix selects a part of
the training images: `-a` or `-b` one of two class-balanced halves, `-N` the first N in a fixed order that keeps the
shares of the classes. Examples: `cifar10-a`, `cifar10-5000`, `cifar10-a-5000`.
"""

import re

from engine.datasets.catalog import (
    FORMS,
    PHOTOGRAPH_SHAPE,
    PHOTOGRAPHS,
    SETS,
    DataSet,
    Part,
    network_shape,
    part_size,
    split_part,
)
from engine.errors import InputError, unknown


def resolve(spec: str) -> DataSet:
    """The data set that `spec` names. Raises InputError for an unknown name or a file that cannot be used."""
    if ":" in spec and (data := _of_files(spec)):
        return data
    base, part = split_part(spec)
    if base not in SETS and base not in PHOTOGRAPHS:
        if known := meant(spec) or meant(base):
            named = known if meant(spec) else f"{known}-{part}"
            raise InputError(f"unknown data set {spec!r}; did you mean {named!r}?")
        if spec.endswith(".npz"):
            raise InputError(f"unknown data set {spec!r}: a file is named as npz:{spec}")
        behind = f"-{part}" if part else ""
        from engine.datasets.converting import KINDS

        forms = (*FORMS, *(f"{kind}:PATH" for kind in KINDS.names()))
        raise unknown("data set", spec, [f"{name}{behind}" for name in (*SETS, *PHOTOGRAPHS, *forms)])
    try:
        return _registered(base, part, spec)
    except InputError as error:
        raise InputError(f"data set {spec!r}: ", error) from None


def _of_files(spec: str) -> DataSet | None:
    """The data set in the user's files; None for an unknown kind."""
    if spec.startswith("npz:"):
        from engine.datasets import npz

        return npz.resolve(spec)
    if spec.startswith(("folder:", "stream:")):
        from engine.datasets import folders

        return folders.resolve(spec)
    from engine.datasets import converting

    return converting.resolve(spec) if spec.partition(":")[0] in converting.KINDS.offered else None


def meant(name: str) -> str | None:
    """The published set called `name`, ignoring case, hyphens, underscores and blanks: cifar10 for CIFAR-10."""
    plain = re.sub("[-_ ]", "", name).casefold()
    return next((known for known in (*SETS, *PHOTOGRAPHS) if known.replace("-", "") == plain), None)


def published(name: str, classes: int) -> tuple[int, float] | None:
    """The number of training images of the published set of this name, and the share of its largest class.

    `name` may be of a file or a part. None if no published set has this name and number of classes.
    """
    known = meant(split_part(name)[0].rpartition(":")[2])
    if known in SETS and len(counts := SETS[known].train_counts) == classes:
        return sum(counts), max(counts) / sum(counts)
    if known in PHOTOGRAPHS and PHOTOGRAPHS[known].classes == classes:
        return PHOTOGRAPHS[known].train_images, 1 / classes
    return None


def chance(name: str, classes: int) -> float:
    """The accuracy of a constant answer: the share of a published set's largest class, else 1 / `classes`."""
    found = published(name, classes)
    return found[1] if found else 1 / classes


def _registered(base: str, part: Part, name: str) -> DataSet:
    if base in PHOTOGRAPHS:
        about = PHOTOGRAPHS[base]
        images = part_size(about.train_images, about.classes, part)
        each = (about.train_images // about.classes,) * about.classes  # approximate; no class has less than half
        return DataSet(name, name, "", part, PHOTOGRAPH_SHAPE, about.classes, images, about.test_images, True, each)
    facts = SETS[base]
    classes = len(facts.train_counts)
    return DataSet(
        name=name,
        identity=name,
        location="",
        part=part,
        shape=network_shape(*facts.shape),
        classes=classes,
        train_images=part_size(sum(facts.train_counts), classes, part),
        test_images=facts.test_images,
        flips=facts.flips,
        counts=facts.train_counts,
    )
