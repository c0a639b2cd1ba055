"""conda's ``proxy_servers``, as the variables that the built-in engine's library heeds.

conda hands them to requests and lets no variable count beside them (``CondaSession`` in ``conda/gateways/connection``);
requests takes, of a URL, the most precise of ``scheme://host``, ``scheme``, ``all://host`` and ``all``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from nbprovision.model.errors import TaskFailed
from nbprovision.system import secrets

_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def environment(env: Mapping[str, str], proxies: Mapping[str, str], channels: Iterable[str]) -> dict[str, str]:
    """``env`` with these proxies in the place of those that it names.

    Args:
        env: The environment variables.
        proxies: ``proxy_servers``.
        channels: URLs that are fetched from; they decide where a host has a proxy of its own.

    Raises:
        TaskFailed: two hosts need different proxies, for which there is one variable.

    """
    for proxy in proxies.values():
        secrets.remember_url(proxy)
    found = {name: value for name, value in env.items() if name.lower() not in _VARIABLES}
    direct: set[str] = set()
    for scheme in ("http", "https"):
        hosts = sorted({urlsplit(url).hostname or "" for url in channels if url.startswith(f"{scheme}://")})
        chosen = {host: _select(proxies, scheme, host) for host in hosts}
        direct |= {host for host, proxy in chosen.items() if proxy is None}
        used = {proxy for proxy in chosen.values() if proxy is not None}
        general = _select(proxies, scheme, "")
        if not used and general is not None:
            used = {general}
        if len(used) > 1:
            raise TaskFailed(
                f"the channels {' and '.join(hosts)} need different proxies",
                cause="`proxy_servers` in conda's configuration names one for each, and the built-in engine knows one",
                cure="write engine: conda, or use one proxy for all channels",
            )
        for proxy in used:
            text = proxy if "://" in proxy else f"http://{proxy}"
            found[f"{scheme}_proxy"] = found[f"{scheme.upper()}_PROXY"] = text
    if direct:
        found["no_proxy"] = found["NO_PROXY"] = ",".join(sorted(direct))
    return found


def _select(proxies: Mapping[str, str], scheme: str, host: str) -> str | None:
    """``requests.utils.select_proxy``."""
    keys = (f"{scheme}://{host}", scheme, f"all://{host}", "all")
    return next((proxies[key] for key in keys if proxies.get(key)), None)
