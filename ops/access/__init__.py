"""The commands for tokens: ``unlost token create``, ``list``, ``revoke``."""
