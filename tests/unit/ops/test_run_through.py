"""If a separate task or callback calls ``sys.exit``, neither the loop nor anything that waits in it ends."""

import subprocess
import sys

PROGRAM = """
import asyncio, sys
from unlost.ops.kit.command.daemon import run_daemon

async def leave(code):
    sys.exit(code)

async def interrupt():
    raise KeyboardInterrupt

class Work:
    def stop(self): ...

    async def run(self):
        loop, fired = asyncio.get_running_loop(), []
        tasks = [loop.create_task(leave(3)), loop.create_task(leave(4))]
        for number in range(300):
            loop.call_soon(fired.append, number)
            loop.call_later(number / 10_000, fired.append, number)
            if number % 100 == 50:
                loop.call_soon(sys.exit, 5)
                loop.create_task(interrupt())
                loop.call_later(number / 10_000, sys.exit, 6)
        assert await asyncio.to_thread(lambda: 7) == 7
        while len(fired) < 600:
            await asyncio.sleep(0.01)
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [one.code for one in ended] == [3, 4], ended
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(leave(7))
        except SystemExit as error:
            print("awaited", error.code)
        {last}

run_daemon(Work)
print("the end")
"""


def program(last: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", PROGRAM.replace("{last}", last)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_all_that_waits_is_done_and_whoever_awaits_the_task_gets_what_it_raised():
    done = program("")
    assert (done.returncode, "the end" in done.stdout, "awaited 7" in done.stdout) == (0, True, True), done
    assert "exit_ignored" in done.stdout + done.stderr


def test_the_work_itself_may_leave():
    done = program("sys.exit(9)")
    assert (done.returncode, "the end" in done.stdout) == (9, False), done


def test_garbage_is_collected_rarely_while_thousands_of_events_are_in_flight():
    code = (
        "import asyncio, gc\nfrom unlost.ops.kit.command.daemon import COLLECT_EVERY, run_through\n"
        "async def threshold(): return gc.get_threshold()\n"
        "assert run_through(threshold()) == COLLECT_EVERY\nprint('rarely')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout == "rarely\n", done
