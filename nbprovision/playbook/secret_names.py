"""Which variables hold secrets, told by their names."""

from __future__ import annotations

import re
from typing import Any

from nbprovision.system import secrets

# Names of variables, in a playbook or in the environment, whose values are never shown.
_SECRET_NAME = re.compile(
    r"(^|_)(password|passwd|passphrase|token|secret|secret_key|api_?key|credentials?)$", re.IGNORECASE
)
_NO_SECRETS = ("", "true", "false", "yes", "no", "none")


def is_secret_name(name: str) -> bool:
    """Whether a variable of this name is likely to hold a secret."""
    return _SECRET_NAME.search(name) is not None


def remember_secret(name: str, value: Any) -> None:
    """Have the value masked wherever it would be shown, if ``name`` sounds like a secret's."""
    if isinstance(value, str):
        secrets.remember_url(value)
        if is_secret_name(name) and value.strip().lower() not in _NO_SECRETS:
            secrets.remember(value)
