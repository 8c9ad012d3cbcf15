"""What servers of queues answer to a publisher that reads many answers at once."""

import pytest

from unlost.ops.bench.queues import after_nats_answer, after_redis_answer

ACKNOWLEDGED = b'MSG _INBOX.1 1 27\r\n{"stream":"bench","seq":12}\r\n'
REFUSED = b'MSG _INBOX.1 1 37\r\n{"error":{"code":503},"stream":"none"}\r\n'


def test_an_acknowledgement_of_nats_ends_with_its_body() -> None:
    assert after_nats_answer(b"INFO {}\r\nPING\r\n" + ACKNOWLEDGED + ACKNOWLEDGED) == ACKNOWLEDGED
    assert [after_nats_answer(ACKNOWLEDGED[:cut]) for cut in range(len(ACKNOWLEDGED))] == [None] * len(ACKNOWLEDGED)


@pytest.mark.parametrize("answer", [REFUSED.replace(b"37", b"38"), b"-ERR 'Unknown Protocol Operation'\r\n"])
def test_a_refusal_by_nats_is_reported(answer: bytes) -> None:
    with pytest.raises(RuntimeError, match="NATS"):
        after_nats_answer(answer)


def test_an_answer_of_redis_ends_with_the_entrys_id() -> None:
    added = b"$3\r\n1-0\r\n"
    assert after_redis_answer(b"+OK\r\n" + added + added) == added
    assert [after_redis_answer(added[:cut]) for cut in range(len(added))] == [None] * len(added)


def test_a_refusal_by_redis_is_reported() -> None:
    with pytest.raises(RuntimeError, match="NOAUTH"):
        after_redis_answer(b"-NOAUTH Authentication required.\r\n")
