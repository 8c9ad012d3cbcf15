"""The SQL of the journal."""

SCHEMA = """
create table if not exists journal (one integer primary key check (one = 1), identity text not null);
create table if not exists entries (
    number integer primary key,
    event_id text not null,
    digest blob not null,
    body blob,
    at real not null,
    first integer not null,
    checksum blob);
create unique index if not exists entries_first on entries (event_id) where first;
create table if not exists timelines (ordinal integer primary key, random text not null, first integer not null);
create table if not exists proof (one integer primary key check (one = 1), at real not null);
create table if not exists held (
    one integer primary key check (one = 1), bytes integer not null, dropped integer not null);
insert or ignore into held
    select 1, coalesce(sum(length(body)), 0), coalesce(max(number) filter (where body is null), 0) from entries;
create table if not exists counted (one integer primary key check (one = 1), upto integer not null);
insert or ignore into counted select 1, coalesce(max(number), 0) from entries;
create table if not exists groups (
    name text primary key, settled integer not null, at real not null, forgotten integer not null default 0);
create table if not exists unread (one integer primary key check (one = 1), dropped integer not null);
insert or ignore into unread values (1, 0);
create table if not exists moving (
    one integer primary key check (one = 1), state text not null, other text not null);
"""
HAS_CHECKSUMS = "select 1 from pragma_table_info('entries') where name = 'checksum'"
ADD_CHECKSUMS = "alter table entries add column checksum blob"
"""For a journal of an earlier version. Its old entries have none, and are compared with their digests."""
KNOWN = "select event_id, number, digest from entries where first and event_id in (select value from json_each(?))"
INSERT = "insert into entries (number, event_id, digest, body, at, first, checksum) values (?, ?, ?, ?, ?, ?, ?)"
FEW = 16
INSERTS = [INSERT + ", (?, ?, ?, ?, ?, ?, ?)" * (rows - 1) for rows in range(1, FEW + 1)]
"""The insert statements for 1 to ``FEW`` rows."""
_INSERT_LINES = """insert into entries (number, event_id, digest, body, at, first, checksum)
    select {}, value, substr(?2, 32 * key + 1, 32),
        substr(
            ?3,
            cast(substr(?4, 10 * key + 1, 10) as integer) + key + 1,
            cast(substr(?4, 10 * key + 11, 10) as integer) - cast(substr(?4, 10 * key + 1, 10) as integer)),
        ?6, {}, substr(?7, 4 * key + 1, 4) from json_each(?1)"""
INSERT_LINES = _INSERT_LINES.format("?5 + key", 1)
"""Inserts rows cut from one text by its index, in one step that does not need the interpreter."""
INSERT_SOME_LINES = (
    _INSERT_LINES.format("cast(substr(?5, 18 * key + 1, 18) as integer)", "cast(substr(?8, key + 1, 1) as integer)")
    + " where substr(?8, key + 1, 1) <> '-'"
)
"""The same for some of the lines. Numbers and marks (``known.py``) are strings with a fixed width per line."""
COUNTS = """select max(coalesce((select max(number) from entries), 0), upto),
    (select bytes from held) + coalesce((select sum(length(body)) from entries where number > upto), 0) from counted"""
ENTRIES = """select number, event_id, digest, coalesce(body, x''), at,
    case typeof(checksum) when 'blob' then checksum else x'' end from entries
    where typeof(event_id) = 'text' and typeof(digest) = 'blob' and typeof(body) in ('blob', 'null')
    and typeof(at) = 'real'"""
"""One changed bit can make a column another type. Such a row counts as missing, and so as damaged."""
READ = """select number, event_id, digest, body, at, checksum from entries
    where number > max(?, (select dropped from held)) order by number limit ?"""
ENTRY = ENTRIES + " and number = ?"
FIRST = ENTRIES + " and first and event_id = ?"
BOUNDS = """select (select min(number) from entries where number > (select dropped from held)),
    max(coalesce((select max(number) from entries), 0), upto) from counted"""
"""A number is never given twice: ``counted`` remembers the highest, also when retention has deleted its row."""
OLDEST = """select number, length(body), case typeof(at) when 'real' then at else 0.0 end from entries
    where number > ? order by number limit ?"""
NEWEST = "select max(number) from entries"
UNREAD = "select count(*), coalesce(sum(length(body)), 0) from entries where number > ?"
GROUPS = "select name, settled, at, forgotten from groups order by name"
REMEMBER_GROUP = """insert into groups (name, settled, at) values (?, ?, ?)
    on conflict (name) do update set settled = excluded.settled, at = excluded.at, forgotten = 0"""
FORGET_GROUP = "update groups set forgotten = 1 where name = ? and not forgotten"
HAS_MARKS = "select 1 from sqlite_master where type = 'table' and name = 'moving'"
MARK = "select state, other from moving"
TAKE_ENTRIES = "drop trigger if exists moved"
REFUSE_ENTRIES = """create trigger moved before insert on entries begin
    select raise(abort, 'the journal has moved to {}: start the producer there (JOURNAL)'); end"""
IS_JOURNAL = "select 1 from pragma_table_info('journal') where name = 'identity'"
HAS_NOTHING = "select 1 where not exists (select 1 from sqlite_master)"
BEFORE_IDS = "select min(number) from entries"
IDS = """select number, event_id, digest, at from entries where number > ? and number <= (select dropped from held)
    and typeof(event_id) = 'text' and typeof(digest) = 'blob' and typeof(at) = 'real' order by number limit ?"""
"""Entries whose bodies retention has dropped."""
TIMELINES = "select ordinal, random, first from timelines order by ordinal"
COPY = """insert into entries (number, event_id, digest, body, at, first, checksum)
    values (?1, ?2, ?3, ?4, ?5, not exists (select 1 from entries where first and event_id = ?2), ?6)"""
GROW = "update held set bytes = bytes + ?, dropped = max(dropped, ?)"
COPY_GROUP = "insert into groups values (?, ?, ?, ?)"
CLEAR = (
    "delete from entries", "delete from timelines", "delete from groups", "delete from proof", "delete from journal",
    "update held set bytes = 0, dropped = 0", "update unread set dropped = 0",
)  # fmt: skip
