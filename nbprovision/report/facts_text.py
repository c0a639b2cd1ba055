"""The facts about a machine as text for a person; unlike the JSON document, its form may change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

_MAKERS = {"platform": "platform", "nbprovision": "nbprovision", "other": "somebody else"}
_NAMES = ("name", "domain", "space", "user_profile", "app_type", "region", "account")  # by which AWS knows the machine
_LONGEST = 5  # listed changes of an image; the JSON document has all


def text(content: dict[str, Any]) -> str:
    """Return the text of the document ``content``, whose secrets are masked."""
    sections = (_machine, _environments, _distances, _kernels, _indexes, _caches, _warnings)
    parts = ("".join(f"{_printable(line)}\n" for line in section(content)) for section in sections)
    return "\n".join(part for part in parts if part)


def _machine(content: dict[str, Any]) -> Iterator[str]:
    platform, conda, home = content["platform"], content["conda"], content["home"]
    rows = [("platform", f"{platform['kind']} ({platform['because']})")]
    names = [f"{key.replace('_', ' ')} {content['instance'][key]}" for key in _NAMES if content["instance"][key]]
    if names:
        rows.append(("instance", ", ".join(names)))
    if platform["volume"]:
        rows.append(("volume", f"{platform['volume']}, which survives a restart"))
    rows += [
        ("space", f"{size_of(room['free'])} of {size_of(room['total'])} left on {room['path']}")
        for room in content["space"]
    ]
    size = f", {size_of(home['size'])}" if "size" in home else ""
    rows.append(("tool home", home["path"] + (size if home["exists"] else " (does not exist yet)")))
    for installation in conda["installations"]:
        versions = ", ".join(f"{name} {installation[name]}" for name in ("conda", "mamba") if installation[name])
        provided = " (platform)" if installation["provided"] else ""
        rows.append(("conda", f"{versions or 'no conda command'} in {installation['prefix']}{provided}"))
    if not conda["installations"]:
        rows.append(("conda", "none found"))
    if conda["command"]:
        rows.append(("", f"command {conda['command']}"))
    if "together" in content:
        rows.append(("together", f"{size_of(content['together'])}, shared files counted once"))
    return _table(rows)


def _environments(content: dict[str, Any]) -> Iterator[str]:
    environments = content["environments"]
    if not environments:
        yield "no environment was found"
        return
    sizes = _SIZES if "size" in environments[0] else ()
    rows = [("ENVIRONMENT", "MADE BY", "PYTHON", "CONDA", "PIP", "STATE", *sizes, "KERNELS", "PREFIX")]
    rows += [
        (
            environment["name"] + ("*" if environment["jupyter_server"] else ""),
            _MAKERS[environment["made_by"]],
            environment["python"] or "-",
            str(environment["conda_packages"]) if environment["kind"] == "conda" else "venv",
            str(environment["pip_packages"]),
            environment["state"],
            *_sizes(environment),
            ", ".join(environment["kernels"]) or "-",
            environment["prefix"],
        )
        for environment in environments
    ]
    yield from _table(rows)
    if any(environment["jupyter_server"] for environment in environments):
        yield "* the Jupyter server runs from it"
    yield from (
        f"{environment['name']}: {environment['state']}: {environment['because']}"
        for environment in environments
        if environment["because"]
    )


_SIZES = ("SIZE", "NOT SHARED")


def _sizes(entry: dict[str, Any]) -> tuple[str, ...]:
    return (size_of(entry["size"]), size_of(entry["size"] - entry["shared"])) if "size" in entry else ()


def _distances(content: dict[str, Any]) -> Iterator[str]:
    for environment in content["environments"]:
        moved = environment["distance"]
        if moved:
            shown = [_moved(change) for change in moved[:_LONGEST]]
            more = f" and {len(moved) - _LONGEST} more" if len(moved) > _LONGEST else ""
            yield f"{environment['name']} differs from its image: {', '.join(shown)}{more}"
        elif moved is None and environment["made_by"] == "platform":
            yield f"{environment['name']}: its image is not recorded yet; the first run after a restart records it"


def _moved(change: dict[str, Any]) -> str:
    if change["from"] is None:
        text = f"{change['name']} {change['to']} added"
    elif change["to"] is None:
        text = f"{change['name']} {change['from']} removed"
    else:
        text = f"{change['name']} {change['from']} -> {change['to']}"
    return text + (" (permitted)" if change["permitted"] else "")


def _kernels(content: dict[str, Any]) -> Iterator[str]:
    # Not ipykernel's own kernel, which each environment has, and only a Jupyter inside it lists.
    listed = [environment["prefix"] for environment in content["environments"] if "python3" in environment["kernels"]]
    kernels = [
        kernel
        for kernel in content["kernels"]
        if (kernel["scope"], kernel["name"]) != ("env", "python3") or kernel["prefix"] in listed
    ]
    if not kernels:
        return iter(["no kernel is offered"])
    names = {environment["prefix"]: environment["name"] for environment in content["environments"]}
    rows = [("KERNEL", "DISPLAY NAME", "SCOPE", "ENVIRONMENT", "STARTS", "FOLDER")]
    rows += [
        (
            kernel["name"],
            kernel["display_name"] or "(kernel.json cannot be read)",
            kernel["scope"],
            names.get(kernel["prefix"]) or kernel["prefix"] or "-",
            _starts(kernel),
            kernel["folder"] + (f" (hidden by {kernel['hidden_by']})" if kernel["hidden_by"] else ""),
        )
        for kernel in kernels
    ]
    return _table(rows)


def _starts(kernel: dict[str, Any]) -> str:
    if kernel["program"] is None:
        return "nothing"
    return f"{kernel['program']} (missing)" if kernel["program_exists"] is False else str(kernel["program"])


def _indexes(content: dict[str, Any]) -> Iterator[str]:
    rows = [("INDEXES", "", "", "FROM")]
    for tool, settings in content["indexes"].items():
        for field, setting in settings.items():
            value = setting["value"]
            shown = " ".join(value) if isinstance(value, list) else str(value)
            rows.append((tool, field, shown, setting["origin"]))
    channels = content["conda"]["channels"]
    rows += [("conda", channel["name"], " ".join(channel["urls"]), channel["origin"]) for channel in channels]
    return _table(rows)


def _caches(content: dict[str, Any]) -> Iterator[str]:
    caches = content["caches"]
    if not caches:
        return iter(())
    rows = [("CACHE", *(_SIZES if "size" in caches[0] else ()), "FOLDER")]
    return _table(rows + [(cache["what"], *_sizes(cache), cache["path"]) for cache in caches])


def _warnings(content: dict[str, Any]) -> Iterator[str]:
    return (f"warning: {warning}" for warning in content["warnings"])


def _table(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines with aligned columns."""
    rows = [[_printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _printable(line: str) -> str:
    """Replace characters that could control a terminal: names and files may contain any."""
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def size_of(number: int) -> str:
    """A number of bytes for a person: ``1.5 GB``."""
    size = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
