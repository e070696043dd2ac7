"""What came back from the service, or from whatever sits at its address."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, List, Optional


@dataclass(frozen=True)
class Answer:
    """One whole HTTP answer. Nothing about it is trusted: its body may be anything."""

    status: int
    body: bytes
    retry_after_s: Optional[int]
    #: The request was sent more than once: an earlier one may have been carried out, its answer lost.
    repeated: bool = False

    def json_object(self) -> Optional[Dict[str, Any]]:
        """The body as a JSON object; None where it is none."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    @property
    def problem(self) -> Optional[Dict[str, Any]]:
        """The Problem of a refusal by the service; None where something else answered, a proxy perhaps."""
        value = self.json_object()
        return value if value is not None and isinstance(value.get("code"), str) else None

    def text(self, length: int) -> str:
        """The start of the body for people, `length` characters at most."""
        return self.body[: 4 * length].decode("utf-8", "replace")[:length]


def strings_in(value: object) -> List[str]:
    """The strings of a list; of anything else none."""
    return [entry for entry in value if isinstance(entry, str)] if isinstance(value, list) else []
