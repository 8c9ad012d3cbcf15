"""The codec that comes with Unlost: ``CODEC=unlost.encryption:AesGcm``."""

from unlost.listener.shipped.encryption import AesGcm

__all__ = ["AesGcm"]
