"""The routes of the console for dead letters: groups, lists, one letter, changes and replays."""

import time

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from unlost.dlq.record.letter_state import What
from unlost.dlq.record.query import Selection
from unlost.ops.console.answers import body_of, by, changing, error_answer, json_answer, limits_of, reading
from unlost.ops.console.letters import ConsoleLetters
from unlost.ops.console.replays import ReplayRequest, Replays
from unlost.ops.console.selecting import LettersRequest, Selecting, SelectionRefused, filters_of
from unlost.ops.console.shelf import MOST_LISTED
from unlost.ops.console.trail import ConsoleTrail
from unlost.ops.kit.access.middleware import redactor_for
from unlost.ops.kit.telemetry.counted import counted
from unlost.ops.kit.telemetry.http import whole_number
from unlost.ops.kit.telemetry.redact import Redactor
from unlost.ops.watch.picture import handler_at_work
from unlost.ops.watch.query import Watch

MOST_WORDS = 500


class LetterRoutes:
    """The routes for letters."""

    def __init__(
        self, letters: ConsoleLetters, redactor: Redactor, replays: Replays, trail: ConsoleTrail, watch: Watch
    ) -> None:
        self._letters = letters
        self._redactor = redactor
        self._replays = replays
        self._trail = trail
        self._watch = watch
        self.routes: list[BaseRoute] = [
            reading("/api/letters/groups", self.groups),
            reading("/api/letters", self.letters),
            reading("/api/letters/keys", self.keys),
            changing("/api/letters/archive", self.archive),
            changing("/api/letters/restore", self.restore),
            reading("/api/letters/{letter_id}", self.letter),
            reading("/api/replays", self.replays),
            changing("/api/replays", self.replay),
            changing("/api/replays/{replay_id}/cancel", self.cancel),
        ]

    async def groups(self, request: Request) -> Response:
        """Return groups of letters that failed in the same way."""
        return json_answer(await self._letters.groups(self._filtered(request)))

    async def letters(self, request: Request) -> Response:
        """Return the latest letters that match the filters."""
        limit = whole_number(request, "limit", MOST_LISTED, least=1, most=MOST_LISTED)
        return json_answer(await self._letters.letters(self._filtered(request), limit))

    async def keys(self, request: Request) -> Response:
        """Return the keys that a letter blocks, the longest blocked first."""
        limit = whole_number(request, "limit", MOST_LISTED, least=1, most=MOST_LISTED)
        return json_answer(await self._letters.keys(limit, redactor_for(request.scope, self._redactor)))

    def _filtered(self, request: Request) -> Selection:
        return self._selecting(request).filtered(filters_of(request.query_params), time.time())

    def _selecting(self, request: Request) -> Selecting:
        return Selecting(redactor_for(request.scope, self._redactor))

    async def _change(self, request: Request, letters: LettersRequest, what: What, why: str) -> Response:
        """Archive or restore letters, or with ``dry_run`` count them."""
        chosen = self._selecting(request).named(letters, time.time())
        blocking = await self._letters.blocking(chosen, letters.file) if what == "archived" else 0
        if letters.dry_run:
            count = await self._letters.changeable(chosen, letters.file, what)
            return json_answer({what: count, "blocking": blocking} if what == "archived" else {what: count})
        if blocking and not letters.followers:
            raise SelectionRefused(
                f"{counted(blocking, 'letter')} of these may block a key, and later events of the key wait: say in "
                '"followers" whether they "wait" still, or "go" without the order behind these letters'
            )
        go = what == "archived" and letters.followers == "go"
        if go and letters.file:
            raise SelectionRefused('"followers" may go only for letters of the fleet\'s list: leave out "file"')
        count = await self._letters.change(chosen, letters.file, what, why, by(request), followers_go=go)
        await self._trail.note(request, by(request), what, letters.about(), why, counted(count, "letter"))
        return json_answer({what: count})

    async def letter(self, request: Request) -> Response:
        """Return one letter in full."""
        return json_answer(
            await self._letters.letter(request.path_params["letter_id"], redactor_for(request.scope, self._redactor))
        )

    async def archive(self, request: Request) -> Response:
        """Archive letters, with a reason."""
        letters = await body_of(request, LettersRequest)
        why = letters.why.strip()
        if not letters.dry_run and not 1 <= len(why) <= MOST_WORDS:
            raise SelectionRefused(f'"why" says in 1 to {MOST_WORDS} characters for what reason they are put aside')
        return await self._change(request, letters, "archived", why)

    async def restore(self, request: Request) -> Response:
        """Restore archived or quarantined letters."""
        return await self._change(request, await body_of(request, LettersRequest), "restored", "")

    async def replays(self, request: Request) -> Response:  # noqa: ARG002
        """Return the replays of this console."""
        return json_answer({"replays": self._replays.values()})

    async def replay(self, request: Request) -> Response:
        """Start a replay, or with ``dry_run`` return its plan."""
        wanted = await body_of(request, ReplayRequest)
        if min(wanted.rate, wanted.limit, wanted.canary, wanted.max_failures) < 0:
            raise SelectionRefused("rate, limit, canary and max_failures are not below 0")
        plans = await self._letters.plans(
            self._selecting(request).named(wanted, time.time()), wanted.file, wanted.limit
        )
        if wanted.dry_run:
            return json_answer({"plans": plans, "letters": sum(one["letters"] for one in plans)})
        picture, _ = await self._watch.look()
        most = limits_of(request).replays
        started = self._replays.start(wanted, plans, handler_at_work(picture), by(request), most)
        begun = f"replay {started['replay_id']}, {counted(started['total'], 'letter')}"
        what = "shadow replay started" if wanted.shadow else "replay started"
        await self._trail.note(request, by(request), what, wanted.about(), "", begun)
        return json_answer(started, 202)

    async def cancel(self, request: Request) -> Response:
        """Cancel a replay."""
        replay_id = request.path_params["replay_id"]
        cancelled = self._replays.cancel(replay_id)
        if cancelled:
            await self._trail.note(request, by(request), "replay cancelled", replay_id, "", cancelled["state"])
        return json_answer(cancelled) if cancelled else error_answer(404, "no such replay")
