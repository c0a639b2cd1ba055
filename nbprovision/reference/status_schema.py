"""The JSON Schema of ``nbprovision-status.json``, from its types and their docstrings."""

from __future__ import annotations

import inspect
import re
from typing import Any

import msgspec

from nbprovision.reference.schema import ADDRESS
from nbprovision.report.status_file import FILE, StatusFile

_ATTRIBUTE = re.compile(r"^ {4}(\w+): (.*?)(?=^ {4}\w|\Z)", re.MULTILINE | re.DOTALL)


def status_schema() -> dict[str, Any]:
    """The schema, in the draft of that of a playbook. Readers ignore properties that it does not have."""
    _, forms = msgspec.json.schema_components([StatusFile], ref_template="#/definitions/{name}")
    described = {name: _described(form) for name, form in forms.items()}
    own = described.pop("StatusFile")
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": f"{ADDRESS}/raw/main/docs/status.schema.json",
        **own,
        "title": FILE,
        "required": ["format", "state"],
        "definitions": described,
    }


def _described(form: dict[str, Any]) -> dict[str, Any]:
    """The form with the descriptions of its properties, which the docstring lists under ``Attributes``."""
    text, _, attributes = inspect.cleandoc(form.get("description", "")).partition("Attributes:\n")
    descriptions = {name: " ".join(words.split()) for name, words in _ATTRIBUTE.findall(attributes)}
    properties = {name: {"description": descriptions[name], **shape} for name, shape in form["properties"].items()}
    return {**form, "description": text.strip(), "properties": properties}
