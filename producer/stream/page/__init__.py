"""The web page, and its Content-Security-Policy: only its own script and style may run."""

import base64
import hashlib
import re
from dataclasses import dataclass
from importlib import resources

_HOME = b'<meta name="producer" content="">'


@dataclass(frozen=True, slots=True)
class PageFiles:
    """The bytes of the page."""

    html: bytes

    def publishing_to(self, port: int) -> bytes:
        """The page as another port serves it: it publishes to ``port``."""
        return self.html.replace(_HOME, b'<meta name="producer" content="%d">' % port)

    def policy(self, connect_to: str = "") -> str:
        """The Content-Security-Policy. ``connect_to`` is a host that the page may publish to besides its own."""
        script, style = _hash(self.html, b"script"), _hash(self.html, b"style")
        return (
            f"default-src 'none'; script-src '{script}'; style-src '{style}'; "
            f"connect-src 'self' {connect_to}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )


def load_page() -> PageFiles:
    """Read the page from the package."""
    return PageFiles(resources.files("unlost.producer.stream.page").joinpath("index.html").read_bytes())


def _hash(html: bytes, tag: bytes) -> str:
    found = re.search(b"<%b>(.*?)</%b>" % (tag, tag), html, re.DOTALL)
    content = found.group(1) if found else b""
    return "sha256-" + base64.b64encode(hashlib.sha256(content).digest()).decode()
