"""The zoo: which alias stands for which repository, commit and weights. The entries are in `zoo.json`."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, HubError
from ..validate import expanded
from .names import DECIDING, WEIGHTS_NAME

ZOO_PATH = Path(__file__).with_name("zoo.json")
CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class ZooEntry:
    """One model of the zoo.

    Args:
        alias: `<dataset>-<category>`, e.g. "mvtec-bottle".
        repo_id: `org/repo` on the Hub.
        revision: 40-hex commit, or None while the model is not published.
        sha256: 64 hex digits of each file that decides a prediction, by name.
        bytes: size of these files together.
        license: identifier of the Hub, e.g. "cc-by-nc-sa-4.0".
        dataset: where the normal photographs came from.
        input_size: height and width in pixels of the frame that photographs are squeezed to.
        metrics: figures of results.json, fractions in [0, 1]; empty where none were measured.
        official_split: whether they are of the data set's own split; None where it has none or nothing is known.
    """

    alias: str
    repo_id: str
    revision: str | None
    sha256: dict[str, str]
    bytes: int
    license: str
    dataset: str
    input_size: tuple[int, int]
    metrics: dict[str, float]
    official_split: bool | None = None

    def __post_init__(self) -> None:
        for name, pattern in (
            ("alias", r"[a-z0-9][a-z0-9._-]*"),
            ("repo_id", r"[\w.-]+/[\w.-]+"),
            ("revision", r"[0-9a-f]{40}"),
        ):
            value = getattr(self, name)
            if name == "revision" and value is None:
                continue
            if not isinstance(value, str) or not re.fullmatch(pattern, value):
                raise HubError(f"{name} of a zoo entry must match {pattern}, not {value!r:.80}.")
        if (
            not isinstance(self.sha256, dict)
            or not set(self.sha256) <= set(DECIDING)
            or not all(
                isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest) for digest in self.sha256.values()
            )
        ):
            raise HubError(f"sha256 of a zoo entry must have 64 hex digits for files out of {DECIDING}.")


def load_zoo(path: Path | None = None) -> dict[str, ZooEntry]:
    """The entries of `path` (default: the zoo.json of this library) by alias.

    Raises:
        HubError: the file is not a zoo.
    """
    path = path or ZOO_PATH
    try:
        models = json.loads(path.read_text(encoding="utf-8"))["models"]
        return {
            alias: ZooEntry(alias=alias, **entry | {"input_size": tuple(entry["input_size"])})
            for alias, entry in models.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HubError(f"{path} is not a zoo ({error}); install stlm_hub again.") from error


def save_zoo(entries: dict[str, ZooEntry], path: Path) -> None:
    """Writes the entries so that `load_zoo` reads them back."""
    models = {alias: dataclasses.asdict(entry) for alias, entry in sorted(entries.items())}
    for entry in models.values():
        del entry["alias"]
    path.write_text(json.dumps({"models": models}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def list_models() -> list[ZooEntry]:
    """Every model of the zoo, by alias."""
    return [entry for _, entry in sorted(load_zoo().items())]


def zoo_dir_folder(alias: str) -> Path | None:
    """`$STLM_ZOO_DIR/<alias>`, if it is there: a user's own models, or the zoo's on a machine without a network."""
    root = os.environ.get("STLM_ZOO_DIR")
    return folder_of(expanded(root) / alias) if root else None


def checkout_folder(alias: str) -> Path | None:
    """`model_cards/<alias>` of the checkout that this library runs from, if it is one and holds the weights."""
    folder = CHECKOUT / "model_cards" / alias
    return folder if (CHECKOUT / "pyproject.toml").is_file() and (folder / WEIGHTS_NAME).is_file() else None


def is_bare(name: str | os.PathLike[str]) -> bool:
    """Whether a name has the form of an alias: neither a path nor `org/repo`."""
    return isinstance(name, str) and not set(name) & {"/", "\\", ":"} and name not in ("", ".", "..", "~")


def local_folder(name: str | os.PathLike[str]) -> Path | None:
    """The folder of a model that is on this machine: of an alias, or the name is its path; None: it is the Hub's."""
    if is_bare(name):
        alias = os.fspath(name)
        found = zoo_dir_folder(alias) or (checkout_folder(alias) if alias in load_zoo() else None)
        if found is not None:
            return found
    return folder_of(name)


def folder_of(name: str | os.PathLike[str]) -> Path | None:
    """The folder that a name is the path of; None: there is none, or it is no name that the system takes."""
    try:
        folder = expanded(name)
        return folder if folder.is_dir() else None
    except (OSError, ValueError, RuntimeError):  # too long, a NUL in it, or "~" of nobody
        return None


def check_name(name: str) -> None:
    """Refuses a name that can be no model, before anything heavy is imported.

    Raises:
        HubError: it is an alias that nobody knows, a folder that is not there, or an archive.
    """
    if folder_of(name) is not None:
        return
    with suppress(OSError, ValueError, RuntimeError):
        if expanded(name).is_file():
            raise HubError(f"{name:.200} is a file; a model is a folder: unpack it first.")
    bare = name.partition("@")[0]
    if is_bare(bare) or not bare:
        if bare not in load_zoo() and zoo_dir_folder(bare) is None:
            raise HubError(unknown_alias(bare))
    elif name.startswith((".", "/", "~", "models/")):
        raise HubError(f"There is no folder {name:.200} here; check the path, or give an alias or org/repo.")


def check_own(folder: Path) -> None:
    """Refuses a folder of a user's own model that is not there, before anything heavy is imported.

    Raises:
        ConfigError: it is not there.
    """
    if folder_of(folder) is None:
        raise ConfigError(
            f"There is no folder {expanded(folder)} here; name the folder of a model of your own. One of the zoo is "
            "copied into a folder with: stlm calibrate"
        )


def of_address(name: str) -> str:
    """`org/repo` or `org/repo@revision` of a web address of the Hub; any other name as it is."""
    hubs = {"https://huggingface.co/", "https://hf.co/", os.environ.get("HF_ENDPOINT", "").rstrip("/") + "/"} - {"/"}
    address = name.partition("?")[0].rstrip("/")
    for hub in hubs:
        if address.startswith(hub):
            repo, _, revision = address.removeprefix(hub).partition("/tree/")
            return f"{repo}@{revision}" if revision else repo
    return name


def unknown_alias(name: str) -> str:
    """The sentence for an alias that is not in the zoo."""
    known = sorted(load_zoo())
    parts = {alias: alias.partition("-")[2] or alias for alias in known}  # aliases share their beginnings
    alike = difflib.get_close_matches(name.partition("-")[2] or name, parts.values(), n=3, cutoff=0.65)
    close = [alias for alias in known if parts[alias] in alike]
    guess = f" Did you mean {' or '.join(close)}?" if close else ""
    listing = f" The zoo has: {', '.join(known)}." if known else " The zoo of this version is empty."
    return f'There is no model "{name:.80}".{guess}{listing} A model of your own is a folder or "org/repo".'
