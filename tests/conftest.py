"""Fixtures that every test may ask for."""

from tests.support.servers import (
    _database_numbers,
    database_url,
    own_postgres,
    own_valkey,
    postgres_server,
    redis_url,
    valkey_server,
)

__all__ = [
    "_database_numbers",
    "database_url",
    "own_postgres",
    "own_valkey",
    "postgres_server",
    "redis_url",
    "valkey_server",
]
