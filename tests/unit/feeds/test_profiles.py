"""Each mistake in a profile is one sentence with its line, and all are reported together."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from unlost.listener.app.feeds import CLASSES, feed_of, names
from unlost.listener.core.errors import Misconfigured
from unlost.listener.source.feed.loading import about, parse, shipped, text_of
from unlost.listener.source.feed.profile import ALL_TABLES as TABLES
from unlost.listener.source.feed.profile import Profile, Table

GOOD = 'url = "wss://feed.example/"\nid = "id"\n'
TABLE = "must be a table, written { key = value }"
NO_PATH = "is no path; a path is written data.trades[0].id"
FROM = "[url_from]\nurl = 'https://feed.example/'\n"
WRONG = [
    ("ids = 'x'", "ids: there is no such key"),
    ("key = 3", "key: input should be a valid string"),
    ("url = 'feed.example'", "url: must begin with ws://, wss://, http:// or https://"),
    ("url = 'wss://x/?api_key=abc'", "url: holds a secret; write ${NAME} in its place"),
    ("id = 3", "id: input should be a valid string"),
    ("id = '{}'", "id: '{}' has no path in braces"),
    ("open = 'x'", "open: input should be a valid list"),
    ("open = [{ send = 3 }]", "open[0].send: input should be a valid string"),
    ("open = [{ wait = {} }]", "open[0].wait: a condition is written"),
    ("reply = ['ping']", f"reply[0]: {TABLE}"),
    ("reply = 3", "reply: input should be a valid list"),
    ("heartbeat = 30", f"heartbeat: {TABLE}"),
    ("heartbeat = { every = 'd x', send = 'x' }", f"heartbeat.every: 'd x' {NO_PATH}"),
    ("heartbeat = { every = [], send = 'x' }", "heartbeat.every: must be a number of seconds or a path"),
    ("cursor = 't'\nresume = 'cursor'", f"resume: {TABLE}"),
    ("resume = { query = 'c' }\ncursor = 'a b'", f"cursor: 'a b' {NO_PATH}"),
    ("cursor = 't'\nresume = { query = '' }", "resume.query: string should have at least 1 character"),
    ("cursor = 't'\nresume = { header = '' }", "resume.header: string should have at least 1 character"),
    ("cursor = 't'\nresume = { message = 3 }", "resume.message: input should be a valid string"),
    ("sequence = 'n'", f"sequence: {TABLE}"),
    ("sequence = { at = 'n', by = '{}' }", "sequence.by: '{}' has no path in braces"),
    ("sequence = { at = 'n', each_connection = 'perhaps' }", "sequence.each_connection: input should be a valid bool"),
    ("again = 3", f"again: {TABLE}"),
    ("again = { when = 3 }", "again.when: a condition is written"),
    ("ack = 3", f"ack: {TABLE}"),
    ("ack = { send = 'x', at_once = 'perhaps' }", "ack.at_once: input should be a valid boolean"),
    ("url_from = 'https://feed.example/'", f"url_from: {TABLE}"),
    ("[url_from]\nurl = 'feed.example'", "url_from.url: must begin with"),
    (f"{FROM}method = 'PUT'", "url_from.method: input should be 'GET' or 'POST'"),
    (f"{FROM}headers = {{ Authorization = 'xapp-1' }}", "url_from.headers: the header Authorization holds a secret"),
    (f"{FROM}body = 3", "url_from.body: input should be a valid string"),
    (f"{FROM}at = 'a[*]'", "url_from.at: only the path of each may hold [*]"),
    ("wire = 3", f"wire: {TABLE}"),
    ("[wire]\nheaders = 'A: b'", f"wire.headers: {TABLE}"),
    ("[wire]\nsubprotocols = 'x'", "wire.subprotocols: input should be a valid list"),
    ("[wire]\nca = 3", "wire.ca: input should be a valid string"),
    ("[wire]\ncert = 3", "wire.cert: input should be a valid string"),
    ("[wire]\nkey = 3", "wire.key: input should be a valid string"),
    ("[[open]]\nsend = 'a'\n[[open]]\nwithin = 3\nsend = 4", "open[1].send: input should be a valid string"),
    ("[[open]]\nwait = 'a'\n[[open]]\nwait = 4\n", "open[1].wait: a condition is written"),
    ("[wire]\nheader = {}", "wire.header: there is no such key"),
    ("url_from = { url = 'https://x/' }", "a profile has either url or url_from"),
    ("open = [{ sent = 'x' }]", "open[0].sent: there is no such key"),
    ("open = [{ send = 'x', within = 0 }]", "open[0].within: input should be greater than 0"),
    ("reply = [{ when = { type = 'ping' } }]", "reply[0].send: is missing"),
    ("reply = [{ when = {}, send = 'x' }]", "reply[0].when: a condition is written"),
    ("heartbeat = { every = -1, send = 'x' }", "heartbeat.every: must be more than 0 and at most"),
    ("heartbeat = { every = 30 }", "heartbeat.send: is missing"),
    ("heartbeat = { every = 'd.x', unit = 'h', send = 'x' }", "heartbeat.unit: input should be 's' or 'ms'"),
    ("keep = { type = [[1]] }", "keep: type is compared with texts, numbers, true and false only"),
    ("keep = { 'a..b' = 1 }", "keep: 'a..b' is no path"),
    ("drop = 3", "drop: a condition is written"),
    ("refuse = 3", "refuse: input should be a valid list"),
    ("refuse = [{ when = 3, why = 'x' }]", "refuse[0].when: a condition is written"),
    ("refuse = [{ when = 'a' }]", "refuse[0].why: is missing"),
    ("again = { type = 'x', missed = 'perhaps' }", "again.missed: input should be a valid boolean"),
    ("keep = { a = 1 }\ndrop = { a = 2 }", "keep and drop are opposites"),
    ("each = 'data'", "each: the path of each must hold [*], as in data[*]"),
    ("lines = 'perhaps'", "lines: input should be a valid boolean"),
    ("strip = 42", "strip: input should be a valid string"),
    ("decode = 'rar'", "decode: input should be 'gzip', 'zlib', 'deflate' or 'zstd'"),
    ("type = 'a b'", "type: 'a b' is no path"),
    ("id = '{product id}:{n}'", f"id: 'product id' {NO_PATH}"),
    ("type = '{n}:{x'", "type: a brace in '{n}:{x' begins no path; a path in braces is written {data.trades[0].id}"),
    ("sequence = { at = 'n', by = '{n}:{}' }", "sequence.by: a brace in '{n}:{}' begins no path"),
    ("backfill = { url = 'https://x/{product id}' }", "backfill: a brace in url or start begins no name of a gap"),
    ("backfill = { url = 'https://x/{next}', next = 'n', start = '{ first}' }",
     "backfill: a brace in url or start begins no name of a gap"),
    ("[backfill]\nurl = 'https://x/'\nat = 'a b'", "backfill.at: 'a b' is no path"),
    ("backfill = { url = 'https://x/', start = 3 }", "backfill.start: input should be a valid string"),
    ("payload = 'data[*]'", "payload: only the path of each may hold [*]"),
    ("cursor = 'time_us'", "cursor and resume belong together"),
    ("cursor = 't'\nresume = {}", "resume: resume has one of query, header and message"),
    ("overlap = 3", "overlap needs cursor"),
    ("overlap = -1", "overlap: input should be greater than or equal to 0"),
    ("sequence = { by = 'x' }", "sequence.at: is missing"),
    ("again = { every = 0 }", "again.every: input should be greater than 0"),
    ("again = { type = 'x', url = 'a[*]' }", "again.url: only the path of each may hold [*]"),
    ("ack = { at_once = true }", "ack.send: is missing"),
    ("stop_on = [{}]", "stop_on[0]: a condition is written"),
    ("fresh = 0", "fresh: input should be greater than 0"),
    ("[wire]\nheaders = { Authorization = 'Bearer abc' }",
     "the header Authorization holds a secret; write ${NAME}"),
    ("backfill = 'https://x/'", "backfill: must be a table, written { key = value }"),
    ("backfill = { url = 'api.example' }", "backfill.url: must begin with"),
    ("backfill = { url = 'https://x/', method = 'PUT' }", "backfill.method: input should be 'GET' or 'POST'"),
    ("backfill = { url = 'https://x/', headers = { Cookie = 'abc' } }", "backfill.headers: the header Cookie holds"),
    ("backfill = { url = 'https://x/', body = 3 }", "backfill.body: input should be a valid string"),
    ("backfill = { url = 'https://x/', time = 'h' }", "backfill.time: input should be 'iso', 's', 'ms', 'us' or 'ns'"),
    ("backfill = { url = 'https://x/', margin = -1 }", "backfill.margin: input should be greater than or equal to 0"),
    ("backfill = { url = 'https://x/', each = 'data' }", "backfill.each: the path of each must hold [*]"),
    ("backfill = { url = 'https://x/', lines = 'perhaps' }", "backfill.lines: input should be a valid boolean"),
    ("backfill = { url = 'https://x/', id = 'a b' }", "backfill.id: 'a b' is no path"),
    ("backfill = { url = 'https://x/', type = '{}' }", "backfill.type: '{}' has no path in braces"),
    ("backfill = { url = 'https://x/', payload = 'data[*]' }", "backfill.payload: only the path of each may hold [*]"),
    ("backfill = { url = 'https://x/', next = '.a' }", "backfill.next: '.a' is no path"),
    ("backfill = { url = 'https://x/', pages = 0 }", "backfill.pages: input should be greater than or equal to 1"),
    ("backfill = { url = 'https://x/', bytes = 10 }", "backfill.bytes: input should be greater than or equal to 1024"),
    ("backfill = { url = 'https://x/', every = 0 }", "backfill.every: input should be greater than 0"),
    ("backfill = { url = 'https://x/', after = 0 }", "backfill.after: input should be greater than 0"),
    ("backfill = { url = 'https://x/', within = 0 }", "backfill.within: input should be greater than 0"),
    ("backfill = { url = 'https://x/', tries = 101 }", "backfill.tries: input should be less than or equal to 100"),
    ("lines = true\nack = 'x'", "lines and ack do not go together"),
    ("[wire]\nproxy = 'proxy:8080'", "wire.proxy: must begin with"),
    ("[wire]\nkey = '/etc/key.pem'", "wire: key is given without cert"),
    ("[wire]\ncompression = 'brotli'", "wire.compression: input should be a valid boolean"),
    *[(text, "an empty path; a path is written data.trades[0].id") for text in (
        "resume = { query = 'c' }\ncursor = ''", "payload = ''",
        "sequence = { at = '' }", "keep = { '' = 1 }", "again = { type = 'x', url = '' }", "type = ''", "id = ''",
    )],
    *[(text, "holds the name $; write \"$\" in quotes for a field of that name, or begin with $.") for text in (
        "keep = { 'a.$' = 1 }", "id = 'a.$'", "type = 'a.$.b'", "payload = '$x.$'", "sequence = { at = '$.$' }",
    )],
    ("key = '$.payload.id'", "key: must be a path in the event, as payload.account_id"),
    *[(text, f"{at}: the field {name} holds a secret; write ${{NAME}} in its place") for text, at, name in (
        ("open = [{ send = '{\"type\":\"login\",\"access_token\":\"abc\"}' }]", "open[0].send", "access_token"),
        ("open = ['{\"auth\":{\"password\" : \"abc\"}}']", "open[0].send", "password"),
        ("open = ['{\"apiKey\":\"${KEY:-abc}\"}']", "open[0].send", "apiKey"),
        ("reply = [{ when = 'a', send = '{\"signature\":\"ab{x}\"}' }]", "reply[0].send", "signature"),
        ("heartbeat = { every = 3, send = '{\"secret\":\"abc\"}' }", "heartbeat.send", "secret"),
        ("cursor = 't'\nresume = { message = '{\"api_key\":\"abc\",\"t\":{cursor}}' }", "resume.message", "api_key"),
        ("ack = '{\"jwt\":\"abc\",\"id\":\"{id}\"}'", "ack.send", "jwt"),
        (f"{FROM}body = 'grant=x&client_secret=abc'", "url_from.body", "client_secret"),
        ("backfill = { url = 'https://x/', body = '{\"passphrase\":\"abc\"}' }", "backfill.body", "passphrase"),
    )],
    *[(f"url = '{url}'", "url: holds a secret; write ${NAME} in its place") for url in (
        "wss://x/?token=${T:-abc}", "wss://abc@x/", "${URL:-wss://u:abc@x/}", "wss://x/?jwt=abc", "wss://x/?access_key=abc",
        "wss://x/?key=abc", "wss://x/?a=1&bearer=abc", "wss://x/?X-Amz-Signature=abc", "wss://x/?sig=abc",
    )],
    *[(f"[wire]\nheaders = {{ {name} = '{value}' }}", f"wire.headers: the header {name} holds a secret")
      for name, value in (
        ("Authorization", "Bearer ${T:-abc}"), ("X-Auth", "abc"), ("X-Passwd", "abc"), ("X-Auth-Token-Id", "abc"),
    )],
    *[(f"[wire]\nsubprotocols = {given}", "wire.subprotocols: what follows bearer is a secret; write ${NAME}")
      for given in (
        "['bearer', 'abc']", "['x', 'bearer', '${T:-abc}']",
    )],
    ("reply = [{ when = 'a', send = '${NOWHERE}' }]", "reply[0].send: the environment variable NOWHERE is not set"),
    ("[wire]\nheaders = { A = 'file:/nowhere/at/all' }", "wire.headers.A: /nowhere/at/all cannot be read"),
]  # fmt: skip


RELATIONS = {
    "a profile has either url or url_from", "keep and drop are opposites", "cursor and resume belong together",
    "overlap needs cursor", "lines and ack do not go together",
}  # fmt: skip
"""Mistakes of the whole profile stand on no line of their own."""
OF_TABLES = {"wire: key is given without cert"}


def written(text: str) -> str:
    """A good profile with this mistake in its last line."""
    return "".join(line for line in GOOD.splitlines(True) if not text.startswith(line[: line.index("=")])) + text


def mistake_in(text: str) -> str:
    with pytest.raises(Misconfigured) as refused:
        parse(written(text), "feed.toml", {})
    (mistake,) = refused.value.mistakes
    return mistake


@pytest.mark.parametrize(("text", "sentence"), WRONG, ids=[text for text, _ in WRONG])
def test_a_mistake_is_one_sentence_with_its_line(text: str, sentence: str):
    mistake = mistake_in(text)
    assert sentence in mistake
    last = len(written(text).splitlines())
    line = int(mistake.removeprefix("feed.toml, line ").partition(":")[0])
    assert line == (1 if sentence in RELATIONS else last - 1 if sentence in OF_TABLES else last)


def keys_of(table: type[BaseModel], name: str = "") -> Iterator[str]:
    """The names of all keys, those of tables within too."""
    for key, field in table.model_fields.items():
        yield f"{name}{key}"
        for inner in TABLES:
            if inner.__name__ in re.findall(r"\w+", str(field.annotation)):
                yield from keys_of(inner, f"{name}{key}.")


def test_every_key_has_a_mistake_that_is_tested():
    sentences = [mistake_in(text).split(": ") for text, _ in WRONG]
    tried = {re.sub(r"\[\d+\]", "", name) for _, name, *_ in sentences}
    assert {"open.within", "url_from.at", "wire.key"} <= set(keys_of(Profile))
    assert set(keys_of(Profile)) - tried == set()


def test_no_table_of_a_profile_is_left_out():
    assert set(Table.__subclasses__()) - {Profile} == set(TABLES)
    within = {key.rpartition(".")[0] for key in keys_of(Profile)} - {""}
    assert len(within) == len(TABLES), "each table is the value of one key"
    assert all(set(table.model_fields) <= {key.rpartition(".")[2] for key in keys_of(Profile)} for table in TABLES)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('id = "id"', "a profile has either url or url_from"),
        ('url = "feed.example"\nid = "id"', "line 1: url: must begin with ws://"),
        ('url = "wss://x/?api_key=abc"\nid = "id"', "line 1: url: holds a secret"),
        ('url = "wss://u:pw@x/"\nid = "id"', "line 1: url: holds a secret"),
        ('url = "wss://x/"', "id: is missing"),
        ('url = "wss://x/"\n\nid = "{}"', "line 3: id: '{}' has no path in braces"),
        ('url = "wss://x/', "not TOML"),
    ],
)
def test_url_and_id(text: str, sentence: str):
    with pytest.raises(Misconfigured) as refused:
        parse(text, "feed.toml", {})
    assert sentence in str(refused.value)


def test_all_mistakes_come_at_once_in_the_order_of_lines():
    text = 'id = "a..b"\nurl = "wss://x/"\nfresh = 0\nids = 1\n[wire]\nsubprotocol = "x"\n'
    with pytest.raises(Misconfigured) as refused:
        parse(text, "f.toml", {})
    assert [mistake.split(":")[0] for mistake in refused.value.mistakes] == [
        "f.toml, line 1", "f.toml, line 3", "f.toml, line 4", "f.toml, line 6",
    ]  # fmt: skip


def test_values_come_from_the_environment_and_from_files_and_are_masked(tmp_path: Path):
    secret = tmp_path / "token"
    secret.write_text("sesame-token\n")
    loaded = parse(
        f'{GOOD}[wire]\nheaders = {{ A = "Bearer ${{TOKEN}}", B = "file:{secret}" }}', "f", {"TOKEN": "open-up"}
    )
    headers = {name: loaded.variables.fill(value) for name, value in loaded.profile.wire.headers.items()}
    assert headers == {"A": "Bearer open-up", "B": "sesame-token"}
    assert loaded.variables.hide("Bearer open-up and sesame-token") == "Bearer *** and ***"
    assert "open-up" not in repr(loaded.profile)


def test_a_name_that_is_no_feed_says_which_there_are():
    with pytest.raises(Misconfigured) as refused:
        feed_of("krakken")
    assert "coinbase-exchange" in str(refused.value)
    with pytest.raises(Misconfigured, match=r"nowhere\.toml cannot be read"):
        feed_of("nowhere.toml")
    with pytest.raises(Misconfigured, match="inherits from"):
        feed_of("json:dumps")
    with pytest.raises(Misconfigured, match="SOURCE=nowhere:Feed: importing nowhere failed"):
        feed_of("nowhere:Feed")
    with pytest.raises(Misconfigured, match="DISCORD_TOKEN is not set"):
        feed_of("discord", {})
    with pytest.raises(Misconfigured, match="TWITCH_CLIENT_ID is not set"):
        feed_of("twitch", {})


@pytest.mark.parametrize("name", shipped())
def test_shipped_profiles_say_in_their_first_sentence_what_they_read(name: str):
    assert name not in CLASSES
    assert 20 < len(about(text_of(name))) < 120


def test_the_names_are_those_of_the_documentation():
    assert len(names()) == 14


@pytest.mark.parametrize(
    "send",
    [
        '{"token":"${TOKEN}"}', '{"token":"Bearer ${TOKEN:-}"}', '{"next_token":"{next}"}', '{"token":""}',
        '{"token_type":"bearer","max_tokens":5,"type":"token"}', "token please", '{"token":null,"x":"abc"}',
    ],
)  # fmt: skip
def test_what_is_no_secret_in_a_message_is_not_taken_for_one(send: str):
    assert parse(f"{GOOD}reply = [{{ when = 'a', send = '{send}' }}]", "feed.toml", {"TOKEN": "abc"})


@pytest.mark.parametrize(
    "text",
    [
        'url = "wss://x/?token=${T}&b={next}"', 'url = "wss://u:${T}@x/"', 'url = "wss://${T}@x/"',
        'url = "${URL:-wss://x/a?streams=b@c}"', 'url = "wss://x/"\n[wire]\nsubprotocols = ["bearer", "${T}"]',
        'url = "wss://x/"\n[wire]\nheaders = { Authorization = "Bearer ${T:-}", X-Author = "me", X-Key-Count = "3" }',
    ],
)  # fmt: skip
def test_what_is_no_secret_in_an_address_or_a_header_is_not_taken_for_one(text: str):
    assert parse(f'id = "id"\n{text}', "feed.toml", {"T": "abc"})
