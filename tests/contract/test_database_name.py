"""The name by which a producer distinguishes groups of one name: the same for every role and after a restore."""

import os
import re

import asyncpg

from unlost.listener.store.postgres.cursors import PostgresCursors
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.database_name import name_of_database
from unlost.ops.system.postgres import PostgresServer


async def name_of(url: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        return await name_of_database(connection)
    finally:
        await connection.close()


async def test_two_databases_have_two_names(database_url: str, postgres_server: PostgresServer) -> None:
    name = await name_of(database_url)
    assert re.fullmatch("[0-9a-f]{8}", name)
    assert name != await name_of(postgres_server.url)
    database = Database(database_url)
    assert await PostgresCursors(database).database() == name
    await database.close()


async def test_a_database_made_anew_keeps_its_name(postgres_server: PostgresServer) -> None:
    mine = f"test_{os.urandom(6).hex()}"
    first = await name_of(postgres_server.create_database(mine))
    postgres_server.drop_database(mine)
    again = await name_of(postgres_server.create_database(mine))
    postgres_server.drop_database(mine)
    assert again == first


async def test_a_role_without_rights_gets_a_name(database_url: str, own_postgres: PostgresServer) -> None:
    own_postgres.sql("create role clerk login password 'p'")
    own_postgres.sql("revoke execute on function pg_control_system() from public", "unlost")
    url = own_postgres.url.replace("unlost:", "clerk:", 1)
    clerk = re.sub(r"//[^@]*@", "//clerk:p@", url)
    assert await name_of(clerk) != await name_of(own_postgres.url), "the server keeps its identity to itself"
    own_postgres.sql("grant execute on function pg_control_system() to public", "unlost")
    assert await name_of(clerk) == await name_of(own_postgres.url)
