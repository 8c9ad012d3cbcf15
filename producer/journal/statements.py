"""What the journal asks of SQLite."""

SCHEMA = """
create table if not exists journal (one integer primary key check (one = 1), identity text not null);
create table if not exists entries (
    number integer primary key autoincrement,
    event_id text not null,
    digest blob not null,
    body blob,
    at real not null,
    first integer not null);
create unique index if not exists entries_first on entries (event_id) where first;
create table if not exists proof (one integer primary key check (one = 1), at real not null);
create table if not exists held (
    one integer primary key check (one = 1), bytes integer not null, dropped integer not null);
insert or ignore into held
    select 1, coalesce(sum(length(body)), 0), coalesce(max(number) filter (where body is null), 0) from entries;
create table if not exists counted (one integer primary key check (one = 1), upto integer not null);
insert or ignore into counted values (1, coalesce((select seq from sqlite_sequence where name = 'entries'), 0));
"""
KNOWN = "select event_id, number, digest from entries where first and event_id in (select value from json_each(?))"
KNOWN_ONE = "select event_id, number, digest from entries where first and event_id = ?"
"""The same for one, in less than a third of the time."""
INSERT = "insert into entries (number, event_id, digest, body, at, first) values (?, ?, ?, ?, ?, ?)"
COLUMNS = INSERT.count("?")
FEW = 16
INSERTS = {rows: INSERT + ", (?, ?, ?, ?, ?, ?)" * (rows - 1) for rows in (256, 64, *range(FEW, 0, -1))}
"""As many rows in one step as there are, or many; the largest first."""
COUNTS = """select coalesce((select seq from sqlite_sequence where name = 'entries'), 0),
    (select bytes from held) + coalesce((select sum(length(body)) from entries where number > upto), 0) from counted"""
READ = """select number, event_id, digest, body, at from entries
    where number > max(?, (select dropped from held)) order by number limit ?"""
FIRST = "select number, event_id, digest, coalesce(body, x''), at from entries where first and event_id = ?"
BOUNDS = """select (select min(number) from entries where number > (select dropped from held)),
    (select seq from sqlite_sequence where name = 'entries')"""
OLDEST = "select number, length(body), at from entries where number > ? order by number limit ?"
