"""Sessions of people end in time, and many of them cost bounded memory."""

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from unlost.ops.kit.access.gate import Gate
from unlost.ops.kit.access.middleware import cookie_of
from unlost.ops.kit.access.request import AccessRequest, Pass, Person, Refusal
from unlost.ops.kit.access.sessions import LIFETIME, MOST, MOST_OF_ONE, Sessions
from unlost.ops.kit.access.table import TokenEntry, digest_of, new_token
from unlost.ops.kit.access.token_file import TokenFile, save_entries

EVA, IDA = Person("eva (oidc 1)", ("oncall",)), Person("ida (oidc 2)", ())


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> Sessions:
    return Sessions(clock)


def test_a_session_is_known_until_it_ends(sessions: Sessions, clock: Clock):
    one, other = sessions.begin(EVA), sessions.begin(EVA)
    assert one != other
    assert sessions.person_of(one) == sessions.person_of(other) == EVA
    clock.now += LIFETIME - 0.1
    assert sessions.person_of(one) == EVA, "its use does not prolong it"
    clock.now += 0.1
    assert sessions.person_of(one) is None
    assert sessions.end(one) is None
    sessions.begin(IDA)
    assert len(sessions) == 1, "what has ended takes no memory"


def test_the_sign_out_ends_one_session(sessions: Sessions):
    one, other = sessions.begin(EVA), sessions.begin(EVA)
    assert sessions.end(one) == EVA
    assert sessions.end(one) is None
    assert sessions.person_of(one) is None
    assert sessions.person_of(other) == EVA


@pytest.mark.parametrize("odd", ["", "x", "é" * 43, "x" * 43, "x" * 5_000, "\udc80" * 43])
def test_an_unknown_session_id_belongs_to_nobody(sessions: Sessions, odd: str):
    sessions.begin(EVA)
    assert sessions.person_of(odd) is None
    assert sessions.end(odd) is None


def test_a_person_has_few_sessions_and_all_people_have_a_bounded_number(sessions: Sessions):
    made = [sessions.begin(EVA) for _ in range(MOST_OF_ONE + 2)]
    assert [sessions.person_of(one) is not None for one in made] == [False] * 2 + [True] * MOST_OF_ONE


def test_the_oldest_of_too_many_sessions_ends(sessions: Sessions, monkeypatch: pytest.MonkeyPatch):
    assert MOST <= 10_000
    monkeypatch.setattr("unlost.ops.kit.access.sessions.MOST", 3)
    made = [sessions.begin(Person(f"{number}", ())) for number in range(5)]
    assert [sessions.person_of(one) is not None for one in made] == [False, False, True, True, True]


def test_browsers_take_the_cookie_by_https_from_the_host_alone(clock: Clock):
    assert Sessions(clock).cookie.startswith("__Host-")
    assert Sessions(clock).secure
    assert not Sessions(clock, secure=False).cookie.startswith("__Host-")


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        (["a=1; unlost=x; b=2"], "x"), (["unlost=x"], "x"), (["a=1", "unlost=x"], "x"), (["unlost=x=y"], "x=y"),
        ([], ""), ([""], ""), (["unlost"], ""), (["xunlost=x"], ""), (["UNLOST=x"], ""), (["unlost=x; unlost=x"], ""),
        (["unlost=x", "unlost=y"], ""), ([";;=;"], ""),
    ],
)  # fmt: skip
def test_a_cookie_that_stands_twice_is_none(headers: list[str], value: str):
    assert cookie_of(headers, "unlost") == value


SHOP = new_token()
BEARER = {"authorization": [f"Bearer {SHOP}"]}


@pytest.fixture
def gate(tmp_path: Path, sessions: Sessions) -> Gate:
    file = tmp_path / "tokens.jsonl"
    groups = [
        TokenEntry("oncall", ("read", "operate"), subject="group:oncall"),
        TokenEntry("us", ("admin",), subject="group:us", groups=("us",)),
        TokenEntry("proxies", ("vouch",), subject="group:proxies"),
    ]
    machines = [TokenEntry("shop", ("publish",), digest_of(SHOP)), TokenEntry("m", ("read",), subject="CN=m")]
    save_entries(file, [*groups, *machines])
    tokens = TokenFile(file)
    tokens.load()
    made = Gate(CollectorRegistry(), tokens=tokens, group="eu")
    made.sessions = sessions
    return made


@pytest.mark.parametrize(
    ("groups", "right", "more", "outcome"),
    [
        (("oncall",), "operate", {}, "eva"),
        (("oncall", "unknown"), "read", {}, "eva"),
        (("oncall",), "publish", {}, (403, "right")),
        (("us",), "read", {}, (403, "right")),
        (("proxies",), "read", {"person": Person("ana", ("oncall",))}, (403, "right")),
        ((), "read", {}, (403, "right")),
        (("oncall",), "publish", BEARER, "shop"),
        (("oncall",), "operate", BEARER, (403, "right")),
        (("oncall",), "read", {"authorization": ["Bearer x"]}, (401, "token")),
        (("oncall",), "operate", {"subject": "CN=m"}, "eva"),
        (("oncall",), None, {}, "eva"),
        ((), None, {}, None),
    ],
)
def test_a_session_is_an_identity_of_the_gate(gate: Gate, groups: Any, right: Any, more: Any, outcome: Any):
    assert gate.sessions is not None
    session = gate.sessions.begin(Person("eva", groups))
    decided = gate.admit(AccessRequest("GET /", "10.0.0.1", right, session=session, **more))
    if isinstance(decided, Refusal):
        assert (decided.status, decided.reason) == outcome
    else:
        assert (decided.identity.name if decided.identity else None) == outcome


def test_a_session_that_has_ended_is_said_to_have_and_does_not_go_on(gate: Gate, sessions: Sessions):
    session = sessions.begin(Person("eva", ("oncall",)))
    asked = AccessRequest("GET /", "10.0.0.1", "read", session=session)
    passed = gate.admit(asked)
    assert isinstance(passed, Pass)
    assert gate.may_go_on(passed, "read")
    sessions.end(session)
    assert not gate.may_go_on(passed, "read")
    for _ in range(50):
        refused = gate.admit(asked)
        assert isinstance(refused, Refusal)
        assert (refused.status, refused.reason) == (401, "session"), "an old page does not lock its address"
    gate.sessions = None
    assert gate.admit(asked).reason == "session", "where nobody signs in, a cookie is no identity"
