"""What is on a machine, as text for a person; the form may change, unlike that of the JSON document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

_MAKERS = {"platform": "platform", "nbprovision": "nbprovision", "other": "somebody else"}
_LONGEST = 5  # changes of an image that are named one by one; the JSON document has all


def text(content: dict[str, Any]) -> str:
    """The whole text.

    Args:
        content: The document, secrets masked.

    """
    sections = (_machine, _environments, _distances, _kernels, _indexes, _caches, _warnings)
    parts = ("".join(f"{_printable(line)}\n" for line in section(content)) for section in sections)
    return "\n".join(part for part in parts if part)


def _machine(content: dict[str, Any]) -> Iterator[str]:
    platform, conda, home = content["platform"], content["conda"], content["home"]
    rows = [("platform", f"{platform['kind']} ({platform['because']})")]
    if platform["volume"]:
        rows.append(("volume", f"{platform['volume']}, which survives a restart"))
    rows += [
        ("space", f"{_bytes(room['free'])} of {_bytes(room['total'])} left on {room['path']}")
        for room in content["space"]
    ]
    size = f", {_bytes(home['size'])}" if "size" in home else ""
    rows.append(("tool home", home["path"] + (size if home["exists"] else " (not made yet)")))
    for one in conda["installations"]:
        versions = [f"{name} {one[name]}" for name in ("conda", "mamba") if one[name]] or ["no conda command"]
        rows.append(("conda", f"{', '.join(versions)} in {one['prefix']}{' (platform)' if one['provided'] else ''}"))
    if not conda["installations"]:
        rows.append(("conda", "none found"))
    if conda["command"]:
        rows.append(("", f"command {conda['command']}"))
    if "together" in content:
        rows.append(("together", f"{_bytes(content['together'])}, what is shared counted once"))
    return _table(rows)


def _environments(content: dict[str, Any]) -> Iterator[str]:
    found = content["environments"]
    if not found:
        yield "no environment was found"
        return
    sizes = "size" in found[0]
    rows = [
        ("ENVIRONMENT", "MADE BY", "PYTHON", "CONDA", "PIP", "STATE", *(_SIZES if sizes else ()), "KERNELS", "PREFIX")
    ]
    rows += [
        (
            one["name"] + ("*" if one["jupyter_server"] else ""),
            _MAKERS[one["made_by"]],
            one["python"] or "-",
            str(one["conda_packages"]) if one["kind"] == "conda" else "venv",
            str(one["pip_packages"]),
            one["state"],
            *((_bytes(one["size"]), _bytes(one["size"] - one["shared"])) if sizes else ()),
            ", ".join(one["kernels"]) or "-",
            one["prefix"],
        )
        for one in found
    ]
    yield from _table(rows)
    if any(one["jupyter_server"] for one in found):
        yield "* the Jupyter server runs from it"
    yield from (f"{one['name']}: {one['state']}: {one['because']}" for one in found if one["because"])


_SIZES = ("SIZE", "NOT SHARED")


def _distances(content: dict[str, Any]) -> Iterator[str]:
    for one in content["environments"]:
        moved = one["distance"]
        if moved:
            shown = [_moved(change) for change in moved[:_LONGEST]]
            more = f" and {len(moved) - _LONGEST} more" if len(moved) > _LONGEST else ""
            yield f"{one['name']} is not as its image brought it: {', '.join(shown)}{more}"
        elif moved is None and one["made_by"] == "platform":
            yield f"{one['name']}: what its image brought is written down by the first run after a restart, not by now"


def _moved(change: dict[str, Any]) -> str:
    if change["from"] is None:
        told = f"{change['name']} {change['to']} added"
    elif change["to"] is None:
        told = f"{change['name']} {change['from']} removed"
    else:
        told = f"{change['name']} {change['from']} -> {change['to']}"
    return told + (" (permitted)" if change["permitted"] else "")


def _kernels(content: dict[str, Any]) -> Iterator[str]:
    # The kernel that ipykernel brings is seen only by a Jupyter inside the same environment: there is one in each.
    found = [one for one in content["kernels"] if not (one["scope"] == "env" and one["name"] == "python3")]
    if not found:
        return iter(["no kernel is offered"])
    names = {one["prefix"]: one["name"] for one in content["environments"]}
    rows = [("KERNEL", "DISPLAY NAME", "SCOPE", "ENVIRONMENT", "STARTS", "FOLDER")]
    rows += [
        (
            one["name"],
            one["display_name"] or "(kernel.json cannot be read)",
            one["scope"],
            names.get(one["prefix"]) or one["prefix"] or "-",
            _starts(one),
            one["folder"] + (f" (hidden by {one['hidden_by']})" if one["hidden_by"] else ""),
        )
        for one in found
    ]
    return _table(rows)


def _starts(kernel: dict[str, Any]) -> str:
    if kernel["program"] is None:
        return "nothing"
    return f"{kernel['program']} (not there)" if kernel["program_exists"] is False else str(kernel["program"])


def _indexes(content: dict[str, Any]) -> Iterator[str]:
    rows = [("INDEXES", "", "", "FROM")]
    for tool, settings in content["indexes"].items():
        for field, setting in settings.items():
            value = setting["value"]
            shown = " ".join(value) if isinstance(value, list) else str(value)
            rows.append((tool, field, shown, setting["origin"]))
    found = content["conda"]["channels"]
    rows += [("conda", one["name"], " ".join(one["urls"]), one["origin"]) for one in found]
    return _table(rows)


def _caches(content: dict[str, Any]) -> Iterator[str]:
    found = content["caches"]
    if not found:
        return iter(())
    sizes = "size" in found[0]
    rows = [("CACHE", *(_SIZES if sizes else ()), "FOLDER")]
    rows += [
        (
            one["what"],
            *((_bytes(one["size"]), _bytes(one["size"] - one["shared"])) if sizes else ()),
            one["path"],
        )
        for one in found
    ]
    return _table(rows)


def _warnings(content: dict[str, Any]) -> Iterator[str]:
    return (f"warning: {warning}" for warning in content["warnings"])


def _table(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as their widest entry; the last one is not filled up."""
    rows = [[_printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _printable(line: str) -> str:
    """What names and files say may hold anything; a terminal is not to be ruled by it."""
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def _bytes(number: int) -> str:
    size = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
