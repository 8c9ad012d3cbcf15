"""The command ``unlost``: run the system, look at it, look after it, and prove it. Each command is loaded when used."""

from unlost.ops.command import lazy_group

main = lazy_group(
    "unlost",
    {
        "Run": {
            "up": "unlost.ops.local.up:up",
            "check": "unlost.ops.local.up:check",
            "listener": "unlost.listener.cli:main",
            "producer": "unlost.producer.cli:main",
            "console": "unlost.ops.console.cli:console",
        },
        "Look": {
            "top": "unlost.ops.watch.top:top",
            "event": "unlost.ops.audit.cli:event",
            "audit": "unlost.ops.audit.cli:audit",
        },
        "Look after": {
            "dlq": "unlost.dlq.cli:main",
            "migrate": "unlost.ops.migrate:migrate_command",
            "retention": "unlost.ops.retention:retention",
            "journal": "unlost.ops.journal:journal",
        },
        "Prove": {
            "drill": "unlost.ops.drills.cli:drill",
            "bench": "unlost.ops.bench.cli:bench",
        },
    },
    help="Every event ends as exactly one row, or as a dead letter.",
    examples=[
        "unlost up",
        "unlost check",
        "unlost top",
        "unlost audit .unlost/*/failed_events.jsonl",
        "unlost event order-4711",
        "unlost migrate",
        "unlost drill --list",
        'eval "$(_UNLOST_COMPLETE=bash_source unlost)"    # completion; zsh_source and fish_source alike',
    ],
)
