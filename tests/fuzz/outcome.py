"""What may become of any bytes: a picture within the limits, or a sentence. Soon, and without much memory."""

from __future__ import annotations

import resource
import time
import warnings

import numpy as np

from stlm_hub.errors import ImageError
from stlm_hub.predict.images import read_picture
from stlm_hub.predict.picture_file import MAX_PIXELS

MAX_SECONDS = 10.0
MAX_MORE_MEMORY = 1_500_000_000  # bytes


def peak_memory() -> int:
    """Most memory that this process ever held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def judged(data: bytes, name: str = "part.png") -> bool:
    """Reads a picture and checks the promise; True where there is a picture. Anything but an ImageError passes on."""
    started = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, on odd metadata
            picture = read_picture(data, name=name)
    except ImageError as error:
        sentence = str(error)
        assert name in sentence and sentence.endswith("."), sentence
        assert sentence.isprintable() and len(sentence) < 600, sentence
        found = False
    else:
        array = picture.image
        assert all(note.startswith(name) and note.isprintable() for note in picture.notes), picture.notes
        assert array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3
        assert array.shape[0] * array.shape[1] <= MAX_PIXELS
        found = True
    assert time.monotonic() - started < MAX_SECONDS
    return found
