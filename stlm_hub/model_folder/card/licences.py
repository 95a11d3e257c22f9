"""Under which licences weights and photographs stand, and what a card says of them."""

from __future__ import annotations

from dataclasses import dataclass

from ..results import Results
from .text import Ready, markdown

LICENSES = {  # identifier of the Hub: name and text
    "apache-2.0": ("Apache 2.0", "https://www.apache.org/licenses/LICENSE-2.0"),
    "mit": ("MIT", "https://opensource.org/license/mit"),
    "cc0-1.0": ("CC0 1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
    "cc-by-4.0": ("CC BY 4.0", "https://creativecommons.org/licenses/by/4.0/"),
    "cc-by-sa-4.0": ("CC BY-SA 4.0", "https://creativecommons.org/licenses/by-sa/4.0/"),
    "cc-by-nc-4.0": ("CC BY-NC 4.0", "https://creativecommons.org/licenses/by-nc/4.0/"),
    "cc-by-nc-sa-4.0": ("CC BY-NC-SA 4.0", "https://creativecommons.org/licenses/by-nc-sa/4.0/"),
}


@dataclass(frozen=True)
class Licences:
    """Identifiers of the Hub, or a name of the owner's own; "" where none was chosen."""

    weights: str
    photographs: str

    @property
    def non_commercial(self) -> list[str]:
        """What may not be used commercially: "weights", "photographs"."""
        return [name for name, value in vars(self).items() if "-nc" in value.lower()]

    def link(self, name: str) -> Ready:
        """Name of a licence, with a link where it is a known one; "" where there is none."""
        identifier = {"weights": self.weights, "photographs": self.photographs}[name]
        if identifier in LICENSES:
            label, url = LICENSES[identifier]
            return Ready(f"[{label}]({url})")
        return Ready(markdown(identifier))


def licences(results: Results) -> Licences:
    """Weights without a licence of their own have that of the photographs. "other" names none."""
    photographs = results.dataset.license
    weights = results.provenance.weights_license or photographs
    return Licences("" if weights == "other" else weights, "" if photographs == "other" else photographs)
