"""The command ``unlost``: run the system, look at it, look after it, and prove it.

A command's module is imported only when that command is used.
"""

from unlost.ops.kit.groups import lazy_group

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
            "handlers": "unlost.listener.app.handlers:handlers",
            "asyncapi": "unlost.listener.app.asyncapi:asyncapi",
            "source": "unlost.listener.app.source_commands:source",
            "event": "unlost.ops.audit.cli:event",
            "audit": "unlost.ops.audit.cli:audit",
        },
        "Look after": {
            "dlq": "unlost.dlq.commands.cli:main",
            "token": "unlost.ops.access.token:token",
            "trail": "unlost.ops.upkeep.trail:trail",
            "pause": "unlost.ops.upkeep.pause:pause",
            "resume": "unlost.ops.upkeep.pause:resume",
            "pauses": "unlost.ops.upkeep.pause:pauses",
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
        "unlost audit",
        "unlost event order-4711",
        "unlost token create shop --rights publish",
        "unlost source list",
        "unlost migrate",
        "unlost drill --list",
        'eval "$(_UNLOST_COMPLETE=bash_source unlost)"    # completion; zsh_source and fish_source alike',
    ],
)
