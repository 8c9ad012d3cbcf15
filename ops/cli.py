"""The command ``unlost``: run the system, look at it, look after it, and prove it.

A command's module is imported only when that command is used.
"""

from unlost.ops.kit.command import lazy_group

main = lazy_group(
    "unlost",
    {
        "Run": {
            "up": "unlost.ops.system.up:up",
            "check": "unlost.ops.system.up:check",
            "listener": "unlost.listener.app.cli:main",
            "producer": "unlost.producer.app.cli:main",
            "console": "unlost.ops.console.cli:console",
        },
        "Look": {
            "top": "unlost.ops.watch.top:top",
            "event": "unlost.ops.audit.cli:event",
            "audit": "unlost.ops.audit.cli:audit",
        },
        "Look after": {
            "dlq": "unlost.dlq.commands.cli:main",
            "migrate": "unlost.ops.upkeep.migrate:migrate_command",
            "retention": "unlost.ops.upkeep.retention:retention",
            "journal": "unlost.ops.upkeep.journal:journal",
        },
        "Prove": {
            "drill": "unlost.ops.faults.drills.cli:drill",
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
