"""The command ``unlost``: run the system, look at it, look after it, and prove it.

A command's module is imported only when that command is used. So its first sentence stands here too, for the list of
commands and for a shell that completes them; a test compares them.
"""

from unlost.ops.kit.groups import lazy_group

main = lazy_group(
    "unlost",
    {
        "Run": {
            "up": (
                "unlost.ops.system.up:up",
                "Start PostgreSQL, Valkey, producer, listeners and console on this machine, without Docker.",
            ),
            "check": (
                "unlost.ops.system.up:check",
                "Start the whole system on free ports, publish, verify each row, stop; exit 0 if all is well.",
            ),
            "listener": (
                "unlost.listener.app.cli:main",
                "Claim, handle and store each event of a WebSocket source exactly once.",
            ),
            "producer": (
                "unlost.producer.app.cli:main",
                "Accept events over HTTP into a durable journal, and stream them over WebSocket.",
            ),
            "console": (
                "unlost.ops.console.cli:console",
                "Serve one page that shows the whole system and the story of each event, and replays dead letters.",
            ),
        },
        "Look": {
            "top": (
                "unlost.ops.watch.top:top",
                "Show all listeners live: rates, lag, retries, breakers, letters, and what to do about problems.",
            ),
            "handlers": (
                "unlost.listener.app.handlers:handlers",
                (
                    "List the routes of HANDLER in the order in which an event tries them, and check it as a "
                    "listener does."
                ),
            ),
            "asyncapi": (
                "unlost.listener.app.asyncapi:asyncapi",
                (
                    "Print what HANDLER receives as a document of AsyncAPI 3.0: its types of events, and their "
                    "payloads' schemas."
                ),
            ),
            "source": (
                "unlost.listener.app.source_commands:source",
                "Look at feeds: which are shipped, what their profiles say, what a feed's messages become.",
            ),
            "event": (
                "unlost.ops.audit.event:event",
                "Show all that is known of the event EVENT_ID, as JSON: journal, row, listeners, letters.",
            ),
            "audit": (
                "unlost.ops.audit.cli:audit",
                "Account for every event that the producer accepted: row, letter, in flight, waiting, or missing.",
            ),
        },
        "Look after": {
            "dlq": (
                "unlost.dlq.commands.cli:main",
                "Look at dead letters, and run them again.",
            ),
            "token": (
                "unlost.ops.access.token:token",
                "Make, list and revoke the tokens of TOKENS_FILE.",
            ),
            "keys": (
                "unlost.ops.upkeep.keys:keys",
                "Make and rotate the keys with which events are encrypted at rest.",
            ),
            "erase": (
                "unlost.ops.upkeep.erase:erase",
                "Destroy the key of a person or account, and give a receipt of what stays unreadable.",
            ),
            "trail": (
                "unlost.ops.upkeep.trail:trail",
                "Read and verify the trail of changes.",
            ),
            "pause": (
                "unlost.ops.upkeep.pause:pause",
                (
                    "Pause a listener, which then reads nothing, or a route of the handler, whose events then "
                    "wait in memory."
                ),
            ),
            "resume": (
                "unlost.ops.upkeep.pause:resume",
                "End a pause.",
            ),
            "pauses": (
                "unlost.ops.upkeep.pause:pauses",
                "List the listeners and routes that are paused, with who paused them and why.",
            ),
            "migrate": (
                "unlost.ops.upkeep.migrate:migrate_command",
                "Create the schema of a group, or bring its tables up to date; up-to-date tables are not changed.",
            ),
            "retention": (
                "unlost.ops.upkeep.retention:retention",
                "Delete rows older than an age, which must not be shorter than the dedup window.",
            ),
            "journal": (
                "unlost.ops.upkeep.journal:journal",
                "Manage a producer's journal: the groups for which it keeps events, and where it is.",
            ),
        },
        "Prove": {
            "drill": (
                "unlost.ops.faults.drills.cli:drill",
                "Damage a private system on this machine, heal it, and report whether every event was kept.",
            ),
            "bench": (
                "unlost.ops.bench.cli:bench",
                (
                    "Measure stages, pipeline, what experts write by hand, latency and handlers, side by side, "
                    "on private servers."
                ),
            ),
        },
    },
    help="Every event ends as exactly one row, or as a dead letter.",
    examples=[
        "unlost up",
        "unlost check",
        "unlost top",
        "unlost audit",
        "unlost event order-4711",
        "unlost token create shop --rights publish",
        "unlost source list",
        "unlost migrate",
        "unlost drill --list",
        'eval "$(_UNLOST_COMPLETE=bash_source unlost)"    # completion; zsh_source and fish_source alike',
    ],
)
