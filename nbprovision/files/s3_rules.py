"""The rule about buckets whose owner nobody checks."""

from __future__ import annotations

from collections.abc import Iterable

from nbprovision.lint.finding import Problem, rule
from nbprovision.lint.subject import Playbook


@rule("warning", "a bucket's name that its owner has given up can be taken by anybody, who would then get the files")
def unchecked_owner(playbook: Playbook) -> Iterable[Problem]:
    """A folder that is sent to a bucket without `expected_owner`, whoever the bucket belongs to."""
    for call in playbook.of("ensure_s3_sync"):
        if call.values.get("direction") == "up" and call.parameters.get("expected_owner") is None:
            cure = (
                "write expected_owner: and the 12 digits of the account, or "
                "'{{ nb.instance.account }}' for the account of the notebook"
            )
            yield Problem(call.at("source"), "nothing checks whom the bucket belongs to", cure)
