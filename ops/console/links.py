"""Links from the console to logs, traces and dashboards elsewhere, made from templates. Pure."""

from collections.abc import Mapping
from urllib.parse import quote, urlsplit

FIELDS = ("event_id", "instance", "group")


def mistake_in(template: str) -> str:
    """Return what is wrong with a template; empty if nothing is."""
    parts = urlsplit(template)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or "{" in parts.netloc:
        return "it is no http or https URL"
    rest = template
    for name in FIELDS:
        rest = rest.replace(f"{{{name}}}", "")
    return f"only {{{'}, {'.join(FIELDS)}}} can be filled in" if "{" in rest or "}" in rest else ""


def filled(template: str, values: Mapping[str, str]) -> str:
    """Fill in a template; values are escaped, so they cannot leave their place in the URL."""
    for name in FIELDS:
        template = template.replace(f"{{{name}}}", quote(values.get(name, ""), safe=""))
    return template


def links_of(templates: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    """The links whose fields are all known, by name."""
    known = [f"{{{name}}}" for name in FIELDS if name not in values]
    return {
        name: filled(one, values) for name, one in templates.items() if one and not any(field in one for field in known)
    }
