"""`stlm predict --reference`: a few photographs of good parts in the place of a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, DataError
from .console import say
from .progress import counted

if TYPE_CHECKING:
    from .zero_shot import Judge


def reference_judge(photographs: Sequence[Path], model: str | None, device: str | None, *, quiet: bool) -> Judge:
    """`predict_many` of a detector of these good photographs. Says what its limit is made of, unless `quiet`.

    Raises:
        ConfigError: a model is named besides.
        STLMError: see `stlm_hub.zero_shot.references.References`.
    """
    if model is not None:
        raise ConfigError("--reference takes the place of a model; leave out --model, or --reference.")
    from ..zero_shot.references import References, check_number

    check_number(len(photographs))
    with counted("looking at references", quiet=quiet) as on_image:
        detector = References([path.expanduser() for path in photographs], device=device, on_image=on_image)
    if not quiet:
        say(f"Not calibrated. {detector.limit_is}")
    return detector.predict_many


def without_references(paths: Sequence[Path], photographs: Sequence[Path], *, quiet: bool) -> list[Path]:
    """Photographs to judge: those that are references are named and left out.

    Raises:
        DataError: none is left.
    """
    known = {path.expanduser().resolve() for path in photographs}
    kept = [path for path in paths if path.resolve() not in known]
    if not kept:
        raise DataError("All of these photographs are references; name others to judge.")
    for path in paths if not quiet else ():
        if path.resolve() in known:
            say(f"{path} is a reference and is not judged.")
    return kept
