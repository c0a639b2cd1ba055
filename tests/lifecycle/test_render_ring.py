"""A script for a ring of a fleet: which options it takes, and that it stays small."""

from __future__ import annotations

import base64

import pytest

from nbprovision.__main__ import main
from nbprovision.lifecycle.render import MAX_BYTES, ScriptRequest, render
from nbprovision.model.errors import UsageError
from tests.lifecycle.test_render import user_part

RING = "s3://team/fraud/rings/stable"
WHEELS = "s3://team/fraud/wheels"
SHORT = ["--ring", RING, "--tool", WHEELS]


def rendered(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    assert main(["lifecycle", "render", *words]) == status
    printed = capsys.readouterr()
    return printed.err if status else printed.out


def test_the_second_stage_gets_the_pointer_in_the_place_of_a_playbook(capsys: pytest.CaptureFixture[str]) -> None:
    script = rendered(capsys, *SHORT, "-e", "x=1", "--user-playbook")
    assert f'sh "$file" ring:{RING} --deadline 236 --extra-vars x=1' in user_part(script)
    assert f"NBPROVISION_SOURCE={WHEELS} " in script
    assert script == render(
        ScriptRequest(
            ring=RING,
            tool=WHEELS,
            options=["--extra-vars", "x=1"],
            user_playbook="/home/ec2-user/SageMaker/nbprovision.yml",
        )
    )


REFUSED = [
    (["team.yml", *SHORT], "PLAYBOOK team.yml cannot be combined with --ring", "leave it out"),
    (["--bundle", "/a.tar", *SHORT], "--bundle /a.tar cannot be combined with --ring", "leave it out"),
    (["--inline", *SHORT], "--inline cannot be combined with --ring", "leave it out"),
    (["--locked", *SHORT], "a release with a lock is locked already", "leave it out"),
    (["--ring="], "--ring is empty", "leave the option out"),
    (["--ring", "stable", "--tool", WHEELS], "--ring stable is not a URL of the form", "write s3://BUCKET/PREFIX"),
    (["--ring", "s3://team/fraud/stable", "--tool", WHEELS], "is not a URL of the form", "/rings/RING"),
    (["--ring", "s3://team/rings/-a", "--tool", WHEELS], "is not a URL of the form", "/rings/RING"),
    (["--ring", f"s3://team/rings/{'a' * 64}", "--tool", WHEELS], "1 to 63 letters", "/rings/RING"),
    (["--ring", "s3://A/rings/a", "--tool", WHEELS], "--ring s3://A/rings/a is not a URL", "aws s3 ls"),
    (["--ring", RING], "--tool or --index-url is required", "--tool s3://BUCKET/PREFIX"),
    (["--ring", RING, "--index-url", "https://a.example.com/simple"], "needs a folder of wheels", f"--tool {WHEELS}"),
    (["--ring", RING, "--tool", "nbprovision==0.1.0", "--index-url", "https://a.example.com/s"], "needs a folder", ""),
]


@pytest.mark.parametrize(("words", "what", "cure"), REFUSED, ids=[" ".join(words)[:60] for words, *_ in REFUSED])
def test_what_does_not_go_together_is_refused(
    words: list[str], what: str, cure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = rendered(capsys, *words, status=5)
    assert what in errors
    assert cure in errors


@pytest.mark.parametrize("change", [{"ring": RING, "playbook": "/a.yml"}, {}], ids=["both", "neither"])
def test_a_request_has_a_playbook_or_a_ring(change: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="either a playbook or a ring"):
        ScriptRequest(tool=WHEELS, **change)


def test_it_is_small_with_long_names() -> None:
    prefix = f"s3://{'b' * 63}/{'folder/' * 40}"
    script = render(
        ScriptRequest(
            ring=f"{prefix}rings/{'r' * 63}",
            tool=f"{prefix}wheels",
            assets_url=f"{prefix}wheels",
            strict=True,
            home=f"/home/ec2-user/SageMaker/{'h' * 100}",
            environment={"HTTPS_PROXY": f"http://{'p' * 200}:3128", "NO_PROXY": "n" * 500},
            options=["--extra-vars", f"name={'x' * 500}"],
            user_playbook=f"/home/ec2-user/SageMaker/{'u' * 200}.yml",
            on_finish="f" * 500,
        )
    )
    assert len(script) <= MAX_BYTES
    assert len(base64.b64encode(script.encode())) <= 16_384
