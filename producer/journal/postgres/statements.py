"""The SQL of the journal in PostgreSQL.

``head`` is one row, and the lock of the journal: each transaction that numbers or removes entries updates it first, and
holds it until its commit. So numbers have no hole, and entries become visible in their order.
"""

SCHEMA = """
create schema if not exists producer_journal;
create table if not exists producer_journal.head (
    one boolean primary key default true check (one),
    identity text not null,
    timeline bigint not null default 0,
    newest bigint not null default 0,
    bytes bigint not null default 0,
    dropped bigint not null default 0,
    forgotten bigint not null default 0,
    dropped_unread bigint not null default 0,
    probed_at double precision);
create table if not exists producer_journal.entries (
    number bigint primary key,
    event_id text not null,
    digest bytea not null check (length(digest) = 32),
    body bytea,
    at double precision not null,
    first boolean not null);
create unique index if not exists entries_first on producer_journal.entries (event_id) where first;
create table if not exists producer_journal.timelines (
    ordinal bigint primary key, random text not null, first bigint not null);
create table if not exists producer_journal.groups (
    name text primary key, settled bigint not null, at double precision not null,
    forgotten boolean not null default false);
create table if not exists producer_journal.moving (
    one boolean primary key default true check (one), state text not null, other text not null);
"""
IS_THERE = "select to_regclass('producer_journal.groups') is not null"
HAS_MARKS = "select to_regclass('producer_journal.moving') is not null"
"""A journal of an earlier version gets the table when it moves."""
ONE_AT_A_TIME = "select pg_advisory_xact_lock(hashtext('producer_journal'))"
"""Two producers that start at once would create the tables at once."""
IDENTIFY = "insert into producer_journal.head (identity) values ($1) on conflict do nothing"
CHANNEL = "producer_journal"
HEAD = """select identity, timeline, newest, bytes, dropped,
    forgotten, greatest(dropped, forgotten) as before_oldest, dropped_unread, probed_at
    from producer_journal.head"""
LOCK = HEAD + " for update"
TIMELINES = "select ordinal, random, first from producer_journal.timelines order by ordinal"
FORGET_TIMELINES = "delete from producer_journal.timelines where ordinal <> all($1::bigint[])"
ADD_TIMELINE = "insert into producer_journal.timelines values ($1, $2, $3)"
BEGIN_TIMELINE = "update producer_journal.head set timeline = $1"
GROW = """update producer_journal.head set newest = newest + $1, bytes = bytes + $2
    where timeline = $3 and newest >= $4 returning newest, bytes"""
"""Nothing is returned if another producer has begun a timeline, or if the journal ends before what was read of it."""
_ROWS = """select {} + place, event_id, digest, body, $5, true
    from unnest($6::text[], $7::bytea[], $8::bytea[]) with ordinality as new (event_id, digest, body, place)"""
APPEND = f"""with grown as ({GROW}),
    inserted as (
        insert into producer_journal.entries (number, event_id, digest, body, at, first)
        {_ROWS.format("(select newest - $1 from grown)")}
        where exists (select from grown))
    select newest, bytes, pg_notify('{CHANNEL}', newest::text) from grown"""  # noqa: S608  made of constants
"""New events, in one statement that is a transaction by itself."""
INSERT_SOME = """insert into producer_journal.entries (number, event_id, digest, body, at, first)
    select number, event_id, digest, body, $1, first
    from unnest($2::bigint[], $3::text[], $4::bytea[], $5::bytea[], $6::boolean[])
        as few (number, event_id, digest, body, first)"""
NOTIFY = f"select pg_notify('{CHANNEL}', $1::text)"
KNOWN = """select event_id, number, digest from producer_journal.entries where first and event_id = any($1::text[])"""
BODIES = "select number, body from producer_journal.entries where number = any($1::bigint[])"
_ENTRY = "number, event_id, digest, coalesce(body, ''::bytea) as body, at"
READ = f"""select timeline, newest, greatest($1, dropped, forgotten) as before, found.*
    from producer_journal.head left join lateral (
        select {_ENTRY} from (
            select *, sum(length(body)) over (order by number rows unbounded preceding) - length(body) as earlier
            from (
                select number, event_id, digest, body, at from producer_journal.entries
                where number > greatest($1, dropped, forgotten) order by number limit $2) as few) as measured
        where coalesce(earlier, 0) < $3 order by number) as found on true"""  # noqa: S608  made of constants
"""With the head of the same snapshot: the current timeline, so that no entry gets a cursor of an earlier one, and both
ends, so that a hole is noticed. Bodies beyond the limit of bytes are not read."""
FIRST = f"select {_ENTRY} from producer_journal.entries where first and event_id = $1"  # noqa: S608
OLDEST = """select number, length(body), at from producer_journal.entries
    where number > greatest($1, (select forgotten from producer_journal.head)) order by number limit $2"""
FORGET = "delete from producer_journal.entries where number <= $1 and number > $2"
EMPTY = "update producer_journal.entries set body = null where number > $1 and number <= $2"
SHRINK = """update producer_journal.head set bytes = bytes - $1, forgotten = greatest(forgotten, $2),
    dropped = greatest(dropped, $3)"""
DROPPED_UNREAD = "update producer_journal.head set dropped_unread = dropped_unread + $1"
PROBE = "update producer_journal.head set probed_at = $1"
UNREAD = """select count(*) as entries, coalesce(sum(length(body)), 0)::bigint as size
    from producer_journal.entries where number > $1"""
GROUPS = "select name, settled, at, forgotten from producer_journal.groups order by name"
REMEMBER = """insert into producer_journal.groups (name, settled, at)
    select * from unnest($1::text[], $2::bigint[], $3::double precision[])
    on conflict (name) do update set settled = excluded.settled, at = excluded.at, forgotten = false"""
HOLDING = "select count(*) from producer_journal.entries where position($1::bytea in body) > 0"
FORGET_GROUP = "update producer_journal.groups set forgotten = true where name = $1 and not forgotten returning name"
LOCK_NEWEST = "select newest from producer_journal.head for update"
MARK = "select state, other from producer_journal.moving"
PUT_MARK = """insert into producer_journal.moving (state, other) values ($1, $2)
    on conflict (one) do update set state = excluded.state, other = excluded.other"""
REMOVE_MARK = "delete from producer_journal.moving"
LOCK_JOURNAL = "lock table producer_journal.head in exclusive mode"
"""Waits for each transaction that has the head, also those that will write entries next. Readers go on."""
TAKE_ENTRIES = "drop trigger if exists moved on producer_journal.entries"
REFUSE_ENTRIES = """
create or replace function producer_journal.refuse() returns trigger language plpgsql as $$ begin
    raise exception 'the journal has moved to %: start the producer there (JOURNAL)',
        (select other from producer_journal.moving);
end $$;
create trigger moved before insert on producer_journal.entries for each row execute function producer_journal.refuse();
"""
"""A producer of an earlier version does not look for the mark, so the server refuses what it inserts."""
CLEAR = "truncate producer_journal.head, producer_journal.entries, producer_journal.timelines, producer_journal.groups"
BEGIN = """insert into producer_journal.head (identity, newest, dropped, forgotten) values ($1, $2, $2, $2)"""
IDS = """select forgotten, dropped, number, event_id, digest, at from producer_journal.head left join lateral (
        select * from producer_journal.entries where number > $1 and number <= dropped order by number limit $2) as old
    on true order by number"""
"""Entries whose bodies retention has dropped."""
COPY = """insert into producer_journal.entries (number, event_id, digest, body, at, first)
    select number, event_id, digest, body, at,
        row_number() over (partition by event_id order by number) = 1
        and not exists (select from producer_journal.entries as known where first and known.event_id = new.event_id)
    from unnest($1::bigint[], $2::text[], $3::bytea[], $4::bytea[], $5::double precision[])
        as new (number, event_id, digest, body, at)"""
GREW = """update producer_journal.head set newest = $1, bytes = bytes + $2, dropped = greatest(dropped, $3)"""
COPY_GROUPS = """insert into producer_journal.groups (name, settled, at, forgotten)
    select * from unnest($1::text[], $2::bigint[], $3::double precision[], $4::boolean[])"""
CLEAR_GROUPS = "delete from producer_journal.groups"
COPY_HEAD = "update producer_journal.head set dropped_unread = $1, probed_at = $2"
