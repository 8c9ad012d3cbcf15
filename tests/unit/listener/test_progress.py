"""A connected listener that stops consuming is distinguished from an idle, a slow, and a waiting one."""

from tests.support.stand_ins import Clock
from unlost.listener.core.facts import EventsClaimed, EventsStored
from unlost.listener.observe.progress import Progress


def test_a_listener_whose_events_do_not_move_is_stuck():
    clock = Clock()
    progress = Progress(clock)
    clock.now += 90
    assert progress.stuck_for(in_hand=3, age_of_oldest=80) == 80
    progress(EventsClaimed(["e"]))
    assert progress.stuck_for(in_hand=3, age_of_oldest=80) == 80, "a claim alone is no progress"
    progress(EventsStored(["e"], [1.0]))
    assert progress.stuck_for(in_hand=2, age_of_oldest=80) == 0


def test_an_event_that_just_came_after_a_long_quiet_time_is_not_stuck():
    clock = Clock()
    progress = Progress(clock)
    clock.now += 3_600
    assert progress.stuck_for(in_hand=1, age_of_oldest=0.01) == 0.01


def test_a_listener_that_only_waits_for_others_is_not_stuck():
    clock = Clock()
    progress = Progress(clock)
    clock.now += 3_600
    assert progress.stuck_for(in_hand=0, age_of_oldest=3_000) == 0
