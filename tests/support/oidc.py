"""A small identity provider (OpenID Connect) on loopback. It makes its tokens by hand, and so each mistake on wish."""

import base64
import contextlib
import hashlib
import html
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

CLIENT, SECRET = "unlost-console", "s3cret+of/the=client"
EVA: dict[str, Any] = {"sub": "248289", "preferred_username": "eva@bank.example", "groups": ["oncall", "others"]}


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def packed(value: object) -> str:
    return text(json.dumps(value).encode())


def number(value: int) -> str:
    return text(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class Key:
    """A key with which the provider signs: RSA (RS256), or of a curve (ES256)."""

    def __init__(self, kid: str, algorithm: str = "RS256") -> None:
        self.kid = kid
        self.algorithm = algorithm
        self._key = (
            rsa.generate_private_key(public_exponent=65537, key_size=2048)
            if algorithm == "RS256"
            else ec.generate_private_key(ec.SECP256R1())
        )

    def public(self) -> dict[str, str]:
        """As it stands among the provider's keys."""
        known = {"kid": self.kid, "use": "sig", "alg": self.algorithm}
        if isinstance(self._key, rsa.RSAPrivateKey):
            rsa_numbers = self._key.public_key().public_numbers()
            return {**known, "kty": "RSA", "n": number(rsa_numbers.n), "e": number(rsa_numbers.e)}
        numbers = self._key.public_key().public_numbers()
        x, y = (text(one.to_bytes(32, "big")) for one in (numbers.x, numbers.y))
        return {**known, "kty": "EC", "crv": "P-256", "x": x, "y": y}

    def sign(self, signed: bytes) -> bytes:
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
        r, s = decode_dss_signature(self._key.sign(signed, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


Answer = tuple[int, Any]


@dataclass
class IdentityProvider:
    """What it says, and what it was asked. ``person``: claims that replace or join those of the rule."""

    issuer: str
    key: Key = field(default_factory=lambda: Key("first"))
    person: dict[str, Any] = field(default_factory=lambda: dict(EVA))
    header: dict[str, Any] = field(default_factory=dict)
    described: dict[str, Any] = field(default_factory=dict)
    published: list[Key] | None = None
    """Keys that it shows; None: its own."""
    sign: Callable[[bytes], bytes] | None = None
    answers: dict[str, Answer] = field(default_factory=dict)
    """By path: what it answers in place of what is right."""
    asked: list[str] = field(default_factory=list)
    waits: bool = False
    """It shows a page with a button, and does not send the browser back at once."""
    refuses: dict[str, str] = field(default_factory=dict)
    """It sends the browser back with these values, and no code."""
    tokens: list[str] = field(default_factory=list)
    """All that it has issued: codes, access tokens, ID tokens."""
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def description(self) -> dict[str, Any]:
        known = {
            "issuer": self.issuer, "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token", "jwks_uri": f"{self.issuer}/keys",
            "response_types_supported": ["code"], "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }  # fmt: skip
        return known | self.described

    def authorized(self, query: Mapping[str, str]) -> str:
        """Where the browser goes back to."""
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        assert "openid" in query["scope"].split()
        assert query["client_id"] == CLIENT
        code = self._new()
        self._codes[code] = dict(query)
        sent = {"state": query["state"], "iss": self.issuer, **(self.refuses or {"code": code})}
        return f"{query['redirect_uri']}?{urlencode(sent)}"

    def exchanged(self, form: Mapping[str, str], authorization: str) -> Answer:
        """Change a code into tokens; each once, for the client and the verifier that belong to it."""
        name, _, secret = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        given = (
            (unquote_plus(name), unquote_plus(secret))
            if authorization
            else (form["client_id"], form.get("client_secret"))
        )
        if given != (CLIENT, SECRET):
            return 401, {"error": "invalid_client"}
        begun = self._codes.pop(form["code"], None)
        if begun is None or begun["redirect_uri"] != form["redirect_uri"]:
            return 400, {"error": "invalid_grant", "error_description": f"no such code: {form['code']}"}
        if begun["code_challenge"] != text(hashlib.sha256(form["code_verifier"].encode()).digest()):
            return 400, {"error": "invalid_grant", "error_description": "the verifier is another"}
        token = self.id_token(begun["nonce"])
        return 200, {"access_token": self._new(), "token_type": "Bearer", "id_token": token}

    def id_token(self, nonce: str) -> str:
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": nonce, **self.person}
        header = {"alg": self.key.algorithm, "kid": self.key.kid, **self.header}
        signed = f"{packed(header)}.{packed({name: one for name, one in claims.items() if one is not None})}"
        token = f"{signed}.{text((self.sign or self.key.sign)(signed.encode()))}"
        self.tokens.append(token)
        return token

    def keys(self) -> dict[str, Any]:
        return {"keys": [one.public() for one in ([self.key] if self.published is None else self.published)]}

    def _new(self) -> str:
        self.tokens.append(secrets.token_urlsafe(24))
        return self.tokens[-1]


@contextlib.contextmanager
def identity_provider(host: str = "127.0.0.1") -> Iterator[IdentityProvider]:
    """A provider that runs. ``localhost`` is another site than 127.0.0.1, as a provider's usually is."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    provider = IdentityProvider(f"http://{host}:{server.server_address[1]}")
    server.provider = provider  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


PAGE = """<!doctype html><title>Sign in</title><form method="get" action="/authorize">
{fields}<input type="hidden" name="sure" value="1"><button>I am Eva</button></form>"""


class _Handler(BaseHTTPRequestHandler):
    @property
    def provider(self) -> IdentityProvider:
        found: IdentityProvider = self.server.provider  # type: ignore[attr-defined]
        return found

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.provider.asked.append(parts.path)
        if parts.path in self.provider.answers:
            self._say(*self.provider.answers[parts.path])
        elif parts.path == "/.well-known/openid-configuration":
            self._say(200, self.provider.description())
        elif parts.path == "/keys":
            self._say(200, self.provider.keys())
        elif parts.path == "/authorize" and self.provider.waits and "sure" not in query:
            fields = "".join(
                f'<input type="hidden" name="{name}" value="{html.escape(one)}">' for name, one in query.items()
            )
            self._say(200, PAGE.format(fields=fields).encode())
        elif parts.path == "/authorize":
            self.send_response(303)
            self.send_header("location", self.provider.authorized(query))
            self.end_headers()
        else:
            self._say(404, {"error": "not_found"})

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        self.provider.asked.append(self.path)
        if self.path in self.provider.answers:
            self._say(*self.provider.answers[self.path])
        else:
            one = {name: values[0] for name, values in form.items()}
            self._say(*self.provider.exchanged(one, self.headers.get("authorization", "")))

    def _say(self, status: int, answer: Any) -> None:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "text/html" if isinstance(answer, bytes) else "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""
