"""Socket.IO as a source: namespaces, binary attachments, acknowledgements, recovery. Its library is optional."""

SCHEMES = ("socketio://", "socketios://")
"""The schemes of addresses of Socket.IO servers."""
