"""Errors that a user can cause. Each message is a sentence that says what to do. CLI and Space print it unchanged."""


class STLMError(Exception):
    """Base class of all errors that `stlm_hub` raises on purpose."""

    def __str__(self) -> str:
        """One line that every terminal and log takes, whatever names of files and models are in it."""
        return "".join(char if char.isprintable() else " " if char.isspace() else "?" for char in super().__str__())


class ImageError(STLMError):
    """A file, byte string or array cannot be used as a photograph."""


class PictureWarning(UserWarning):
    """A photograph was read, and may be other than it was meant: of another depth, the first of several."""


class OutlineWarning(UserWarning):
    """A model wants outlines by Segment Anything, which is not to be had here; its own coarse ones are shown."""


class ConfigError(STLMError):
    """A configuration value is missing, of the wrong type or out of range."""


class WeightsError(STLMError):
    """A file of weights is missing, incomplete, altered or of an unknown form."""


class HubError(STLMError):
    """A model cannot be found, downloaded or published."""


class DataError(STLMError):
    """A folder of photographs cannot be used for training, calibration or evaluation."""


class TrainingError(STLMError):
    """A training run cannot start, resume or finish."""


class StorageError(TrainingError):
    """A training cannot write to the disk. The next training would fail in the same way."""
