"""TLS: contexts for servers and clients, certificates that change while a server runs, and failures as sentences.

TLS 1.2 is the least version, everywhere. Clients verify the server's certificate and its name.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LEAST_VERSION = ssl.TLSVersion.TLSv1_2
HANDSHAKE_SECONDS = 5.0
"""How long a client may take for its handshake. Until then it holds a connection that is in no count."""
SUBJECT = "unlost.subject"
"""Under this key of an ASGI scope stands the subject of the client's certificate."""
Stamp = tuple[tuple[int, int, int] | None, ...]
SHORT = {
    "commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU", "countryName": "C",
    "localityName": "L", "stateOrProvinceName": "ST", "serialNumber": "SERIALNUMBER", "domainComponent": "DC",
}  # fmt: skip


class WrongCertificate(Exception):
    """A certificate or a key cannot be used, for the reason that the message gives."""


@dataclass(frozen=True, slots=True)
class ClientTls:
    """The authorities that a client trusts, and its own certificate. Without a file, it trusts those of the system."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.ca or self.cert)

    def context(self) -> ssl.SSLContext:
        """Make a context that verifies the server. Raises ``WrongCertificate``."""
        made = ssl.create_default_context(cafile=None)
        made.minimum_version = LEAST_VERSION
        if self.ca is not None:
            made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts this file alone
            made.minimum_version = LEAST_VERSION
            _trust(made, self.ca)
        if self.cert is not None:
            _show(made, self.cert, self.key)
        return made


class ServerTls:
    """The certificate of a server. ``refresh`` loads a changed one for new connections."""

    def __init__(self, cert: Path, key: Path | None = None, client_ca: Path | None = None) -> None:
        """Raises ``WrongCertificate``.

        ``client_ca``: a client may show a certificate of this authority. It is verified, and then names the client.
        Clients without one must have a token; probes have neither.
        """
        self._cert, self._key, self._client_ca = cert, key, client_ca
        self._stamp = self._stamp_now()
        self.error = ""
        """Why changed files cannot be used."""
        self._current = self._made()
        self.context = self._made()
        """The context of servers. Each handshake uses the newest files."""
        self.context.sni_callback = self._take_current

    def refresh(self) -> bool:
        """Load the files if they have changed; return whether that was done.

        Files that cannot be used, or change while they are read, are not loaded. The earlier certificate is served,
        ``error`` says why, and the files are tried again the next time.
        """
        stamp = self._stamp_now()
        if stamp == self._stamp and not self.error:
            return False
        try:
            made = self._made()
        except WrongCertificate as error:
            self._stamp, self.error = stamp, str(error)
            return False
        if self._stamp_now() != stamp:
            return False
        self._stamp, self._current, self.error = stamp, made, ""
        return True

    def _take_current(self, connection: ssl.SSLSocket | ssl.SSLObject, *_: object) -> None:
        """Called in each handshake, whether or not the client names a server."""
        connection.context = self._current

    def _made(self) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = LEAST_VERSION
        _show(made, self._cert, self._key)
        if self._client_ca is not None:
            made.verify_mode = ssl.CERT_OPTIONAL
            _trust(made, self._client_ca)
        return made

    def _stamp_now(self) -> Stamp:
        return tuple(_stamp(path) for path in (self._cert, self._key, self._client_ca) if path is not None)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _show(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    def no_password() -> str:
        raise WrongCertificate(
            f"{key or cert} is encrypted; give a key without a password, readable by its owner alone"
        )

    try:
        context.load_cert_chain(cert, key, password=no_password)
    except ssl.SSLError as error:
        raise WrongCertificate(
            f"{cert} and its key{f' {key}' if key else ''} cannot be used: {error.reason or error}"
        ) from None
    except OSError as error:
        raise WrongCertificate(f"{cert}{f' or {key}' if key else ''} cannot be read: {error.strerror}") from None


def _trust(context: ssl.SSLContext, ca: Path) -> None:
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise WrongCertificate(f"{ca} holds no certificates of an authority: {error.reason or error}") from None
    except OSError as error:
        raise WrongCertificate(f"{ca} cannot be read: {error.strerror}") from None


def subject_of(certificate: Mapping[str, Any] | None) -> str:
    """The subject of a verified client certificate, such as ``O=Shop,CN=listener``; an empty text without one."""
    names = [pair for part in (certificate or {}).get("subject", ()) for pair in part]
    return ",".join(f"{SHORT.get(name, name)}={_escaped(value)}" for name, value in names)


def _escaped(value: str) -> str:
    return "".join(f"\\{one}" if one in ',+"\\<>;=' else one for one in value)


LONGEST_CHAIN = 24
EXPIRED, NOT_YET = 10, 9
UNTRUSTED = frozenset({2, 18, 19, 20, 21})
WRONG_NAME = frozenset({62, 63, 64})
REASONS = {
    "CERTIFICATE_REQUIRED": "the server requires a client certificate{cert}",
    "UNKNOWN_CA": "the server does not trust our client certificate: another authority signed it",
    "CERTIFICATE_EXPIRED": "our client certificate has expired",
    "BAD_CERTIFICATE": "the server refuses our client certificate",
    "WRONG_VERSION_NUMBER": "the server does not speak TLS at this address",
    "PROTOCOL_VERSION": "the server and this client have no version of TLS in common; 1.2 is the least",
    "UNSUPPORTED_PROTOCOL": "the server and this client have no version of TLS in common; 1.2 is the least",
}


def tls_failure(error: BaseException, *, ca: str = "the CA", cert: str = "the client certificate") -> str | None:
    """One sentence on a failure of TLS, wherever it stands in the chain of causes; None if TLS did not fail.

    ``ca`` and ``cert`` are the settings by which a user can help. An empty ``cert``: none can be given here.
    """
    for one in _chain(error):
        if isinstance(one, ssl.SSLCertVerificationError):
            return _unverified(one, ca)
        if isinstance(one, ssl.SSLError) and not isinstance(one, ssl.SSLWantReadError | ssl.SSLWantWriteError):
            return _alert(one, cert)
    return None


def _chain(error: BaseException) -> list[BaseException]:
    """The error, its causes, and those during whose handling they were raised."""
    found = [error]
    for one in found:
        found += [other for other in (one.__cause__, one.__context__) if other is not None and other not in found][
            : max(0, LONGEST_CHAIN - len(found))
        ]
    return found


def _unverified(error: ssl.SSLCertVerificationError, ca: str) -> str:
    match error.verify_code:
        case code if code == EXPIRED:
            return "the server's certificate has expired"
        case code if code == NOT_YET:
            return "the server's certificate is not valid yet"
        case code if code in WRONG_NAME:
            return f"the server's certificate is for another name: {error.verify_message}"
        case code if code in UNTRUSTED:
            return f"the server's certificate is signed by an authority that is not trusted; set {ca}"
        case _:
            return f"the server's certificate cannot be verified: {error.verify_message}"


def _alert(error: ssl.SSLError, cert: str) -> str:
    reason = getattr(error, "reason", None) or str(error)  # one that a library makes has none
    for known, sentence in REASONS.items():
        if known in reason:
            return sentence.format(cert=f"; set {cert}" if cert else ", and none can be given here")
    return f"TLS failed: {reason.lower().replace('_', ' ')}"
