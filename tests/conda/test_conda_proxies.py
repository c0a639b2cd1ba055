"""conda's proxies are chosen as requests chooses them, and told to the built-in engine by variables."""

from __future__ import annotations

import pytest

from nbprovision.conda.rattler import proxy_environment
from nbprovision.model.errors import TaskFailed
from nbprovision.system import secrets

ENV = {
    "HTTP_PROXY": "http://old:1",
    "https_proxy": "http://old:2",
    "ALL_PROXY": "http://old:3",
    "NO_PROXY": "x",
    "A": "b",
}
WEB, OTHER = "https://web.example/c", "https://other.example/c"


@pytest.mark.parametrize(
    ("proxies", "channels", "expected"),
    [
        ({"http": "http://p:1", "https": "http://p:2"}, [WEB], {"http": "http://p:1", "https": "http://p:2"}),
        ({"https": "p:3128"}, [WEB], {"https": "http://p:3128"}),
        ({"all": "socks5://p:1"}, [WEB], {"http": "socks5://p:1", "https": "socks5://p:1"}),
        ({"https://web.example": "http://p:9", "https": "http://p:2"}, [WEB], {"https": "http://p:9"}),
        ({"https://web.example": "http://p:9"}, [WEB, OTHER], {"https": "http://p:9", "no": "other.example"}),
        ({"all://web.example": "http://p:9"}, [WEB], {"https": "http://p:9"}),
        ({"http": "http://p:1"}, [WEB], {"http": "http://p:1", "no": "web.example"}),
        ({"https": "http://p:1"}, [], {"https": "http://p:1"}),
    ],
)
def test_proxies(proxies: dict[str, str], channels: list[str], expected: dict[str, str]) -> None:
    found = proxy_environment(ENV, proxies, channels)
    assert {name[:-6]: value for name, value in found.items() if name.endswith("_proxy")} == expected
    assert {name[:-6].lower(): value for name, value in found.items() if name.endswith("_PROXY")} == expected
    assert found["A"] == "b"


def test_two_proxies_for_one_scheme_are_refused() -> None:
    with pytest.raises(TaskFailed, match="need different proxies") as caught:
        proxy_environment({}, {"https": "http://p:1", "https://web.example": "http://p:2"}, [WEB, OTHER])
    assert "engine: conda" in caught.value.cure


def test_a_password_of_a_proxy_is_masked() -> None:
    proxy_environment({}, {"https": "http://user:S3cret-of-proxy@p:1"}, [WEB])
    assert "S3cret-of-proxy" not in secrets.mask("http://user:S3cret-of-proxy@p:1")
