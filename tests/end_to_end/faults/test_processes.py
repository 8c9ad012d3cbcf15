"""Listeners as real processes: an orderly stop, an event that kills every owner, and a full disk."""

import asyncio
import resource
import signal
import time

from tests.end_to_end.faults.conftest import ListenerProcess, assert_law, frame, frames, letters
from tests.end_to_end.faults.handlers import accept, hang_in_a_thread, kill_for_bomb, named, reject_bad, wait_for_file
from tests.support.listeners import rows_of, running_listener
from tests.support.source import running_source
from tests.support.stream import resuming_source
from unlost.listener.core.facts import EventsStandBy, EventsStored, EventsTakenOver


def settings_of(servers: dict) -> dict[str, str]:
    return {"redis_url": servers["redis_url"], "database_url": servers["database_url"]}


async def test_sigterm_lets_run_what_runs_gives_the_rest_to_peers_at_once_and_exits_with_zero(
    servers: dict, processes: list[ListenerProcess]
):
    same = {**settings_of(servers), "lease": "600", "shutdown_timeout": "30"}
    async with resuming_source() as source:
        one = ListenerProcess(
            servers["directory"], "a", **same, ws_url=source.url, handler=named(wait_for_file), handle_concurrency="1"
        )
        processes.append(one)
        await asyncio.to_thread(one.start)
        # With one handler, no further claim is requested while three are held, and these may come in several batches.
        await source.publish("held", "next0", "next1")
        await asyncio.to_thread(
            one.child.wait_until, lambda: one.runs_of("held") == 1 and one.health().get("claims_held") == 3, 20
        )
        async with running_listener(
            ws_url=source.url,
            directory=servers["directory"],
            **same,
            instance_id="b",
            handler=named(accept),
            handler_change="yes",
        ) as two:
            await two.heard.until(lambda h: len(h.ids(EventsStandBy)) == 3)
            one.child.ask_to_stop()
            await two.heard.until(lambda h: set(h.ids(EventsStored)) == {"next0", "next1"})
            assert one.child.is_running, "running handlers may finish"
            one.gate.touch()
            assert await asyncio.to_thread(one.child.ended, 30) == 0
            assert two.heard.ids(EventsTakenOver) == []
    rows = {row["event_id"]: row["instance_id"] for row in await rows_of(servers["database_url"])}
    assert rows == {"held": "a", "next0": "b", "next1": "b"}
    assert one.runs_of("held") == 1


async def test_sigterm_ends_a_process_whose_handler_hangs_in_a_thread_and_a_peer_goes_on_at_once(
    servers: dict, processes: list[ListenerProcess]
):
    same = {**settings_of(servers), "lease": "600", "shutdown_timeout": "0.5"}
    async with running_source() as source:
        one = ListenerProcess(
            servers["directory"], "a", **same, ws_url=source.url, handler=named(hang_in_a_thread), handle_timeout="600"
        )
        processes.append(one)
        await asyncio.to_thread(one.start)
        await source.send(frame("hangs"))
        await asyncio.to_thread(one.child.wait_until, lambda: one.runs_of("hangs") == 1, 20)
        async with running_listener(
            ws_url=source.url,
            directory=servers["directory"],
            **same,
            instance_id="b",
            handler=named(accept),
            handler_change="yes",
        ) as two:
            await source.wait_for_clients(2)
            await source.send(frame("hangs"))
            await two.heard.until(lambda h: "hangs" in h.ids(EventsStandBy))
            asked_at = time.monotonic()
            one.child.ask_to_stop()
            assert await asyncio.to_thread(one.child.ended, 30) == 0
            assert time.monotonic() - asked_at < 10
            await two.heard.until(lambda h: h.ids(EventsStored) == ["hangs"])
            assert two.heard.ids(EventsTakenOver) == [], "claims were released, not left to expire"


async def test_an_event_that_kills_its_process_ends_as_a_letter_and_harms_no_other(
    servers: dict, processes: list[ListenerProcess]
):
    ids = {"bomb", *(f"e{i}" for i in range(8))}
    async with running_source() as source:
        source.backlog = lambda after: [frame(id_) for id_ in sorted(ids)]
        one = ListenerProcess(
            servers["directory"], "a", **settings_of(servers), ws_url=source.url, handler=named(kill_for_bomb),
            lease="1", max_takeovers="2",
        )  # fmt: skip
        processes.append(one)

        def dies_until_it_is_buried() -> int:
            deaths = 0
            while not letters(servers["directory"]):
                one.child.start()
                while one.child.is_running and not letters(servers["directory"]):
                    time.sleep(0.02)
                if not one.child.is_running:
                    assert one.child.exit_code == -signal.SIGKILL
                    deaths += 1
                assert deaths <= most, "in groups of half the size each time, and then alone"
            return deaths

        most = 1 + (len(ids) // 2).bit_length() - 1 + 2  # with all others, with 4 and 2 of them, and alone
        deaths = await asyncio.to_thread(dies_until_it_is_buried)
        assert deaths >= 1 + 2, "only losing two owners while it ran alone condemns it"
        await asyncio.to_thread(one.child.wait_until, lambda: one.health().get("in_memory") == 0, 20)
        assert await asyncio.to_thread(one.child.stop) == 0
    buried = letters(servers["directory"])
    assert [(letter.event_id, letter.reason) for letter in buried] == [("bomb", "crash_loop")]
    assert_law(ids, await rows_of(servers["database_url"]), buried)
    assert one.runs_of("bomb") == deaths
    assert "2 of them while they ran no other" in buried[0].attempts[-1].message


def limit_files(pid: int, size: int) -> None:
    """Limit the size of each file of this process. Larger appends fail (EFBIG), like on a full disk."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


async def test_a_full_disk_holds_letters_back_turns_unready_and_loses_nothing(
    servers: dict, processes: list[ListenerProcess]
):
    async with running_source() as source:
        one = ListenerProcess(
            servers["directory"], "a", **settings_of(servers), ws_url=source.url, handler=named(reject_bad)
        )
        processes.append(one)
        await asyncio.to_thread(one.start)
        await source.send(frame("bad0"), *frames("before", 5))
        await asyncio.to_thread(one.child.wait_until, lambda: len(letters(servers["directory"])) == 1, 20)
        assert one.child.pid
        limit_files(one.child.pid, (servers["directory"] / "a.jsonl").stat().st_size + 10)
        await source.send(frame("bad1"))
        await asyncio.to_thread(one.child.wait_until, lambda: not one.is_ready(), 20)
        assert "no room" in str(one.health())
        await source.send(frame("bad2"), *frames("after", 5))
        assert len(letters(servers["directory"])) == 1, "a torn letter, or one without fsync"
        limit_files(one.child.pid, resource.RLIM_INFINITY)
        await asyncio.to_thread(one.child.wait_until, one.is_ready, 20)
        await asyncio.to_thread(
            one.child.wait_until,
            lambda: len(letters(servers["directory"])) == 3 and one.health().get("in_memory") == 0,
            20,
        )
        assert await asyncio.to_thread(one.child.stop) == 0
    buried = letters(servers["directory"])
    assert {letter.reason for letter in buried} == {"rejected"}
    ids = {"bad0", "bad1", "bad2", *(f"before{i}" for i in range(5)), *(f"after{i}" for i in range(5))}
    assert_law(ids, await rows_of(servers["database_url"]), buried)
