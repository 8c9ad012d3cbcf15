"""The command ``dlq``: look at dead letters, edit and run them again, archive them, compact their files.

Like ``unlost``, it imports a command only when that is used, and has the first sentence of each here.
"""

from unlost.ops.kit.groups import lazy_group

main = lazy_group(
    "dlq",
    {
        "Look": {
            "list": (
                "unlost.dlq.commands.reading:list_letters",
                "List dead letters, the latest last.",
            ),
            "show": (
                "unlost.dlq.commands.reading:show",
                "Show everything about a letter; ID is an event's, or a letter's: whole, or its last 8 characters.",
            ),
            "groups": (
                "unlost.dlq.commands.reading:show_groups",
                "Group letters that failed alike, the largest group first.",
            ),
            "keys": (
                "unlost.dlq.commands.keys:keys",
                "List the keys that a letter blocks (ORDER_BY), the longest blocked first.",
            ),
            "stats": (
                "unlost.dlq.commands.reading:stats",
                "Count letters by reason, class and state.",
            ),
        },
        "Run again": {
            "replay": (
                "unlost.dlq.commands.engines:replay",
                "Run the letters of FILES again, under their own ids, as a listener would.",
            ),
            "edit": (
                "unlost.dlq.commands.editing:edit_letter",
                "Make a new version of a letter's event.",
            ),
            "transform": (
                "unlost.dlq.commands.editing:transform",
                "Make a new version of the event of each selected letter, by a function or a patch.",
            ),
        },
        "Sort": {
            "note": (
                "unlost.dlq.commands.changing:note",
                "Add a note to letters.",
            ),
            "assign": (
                "unlost.dlq.commands.changing:assign",
                "Assign a cause to letters, by which --assigned finds them.",
            ),
            "quarantine": (
                "unlost.dlq.commands.changing:quarantine",
                "Keep letters from replays and from healing until restore brings them back.",
            ),
            "archive": (
                "unlost.dlq.commands.changing:archive",
                "Put letters aside: a replay skips them, restore brings them back.",
            ),
            "restore": (
                "unlost.dlq.commands.changing:restore",
                "Bring archived and quarantined letters back, with their count of failed replays at zero.",
            ),
        },
        "Keep": {
            "export": (
                "unlost.dlq.commands.moving:export",
                "Write the events of letters, one per line, exactly as their publishers wrote them (always JSON).",
            ),
            "import": (
                "unlost.dlq.commands.moving:import_letters",
                (
                    "Add the letters of FILE to the fleet's list of GROUP, as written by export --as letters, with "
                    "their versions."
                ),
            ),
            "retention": (
                "unlost.dlq.commands.moving:retention",
                "Delete resolved letters from the fleet's list.",
            ),
            "compact": (
                "unlost.dlq.commands.changing:compact",
                "Rewrite the files without resolved letters, while listeners keep running.",
            ),
            "verify": (
                "unlost.dlq.commands.reading:verify",
                "Check every line of the letters and their states; exit code 1 if one is damaged.",
            ),
        },
    },
    help="Look at dead letters, and run them again.",
    examples=[
        "dlq groups failed_events.jsonl",
        "dlq show order-4711 failed_events.jsonl",
        "dlq replay failed_events.jsonl --dry-run",
        "dlq replay failed_events.jsonl --reason exhausted --canary 5",
        "dlq list failed_events.jsonl --json | jq '.[].event_id'",
    ],
)
