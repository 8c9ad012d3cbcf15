"""Segments: all readers of a stream cut it alike. Equal bytes get the same name, and other bytes another."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from unlost.listener.pipeline.peers.segments import LONGEST, Segment, Segmenter

LENGTH = 4
streams = st.lists(st.binary(min_size=1, max_size=3), min_size=1, max_size=40)


def ends_of(frames: Sequence[bytes], number: int, count: int, cuts: Sequence[int]) -> dict[str, bool]:
    """The names of all segments that ended, and whether each is a peer's. Frames are received in these portions."""
    segmenter = Segmenter(lambda: (number, count), length=LENGTH)
    found: list[Segment] = []
    begin = 0
    for end in (*sorted({cut % len(frames) for cut in cuts} - {0}), len(frames)):
        pieces = segmenter.cut(frames[begin:end])
        assert [frame for piece, _ in pieces for frame in piece] == list(frames[begin:end])
        found += [segment for _, segment in pieces if segment is not None]
        begin = end
    return {segment.name.event_id: segment.is_of_peer for segment in found if segment.name}


@given(streams, st.integers(2, 4), st.lists(st.integers(0, 40)), st.lists(st.integers(0, 40)))
def test_all_cut_alike_and_each_segment_is_ones_own(frames, count, cuts, other_cuts):
    seen = [ends_of(frames, number, count, cuts if number else other_cuts) for number in range(count)]
    assert len({frozenset(names) for names in seen}) == 1
    for name in seen[0]:
        assert [names[name] for names in seen].count(False) == 1


@given(streams, streams, st.integers(0, 3))
def test_a_later_reader_cuts_like_the_others_after_its_first_end(before, after, number):
    joined = ends_of(after, number, 4, [])
    assert joined.items() <= ends_of([*before, *after], number, 4, []).items()


@given(st.lists(st.binary(max_size=3), max_size=4), st.lists(st.binary(max_size=3), max_size=4))
def test_a_name_identifies_all_frames_and_where_each_ends(one, other):
    names = []
    for frames in (one, other):
        segment = Segment(is_of_peer=True)
        segment.add(frames)
        segment.end()
        names.append(segment.name)
    assert (names[0] == names[1]) == (one == other)


def test_a_reader_without_peers_cuts_nothing():
    frames = [b"%d" % n for n in range(100)]
    assert Segmenter(lambda: (0, 1), length=1).cut(frames) == [(frames, None)]


def test_a_source_that_ends_no_segment_costs_no_memory():
    ending = next(frame for n in range(1_000) if (frame := b"%d" % n) and _ends(frame))
    same = next(frame for n in range(1_000) if (frame := b"%d" % n) and not _ends(frame))
    segmenter = Segmenter(lambda: (0, 2), length=LENGTH)
    segmenter.cut([ending])
    most = LONGEST * LENGTH
    ((_, segment),) = segmenter.cut([same] * most)
    assert segment is not None
    assert segmenter.cut([same]) == [([same], None)]
    assert segmenter.cut([same, ending, same])[0] == ([same, ending], None)
    assert segment.name is None


def _ends(frame: bytes) -> bool:
    return len(Segmenter(lambda: (0, 2), length=LENGTH).cut([frame, b"x"])) == 2
