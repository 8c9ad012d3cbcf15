"""All drills except chaos: the damage that each does, and which consequences are allowed."""

from unlost.ops.faults.drills.acts import (
    BEYOND_LEASE,
    OUTLAST_ATTEMPTS,
    RESET,
    an_owner,
    come_with,
    cut_one_off,
    every_listener,
    every_wire,
    flap,
    forget_letters,
    freeze,
    hand_over_and_kill,
    kill,
    kill_an_owner_and_turn_the_clock_back,
    kill_two_owners,
    let_all_meet,
    letters_are_written,
    one_after_another,
    outlast_lease,
    promoted_and_followed,
    repair_all,
    reset_again_and_again,
    restart_one_by_one,
    start,
    start_first,
    stop,
    thaw,
    until_refused,
    upgrade,
)
from unlost.ops.faults.drills.drill import ANOTHER, IN_TRANSACTION, NONE, RECORD, Bars, Drill, Poison, pause
from unlost.ops.faults.drills.journals import (
    move_journal,
    move_journal_back,
    revive_first_and_kill_second,
    set_journal_back,
    start_and_see_gaps,
)
from unlost.ops.faults.drills.restores import (
    restore_dump_beside_listeners,
    set_postgres_back,
    stop_listeners_and_restore_dump,
    until_noticed,
)
from unlost.ops.system.patroni import TTL

FAILOVER = TTL + 5.0
"""How long a failover by Patroni takes."""
LONG_OUTAGE = 40.0
ELECTED = 9.0 + 2.0
"""When a JetStream has another leader: nodes wait for 4 s to 9 s before they elect one, and the answer may take 2 s."""
REDIS_BARS = Bars(progress=3.0, recover=5.0, pause=1.0)
POSTGRES_BACK = 2.0
TAKEN_OVER = Bars(extra_runs=True, takeover=2.0)
ONE_OF = 40
SLOW_HANDLERS = {"DRILL_SECONDS": "1", "handle_concurrency": "400"}
KEYS = 47
"""No divisor of the distance of failing events, so that many keys have one."""
ORDERED = {"order_by": "payload.key", "handle_delay": "0.2", "heal": "off", "DRILL_SECONDS": "0.15"}
"""Runs take long enough that a listener holds several events, although one event of a key runs at a time."""
OWNED = {"handle_timeout": "5", "DRILL_SECONDS": "0.1"}
"""HANDLE_TIMEOUT does not exceed the lease. A frozen owner's transaction may stay idle for the longer of the two, and
the new owner waits for it. A run takes long enough that a listener that held several events still holds some."""

REDIS = (
    Drill("redis-stopped", "Redis is stopped, and started again with what it held.",
          damage=stop("redis"), heal=start("redis"), bars=REDIS_BARS, progress_from="damage"),
    Drill("redis-frozen", "Redis falls silent with every connection open, and wakes up.",
          damage=freeze("redis"), heal=thaw("redis"), bars=REDIS_BARS, progress_from="damage"),
    Drill("redis-killed", "Redis is killed, and comes back empty: all claims and all it knew are gone.",
          damage=kill("redis"), heal=start("redis", empty=True), bars=REDIS_BARS, progress_from="damage"),
    Drill("redis-flapping", "Redis is killed and started again every half second, five times.",
          damage=kill("redis"), during=flap, heal=start("redis"), bars=REDIS_BARS, progress_from="damage"),
    Drill("redis-cut-off", "One listener cannot reach Redis; the others can.",
          damage=lambda stage: stage.wires.cut(stage.listeners[0], "redis"), heal=repair_all, bars=REDIS_BARS,
          progress_from="damage", wires=True),
    Drill("cluster-node-killed", "One primary of a Redis Cluster is killed, and its replica takes over.",
          damage=kill("redis-primary"), during=pause(0.0), bars=REDIS_BARS, progress_from="damage", redis="cluster"),
    Drill("sentinel-failover", "Sentinels hand over to the replica as planned. Then the new primary is killed.",
          damage=hand_over_and_kill, during=pause(0.0), bars=REDIS_BARS, progress_from="damage", redis="sentinels",
          longer=2.5, begins_after=1 / 8),  # it may take 20 s until a Sentinel sees the new replica
)  # fmt: skip

POSTGRES = (
    Drill("postgres-stopped", "PostgreSQL is away for longer than all attempts last: rows wait, and nothing is buried.",
          damage=stop("postgres"), during=pause(OUTLAST_ATTEMPTS), heal=start("postgres"),
          bars=Bars(progress=POSTGRES_BACK)),
    Drill("outage-long", "PostgreSQL is away for 40 s, as in an ordinary failover.",
          damage=stop("postgres"), during=pause(LONG_OUTAGE), heal=start("postgres"),
          bars=Bars(progress=POSTGRES_BACK)),
    Drill("table-locked", "Somebody locks the table of events for 40 s, while PostgreSQL answers everything else.",
          damage=lambda stage: stage.lock_events(), during=pause(LONG_OUTAGE),
          heal=lambda stage: stage.unlock_events(), bars=Bars(progress=POSTGRES_BACK), on_compose=False),
    Drill("postgres-frozen", "PostgreSQL falls silent with every connection open, and wakes up.",
          damage=freeze("postgres"), heal=thaw("postgres"), bars=Bars(progress=POSTGRES_BACK)),
    Drill("postgres-killed", "PostgreSQL is killed with -9 and recovers; its unlogged claims are gone.",
          damage=kill("postgres"), during=pause(1.0), heal=start("postgres"),
          bars=Bars(progress=POSTGRES_BACK)),
    Drill("standby-promoted", "PostgreSQL is killed. Its synchronous standby is promoted after 35 s, as in Patroni.",
          damage=kill("postgres"), during=pause(FAILOVER), heal=lambda stage: stage.promote_standby(),
          bars=Bars(progress=POSTGRES_BACK), standby="ours"),
    Drill("patroni-failover", "PostgreSQL's primary is killed with its Patroni. The other Patroni promotes the "
          "synchronous standby once the lease in etcd has ended, and the former primary follows it.",
          damage=kill("postgres"), during=pause(1.0), heal=promoted_and_followed, bars=Bars(progress=TTL + 10.0),
          progress_from="damage", standby="patroni", longer=12.0, begins_after=1 / 36, until_healed=True),
    Drill("standby-cut-off", "The synchronous standby falls silent for 40 s, so PostgreSQL acknowledges no commit.",
          damage=freeze("standby"), during=pause(LONG_OUTAGE), heal=thaw("standby"),
          bars=Bars(progress=POSTGRES_BACK), standby="ours"),
    Drill("pooler-restarted", "The pgbouncer before PostgreSQL (transaction mode) is killed, and started again.",
          damage=kill("pooler"), during=pause(3.0), heal=start("pooler"), bars=Bars(progress=POSTGRES_BACK),
          pooled=True),
    Drill("postgres-connections", "Somebody takes every connection that PostgreSQL has, those of the listeners too.",
          damage=lambda stage: stage.take_connections(), heal=lambda stage: stage.give_connections(),
          bars=Bars(progress=POSTGRES_BACK), few_connections=True),
    Drill("postgres-restored", "PostgreSQL is set back to a backup that lacks what was stored in the last seconds.",
          damage=set_postgres_back, during=until_noticed, bars=Bars(extra_runs=True), on_compose=False),
    Drill("dump-restored", "A pg_dump is restored into an empty database: while listeners run, and while none does.",
          damage=restore_dump_beside_listeners, during=stop_listeners_and_restore_dump,
          heal=every_listener("start"), bars=Bars(extra_runs=True), on_compose=False),
    Drill("letters-forgotten", "PostgreSQL is away, Redis is emptied, and one listener is cut off from both.",
          damage=cut_one_off, during=forget_letters, heal=let_all_meet,
          bars=Bars(progress=REDIS_BARS.progress), wires=True, handler=NONE),
)  # fmt: skip

GROUPS = (
    Drill("two-groups", "Two groups of listeners share a database, and PostgreSQL is killed: each stores every event.",
          damage=kill("postgres"), during=pause(1.0), heal=start("postgres"), bars=Bars(progress=POSTGRES_BACK),
          two_groups=True, on_compose=False),
    Drill("shard-away", "Two shards store events, each in its PostgreSQL. One is killed for 5 s: the other stores on.",
          damage=kill("postgres"), during=pause(5.0), heal=start("postgres"), bars=Bars(progress=1.0),
          progress_from="damage", shards=True, on_compose=False),
)  # fmt: skip

PRODUCER = (
    Drill("producer-stopped", "The producer is stopped and started again; publishers try until they are answered.",
          damage=stop("producer"), heal=start("producer")),
    Drill("producer-twice", "A second producer is started on the same journal: it must end at once and change nothing.",
          damage=lambda stage: stage.start_second_producer(), bars=Bars(felt=False), progress_from="damage",
          on_compose=False),
    Drill("journal-restored", "The journal is set back to a backup that lacks what listeners have read since.",
          damage=set_journal_back, heal=start_and_see_gaps, on_compose=False),
    Drill("producer-killed", "The producer is killed with -9 in the middle of publishing; every 202 must be kept.",
          damage=kill("producer"), during=pause(1.0), heal=start("producer")),
    Drill("producer-behind-balancer", "Two producers share a journal in PostgreSQL, behind a balancer. First one is "
          "killed, and after it is back the other.",
          damage=kill("producer-1"), during=revive_first_and_kill_second, heal=start("producer-2"),
          bars=Bars(progress=3.0), progress_from="damage", producers=2),
    Drill("journal-migrated", "The journal moves from its file to PostgreSQL, and back. The command that moves it is "
          "killed in each of its steps.",
          damage=move_journal, during=pause(2.0), heal=move_journal_back, journal_moves=True, on_compose=False),
    Drill("jetstream-node-killed", "The producer keeps its journal in JetStream, on three nodes. The leader of its "
          "stream is killed.",
          damage=kill("journal"), heal=start("journal"), bars=Bars(progress=ELECTED, felt=False),
          progress_from="damage", journal_nodes=True, settings={"max_event_bytes": "500000"}),
)  # fmt: skip

LISTENERS = (
    Drill("listener-killed", "A listener is killed with -9; its peers take over what it held.",
          damage=an_owner("kill"), during=outlast_lease, heal=every_listener("start"), bars=TAKEN_OVER,
          progress_from="damage", handler=IN_TRANSACTION, settings=OWNED),
    Drill("all-listeners-killed", "Every listener is killed with -9, and started again.",
          damage=every_listener("kill"), during=pause(1.0), heal=every_listener("start"),
          bars=Bars(extra_runs=True, takeover=4.0), handler=IN_TRANSACTION, settings=OWNED),
    Drill("listener-frozen", "A listener is frozen past its lease and woken; its late writes must not double.",
          damage=an_owner("freeze"), during=outlast_lease, heal=every_listener("thaw"), bars=TAKEN_OVER,
          progress_from="damage", handler=IN_TRANSACTION, settings=OWNED),
    Drill("clock-jump", "A listener is killed, and Redis' clock goes back an hour; its leases end in time.",
          damage=kill_an_owner_and_turn_the_clock_back, during=pause(2 * BEYOND_LEASE + 5.0),
          heal=every_listener("start"), bars=Bars(extra_runs=True, takeover=5.0), progress_from="damage",
          handler=IN_TRANSACTION, settings=OWNED, on_compose=False),
)  # fmt: skip

STOPS = (
    Drill("stop-foreign", "All listeners of a source that cannot resume are stopped with more than they can finish.",
          damage=every_listener("stop"), during=letters_are_written, heal=every_listener("start"), foreign=True,
          bars=Bars(extra_runs=True), poison=Poison("slow", 10), settings={"shutdown_timeout": "1"}),
    Drill("outage-heals", "PostgreSQL is away, and such a source overflows the memory: the letters heal by themselves.",
          damage=stop("postgres"), during=pause(OUTLAST_ATTEMPTS), heal=start("postgres"), foreign=True,
          settings={"max_events": "64", "heal_rate": "500"}),
    Drill("rolling-deploy", "The same source: each listener is stopped and started, one after the other.",
          damage=restart_one_by_one, during=pause(0.5), foreign=True, poison=Poison("slow", 20)),
    Drill("rolling-upgrade", "A system of an earlier version (--from) is upgraded as documented: tables, listeners, "
          "two producers behind a balancer, console.",
          damage=upgrade, during=pause(0.0), producers=2, upgrades=True, poison=Poison("fail", ONE_OF),
          bars=Bars(letters="some", slower=3.0), settings={"handle_delay": "0.2"}, begins_after=1 / 18, longer=12.0,
          until_healed=True),
)  # fmt: skip

BROKERS = (
    Drill("broker-restarted", "Listeners read JetStream. Its server is killed, and comes back with its disk.",
          damage=kill("broker"), heal=start("broker"), bars=Bars(progress=5.0, recover=20.0), broker=1),
    Drill("broker-node-killed", "Listeners read a JetStream cluster. The node that leads their consumer is killed.",
          damage=kill("broker"), heal=start("broker"), bars=Bars(progress=10.0, recover=20.0, felt=False),
          progress_from="damage", broker=3),
)  # fmt: skip

FEEDS = (
    Drill("feed-reconnects", "A feed that cannot resume moves and closes connections: what one misses, its peer has.",
          damage=lambda stage: stage.end_connections(), during=pause(0.0), feed="planned",
          bars=Bars(progress=3.0, felt=False), progress_from="damage"),
    Drill("feed-unacked", "A feed wants acknowledgements, handlers take 1 s, and a listener is killed with -9, twice.",
          damage=kill_two_owners, during=pause(1.0), heal=every_listener("start"), feed="acknowledged",
          bars=Bars(extra_runs=True), settings=SLOW_HANDLERS),
)  # fmt: skip

HANDLERS = (
    Drill("handler-hangs", "The handler hangs for some events: each attempt ends at its limit, then a letter.",
          bars=Bars(letters="some", felt=False), poison=Poison("hang", 200), progress_from="damage",
          settings={"handle_timeout": "1", "handle_delay": "0.2"}, on_compose=False),
    Drill("handler-fails", "The handler always fails for some events: they end as letters, the others as rows.",
          bars=Bars(letters="some", felt=False), poison=Poison("fail", ONE_OF), progress_from="damage",
          settings={"handle_delay": "0.2"}, on_compose=False),
    Drill("handler-kills", "One event kills every process that handles it; after the crash loop it is a letter.",
          bars=Bars(letters="some", extra_runs=True), poison=Poison("kill"), progress_from="damage",
          during=pause(1.0), settings={"lease": "2"}, revives=True, on_compose=False),
    Drill("handlers-differ", "A listener comes back with another handler: it waits and says so, its peers continue.",
          damage=come_with(ANOTHER), during=until_refused, heal=come_with(RECORD), on_compose=False),
    Drill("disk-lost", "A listener is killed with its disk after it has shipped its letters: none is lost.",
          damage=lambda stage: stage.lose_disk(stage.listeners[0]), during=pause(1.0), heal=start_first,
          bars=Bars(letters="some", extra_runs=True), poison=Poison("fail", ONE_OF),
          settings={"handle_delay": "0.2"}, on_compose=False),
    Drill("letters-fleet", "Letters of all listeners are replayed from two places at once: each is run once.",
          damage=lambda stage: stage.replay_twice_at_once(), during=pause(0.5), bars=Bars(letters="any", felt=False),
          poison=Poison("fail", ONE_OF), progress_from="damage", settings={"handle_delay": "0.2"}, on_compose=False),
    Drill("letters-disk-full", "There is no room for dead letters: they are held, and reading stops until there is.",
          damage=lambda stage: stage.fill_disk(), heal=lambda stage: stage.free_disk(), fills_disk=True,
          bars=Bars(letters="some"), poison=Poison("fail", ONE_OF), settings={"handle_delay": "0.2"},
          on_compose=False),
)  # fmt: skip

ORDER = (
    Drill("ordered", "Events have keys, 1 % of them fail, and a listener is killed: no event overtakes one of its key.",
          damage=an_owner("kill"), heal=every_listener("start"), bars=Bars(letters="some", extra_runs=True, felt=False),
          poison=Poison("fail", 100), keys=KEYS, handler=IN_TRANSACTION, settings=ORDERED, on_compose=False),
    Drill("ordered-chaos", "The same, with kills, freezes, an emptied Redis, and PostgreSQL away, one after another.",
          damage=one_after_another, during=pause(1.0), bars=Bars(letters="some", extra_runs=True, felt=False),
          poison=Poison("fail", 100), keys=KEYS, settings=ORDERED, longer=2.0, on_compose=False),
)  # fmt: skip

NETWORK = (
    Drill("slow-network", "Every connection is slow and uneven: 150 ms, give or take 50.",
          damage=every_wire("latency", "redis", "postgres", "source", latency=150, jitter=50), heal=repair_all,
          bars=Bars(felt=False), progress_from="damage", wires=True),
    Drill("connections-reset", "Every connection of the listeners is reset, again and again for four seconds.",
          damage=RESET, during=reset_again_and_again, heal=repair_all, bars=Bars(letters="any"), wires=True),
    Drill("half-reply", "Half a reply comes, then silence, from Redis and from PostgreSQL.",
          damage=every_wire("slicer", "redis", "postgres", average_size=3, size_variation=0, delay=60_000_000),
          heal=repair_all, bars=Bars(letters="any"), wires=True),
)  # fmt: skip

DRILLS = {
    drill.name: drill
    for drill in (
        *REDIS,
        *POSTGRES,
        *GROUPS,
        *PRODUCER,
        *LISTENERS,
        *STOPS,
        *BROKERS,
        *FEEDS,
        *HANDLERS,
        *ORDER,
        *NETWORK,
    )
}
