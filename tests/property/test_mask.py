"""Any credentials in a URL in any text: they are not shown, and the host is."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlost.ops.kit.telemetry.health import Check, Health
from unlost.ops.kit.telemetry.mask import MASK, masked, masked_within

SECRET = "s3cr3t"
raw = st.text("abcXYZ019:/?#@!$&*+,;=._~-%", max_size=8).map(lambda text: f"{text}{SECRET}{text[::-1]}")
quoted = st.text(max_size=6).map(lambda text: quote(f"{SECRET}{text}{SECRET}", safe=""))
schemes = st.sampled_from(["ws", "wss", "http", "https", "redis", "rediss", "postgresql", "redis+unix", "amqp"])
hosts = st.sampled_from(["h", "db.example", "127.0.0.1:5432", "[::1]:80", "a:5432,b:5432"])
user_infos = st.one_of(
    st.builds("{}:{}@".format, st.sampled_from(["", "user", "us.er"]), st.one_of(raw, quoted)),
    st.builds("{}@".format, quoted),
)
queries = st.builds("?{}={}&after=j.7".format, st.sampled_from(["api_key", "sig", "token", "x"]), quoted)
fragments = st.builds("#{}".format, quoted)
texts = st.sampled_from(
    ["{}", "cannot reach {}: refused", "HTTPError('{}', 401)", '{{"url":"{}"}}', "<{}> and {} again", "[{}], or (not)"]
)


@given(schemes, hosts, user_infos, queries, fragments, st.sampled_from(["", "/", "/a/b", "/0"]), texts)
def test_no_credential_of_a_url_is_shown(scheme, host, user_info, query, fragment, path, text):
    for url in (
        f"{scheme}://{user_info}{host}{path}",
        f"{scheme}://{host}{path}{query}",
        f"{scheme}://{host}{path}{fragment}",
        f"{scheme}://{user_info}{host}{path}{query}{fragment}",
    ):
        shown = masked(text.replace("{}", url).replace("{{", "{").replace("}}", "}"))
        assert SECRET not in shown
        assert f"{host}{path}" in shown
        assert masked(shown) == shown, "masking twice changes nothing"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:p@h:1/0", f"redis://{MASK}@h:1/0"),
        ("postgresql://u:p@ss/w:rd@h/db", f"postgresql://{MASK}@h/db"),
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("ws://h/?token=abc&x=1#top", f"ws://h/?token={MASK}&x={MASK}#{MASK}"),
        ("ws://h/?abc", f"ws://h/?{MASK}"),
        ("http://h/picture@2x.png", "http://h/picture@2x.png"),
        ("PGPASSWORD=x api_key=y, Sig=z designs=3", f"PGPASSWORD={MASK} api_key={MASK} Sig={MASK} designs=3"),
        ("a mail to a@b and 3:/4", "a mail to a@b and 3:/4"),
    ],
)  # fmt: skip
def test_so_much_is_hidden_and_no_more(text, shown):
    assert masked(text) == shown


def test_every_text_of_a_health_report_is_masked():
    url = f"ws://user:{SECRET}@h/?api_key={SECRET}"
    health = Health(
        "a", (Check("loop", False, url),), (Check("source", False, f"lost {url}"),), {"at": [{"u": url}]}, (url,)
    )
    for reported in (health.live(), health.ready(), health.whole()):
        assert SECRET not in str(reported)


def test_values_that_are_no_text_stay():
    assert masked_within({"a": (1, None, True, {"ws://u:p@h": 2.5})}) == {"a": [1, None, True, {f"ws://{MASK}@h": 2.5}]}
