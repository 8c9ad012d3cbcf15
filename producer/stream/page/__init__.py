"""The page, and the policy under which a browser shows it: its own script and style, nothing else."""

import base64
import hashlib
import re
from dataclasses import dataclass
from importlib import resources

_HOME = b'<meta name="producer" content="">'


@dataclass(frozen=True, slots=True)
class Page:
    """The page's bytes."""

    html: bytes

    def publishing_to(self, port: int) -> bytes:
        """The page for another port than that which it publishes to."""
        return self.html.replace(_HOME, b'<meta name="producer" content="%d">' % port)

    def policy(self, connect_to: str = "") -> str:
        """The Content-Security-Policy; ``connect_to`` is a host to publish to beside the page's own."""
        script, style = _hash(self.html, b"script"), _hash(self.html, b"style")
        return (
            f"default-src 'none'; script-src '{script}'; style-src '{style}'; "
            f"connect-src 'self' {connect_to}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )


def load_page() -> Page:
    """Read the page that the package brings."""
    return Page(resources.files("unlost.producer.stream.page").joinpath("index.html").read_bytes())


def _hash(html: bytes, tag: bytes) -> str:
    found = re.search(b"<%b>(.*?)</%b>" % (tag, tag), html, re.DOTALL)
    content = found.group(1) if found else b""
    return "sha256-" + base64.b64encode(hashlib.sha256(content).digest()).decode()
