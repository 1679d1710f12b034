"""Content keys, and the line between settings that make a result and settings that do not.

Every field of a settings model is marked ``IDENTITY`` (it goes into keys) or ``KNOB`` (it does
not); a test fails for a field that is neither.
"""

import hashlib
import json
from typing import Any

from pydantic import BaseModel

IDENTITY = "identity"
KNOB = "knob"


def digest(value: Any) -> str:
    """Hex SHA-256 (first 32 digits) of a JSON value, independent of the order of mappings."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def identity(settings: BaseModel) -> dict[str, Any]:
    """The fields of ``settings`` that are marked IDENTITY, as JSON values.

    None is left out: a setting that came later does not change the keys of those who leave it.
    """
    named = {
        name for name, field in type(settings).model_fields.items() if IDENTITY in field.metadata
    }
    return settings.model_dump(mode="json", include=named, exclude_none=True)
