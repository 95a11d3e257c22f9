"""Options that the page's events share."""

from __future__ import annotations

from typing import Any

PRIVATE: dict[str, Any] = {"api_visibility": "private"}
"""Of every event but those of the endpoints: programs neither see nor call it."""

SILENT: dict[str, Any] = {**PRIVATE, "show_progress": "hidden"}
"""And of those that are over at once: nothing spins."""
