"""The shipped codec, for any content: what is encoded comes back, and nothing else ever does."""

import base64

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlost.listener.core.codec import EventCodec, SubjectErased, Unreadable, coded_frame, is_coded
from unlost.listener.core.event import parse
from unlost.listener.shipped import key_file
from unlost.listener.shipped.encryption import AesGcm

ids = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=40)
subjects = st.none() | st.text(st.characters(blacklist_categories=["Cs"]), max_size=300)


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> AesGcm:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    key_file.write(path, key_file.fresh("k1"))
    return AesGcm(path)


@given(plain=st.binary(max_size=500), event_id=ids, subject=subjects)
def test_encoded_content_comes_back(codec: AesGcm, plain: bytes, event_id: str, subject: str | None) -> None:
    coded = codec.encode(plain, event_id=event_id, subject=subject)
    assert is_coded(coded)
    assert len(plain) < 4 or plain not in coded
    assert codec.decode(coded, event_id=event_id) == plain
    assert codec.encode(plain, event_id=event_id, subject=subject) != coded


@given(event_id=ids, other=ids, subject=subjects)
def test_encrypted_content_belongs_to_its_event(codec: AesGcm, event_id: str, other: str, subject: str | None) -> None:
    coded = codec.encode(b"plain", event_id=event_id, subject=subject)
    if event_id != other:
        with pytest.raises(Unreadable, match="belongs to another event"):
            codec.decode(coded, event_id=other)


@given(at=st.integers(min_value=0), bit=st.integers(0, 7), field=st.sampled_from(["nonce", "data"]))
def test_a_changed_bit_is_noticed(codec: AesGcm, at: int, bit: int, field: str) -> None:
    values = msgspec.json.decode(codec.encode(b'{"a": "plain"}', event_id="e", subject="s"), type=dict[str, str])
    data = bytearray(base64.b64decode(values[field]))
    data[at % len(data)] ^= 1 << bit
    values[field] = base64.b64encode(bytes(data)).decode()
    with pytest.raises(Unreadable):
        codec.decode(msgspec.json.encode(values), event_id="e")


@given(content=st.binary(max_size=200))
def test_anything_else_is_refused_with_a_sentence(codec: AesGcm, content: bytes) -> None:
    with pytest.raises(Unreadable):
        codec.decode(content, event_id="e")


@settings(max_examples=25, deadline=None)
@given(erased=st.lists(st.text(max_size=20), min_size=1, max_size=6, unique=True), other=st.text(max_size=20))
def test_an_erased_key_is_gone_and_every_other_stays(
    tmp_path_factory: pytest.TempPathFactory, erased: list[str], other: str
) -> None:
    before = key_file.fresh("k1")
    after = before
    for one in erased:
        after = key_file.erased_from(after, one)
        assert after.leaf("k1", after.place_of(one)) is None
    later = key_file.rotated(after)
    for one in erased:
        assert later.leaf(later.current, later.place_of(one)) is None
    if other not in erased:
        place = before.place_of(other)
        assert after.leaf("k1", place) == before.leaf("k1", place) == later.leaf("k1", place) is not None
        assert later.leaf(later.current, place) != before.leaf("k1", place)
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    key_file.write(path, later)
    assert key_file.read(path) == later
    codec = AesGcm(path)
    assert all(codec.is_erased(one) for one in erased)
    with pytest.raises(SubjectErased):
        codec.encode(b"", event_id="e", subject=erased[0])
    assert codec.decode(codec.encode(b"x", event_id="e", subject=None), event_id="e") == b"x"


@given(payload=st.dictionaries(ids, st.integers()))
def test_an_event_is_found_again_in_its_frame(codec: AesGcm, payload: dict[str, int]) -> None:
    event = parse(
        msgspec.json.encode({"event_id": "e", "type": "t", "payload": {**payload, "customer": 17}}), max_bytes=10**6
    )
    events = EventCodec(codec, "payload.customer")
    assert events.subject_of(event) == "17"
    frame = coded_frame(event, events.encode(event))
    assert parse(frame, max_bytes=10**6).type == "t"
    assert parse(events.decode_frame(frame), max_bytes=10**6) == event
    assert events.decode_frame(event.frame) == event.frame
