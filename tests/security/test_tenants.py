"""Two tenants with groups of their own in one database: neither reads the other, nor harms it."""

import asyncpg
import pytest

from tests.contract.test_grants import KINDS, Roles, roles

__all__ = ["roles"]
TABLES = """
select relname, relkind = 'S' as counts from pg_class where relkind in ('r', 'p', 'v', 'm', 'S')
    and relnamespace = 'unlost_other'::regnamespace order by relname"""
TRIED = (
    "select * from {}", "delete from {}", "insert into {} default values", "truncate {}",
    "create trigger t before insert on {} execute function suppress_redundant_updates_trigger()",
    "create policy p on {} using (true)", "alter table {} disable trigger all", "drop table {}", "copy {} to stdout",
)  # fmt: skip
ON_SEQUENCES = ("select nextval('{}')", "select setval('{}', 1)", "select last_value from {}")


async def test_no_role_of_a_tenant_reaches_anything_of_the_other(roles: Roles):
    owner = await asyncpg.connect(roles.url)
    tables = await owner.fetch(TABLES)
    await owner.close()
    assert len(tables) > 10
    for kind in KINDS:
        connection = await asyncpg.connect(roles.as_role(kind))
        for name, counts in tables:
            for statement in ON_SEQUENCES if counts else TRIED:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement.format(f"unlost_other.{name}"))
        await connection.close()


async def test_a_tenant_neither_becomes_nor_watches_nor_ends_the_other(roles: Roles):
    other = await asyncpg.connect(roles.as_role("listener", "other"))
    pid = await other.fetchval("select pg_backend_pid() /* card 4111 */")
    mine = await asyncpg.connect(roles.as_role("listener"))
    for statement in (
        f"set role {roles.name('listener', 'other')}", f"select pg_terminate_backend({pid})",
        f"select pg_cancel_backend({pid})", f"alter role {roles.name('listener', 'other')} password 'x'",
        "create schema unlost_mine", "drop schema unlost_other cascade", "alter schema unlost_other rename to x",
    ):  # fmt: skip
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await mine.execute(statement)
    seen = await mine.fetchval("select query from pg_stat_activity where pid = $1", pid)
    assert seen == "<insufficient privilege>"
    assert await other.fetchval("select 1") == 1
    await other.close()
    await mine.close()
