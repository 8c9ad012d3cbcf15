"""The dashboards, with panels in the order in which people on call need them."""

from collections.abc import Iterable

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

from grafana.panels import NONE_IS_GOOD, SELECTED, SOURCE, Panel, bars, figure, heatmap_of, lines, page, states

RUNBOOK = "/d/unlost-runbook"
RATE = "$__rate_interval"
UP = {"0": ("down", "red"), "1": ("up", "green")}
CONNECTED = {"0": ("away", "red"), "1": ("connected", "green")}
MODE = {"0": ("normal", "green"), "1": ("degraded", "orange")}
BREAKER = {"0": ("closed", "green"), "1": ("open", "red")}
SOME_ARE_BAD = ((None, "green"), (1, "orange"), (100, "red"))
FAILED = '{instance=~"$instance",result="failed"}'
REPLAYED = '{instance=~"$instance",status=~"resolved|failed|quarantined"}'


def boards(runbook_text: str) -> dict[str, models.Dashboard]:
    """Return each dashboard by the name of its file."""
    return {
        "overview": overview(),
        "listener": listener(),
        "failures": failures(),
        "drill": drill(),
        "runbook": runbook(runbook_text),
    }


def overview() -> models.Dashboard:
    """Is everything all right, at one glance."""
    return _board("overview", "Overview", "Green is good. Everything else has a heading in the runbook.", [
        figure("Processes", "Those that answer Prometheus.", "up", says=UP, legend="{{instance}}", width=6),
        figure("Source", "Whether each listener is connected.", "unlost_source_connected", says=CONNECTED,
               legend="{{instance}}", width=6),
        figure("Claims", "Degraded: without Redis, slower, and as safe.", "unlost_degraded", says=MODE,
               legend="{{instance}}", width=6),
        figure("Unresolved letters", "What waits for a replay.", "sum(unlost_dead_letters_unresolved)",
               steps=SOME_ARE_BAD, width=6),
        figure("Settled within 5 s", "Of the events of the last hour; the objective is 99.9 %.",
               "1 - unlost:objective_missed:ratio1h", unit="percentunit",
               steps=((None, "red"), (0.99, "orange"), (0.999, "green")), width=6),
        figure("Lag", "Entries that the slowest reader is yet to be sent.", "max(unlost_producer_stream_lag_entries)",
               steps=((None, "green"), (1000, "orange"), (100_000, "red")), width=6),
        figure("Oldest event in memory", "Seconds; much more than a lease means that something is stuck.",
               "max(unlost_oldest_unsettled_seconds)", unit="s", steps=((None, "green"), (30, "orange"), (120, "red")),
               width=6),
        figure("Oldest unresolved letter", "Its age.", "max(unlost_dead_letters_oldest_unresolved_seconds)", unit="s",
               steps=((None, "green"), (1, "orange"), (3600, "red")), width=6),
        lines("Events", "Accepted and ended, a second. The lines lie on each other while nobody lags.",
              (f'sum(rate(unlost_producer_published_total{{outcome="accepted"}}[{RATE}]))', "accepted"),
              (f'sum by (outcome) (rate(unlost_events_total{{outcome!="duplicate"}}[{RATE}]))', "{{outcome}}"),
              unit="ops"),
        lines("From receipt to settlement", "Half, 99 of 100, and 999 of 1000 are faster than this.",
              *((f"histogram_quantile({q}, sum by (le) (rate(unlost_settle_seconds_bucket[{RATE}])))", f"p{q * 100:g}")
                for q in (0.5, 0.99, 0.999)), unit="s"),
        lines("Objective missed", "Share of events; 0.001 is what the objective allows.",
              ("unlost:objective_missed:ratio5m", "5 minutes"), ("unlost:objective_missed:ratio1h", "1 hour"),
              unit="percentunit"),
        lines("Producer", "Publish requests by outcome, a second.",
              (f"sum by (outcome) (rate(unlost_producer_published_total[{RATE}]))", "{{outcome}}"), unit="ops"),
    ])  # fmt: skip


def listener() -> models.Dashboard:
    """How one listener spends its time."""
    return _board("listener", "Listener", "Stages, retries, latencies, batches, standbys and leases.", [
        lines("Ended events", "A duplicate is an event that another listener had settled.",
              (f"sum by (outcome) (rate(unlost_events_total{SELECTED}[{RATE}]))", "{{outcome}}"), unit="ops",
              stacked=True),
        lines("Frames", "What came in from the source.",
              (f"sum by (instance) (rate(unlost_frames_received_total{SELECTED}[{RATE}]))", "{{instance}}"),
              unit="ops"),
        heatmap_of("From receipt to settlement", "Includes retries and time in which another owner held the event.",
                   "unlost_settle_seconds"),
        heatmap_of("Handler", "One attempt. Empty without a HANDLER.", "unlost_handler_seconds"),
        lines("Time in a stage", "Seconds for one batch, on average.",
              (_mean_by_stage("unlost_batch_seconds"), "{{stage}}"), unit="s"),
        lines("Batches", "Events in one, on average. They grow by themselves under load.",
              (_mean_by_stage("unlost_batch_events"), "{{stage}}")),
        lines("In memory", "Events held, claims owned, and events that wait for another owner.",
              (f"unlost_in_memory_events{SELECTED}", "in memory {{instance}}"),
              (f"unlost_claims_held{SELECTED}", "owned {{instance}}"),
              (f"unlost_standing_by{SELECTED}", "standing by {{instance}}")),
        lines("Bytes in memory", "Reading stops at the limits MAX_EVENTS and MAX_BYTES.",
              (f"unlost_in_memory_bytes{SELECTED}", "{{instance}}"), unit="bytes"),
        lines("Claims", "Answers a second. Held is usual with several listeners, taken over is not.",
              (f"sum by (answer) (rate(unlost_claims_total{SELECTED}[{RATE}]))", "{{answer}}"), unit="ops"),
        lines("Leases lost", "Leases whose owner could not renew them, a second.",
              (f"sum by (instance) (rate(unlost_leases_lost_total{SELECTED}[{RATE}]))", "{{instance}}"), unit="ops"),
        lines("Retries", "Failed attempts that were followed by another, a second.",
              (f"sum by (stage) (rate(unlost_retries_total{SELECTED}[{RATE}]))", "{{stage}}"), unit="ops"),
        lines("Handler runs", "Attempts a second, by route.",
              (f"sum by (route, result) (rate(unlost_handler_runs_total{SELECTED}[{RATE}]))", "{{route}} {{result}}"),
              unit="ops"),
        lines("Slow attempts", "99 of 100 attempts of each route are faster than this.",
              (f"histogram_quantile(0.99, sum by (route, le) (rate(unlost_handler_seconds_bucket{SELECTED}[{RATE}])))",
               "{{route}}"), unit="s"),
        lines("Failing attempts", "Share of each route's attempts that failed.",
              (f"{_runs(FAILED)} / {_runs(SELECTED)}", "{{route}}"),
              unit="percentunit"),
        lines("Attempts again", "A second: attempts that were not the first of their event.",
              (f"sum by (route) (rate(unlost_handler_retries_total{SELECTED}[{RATE}]))", "{{route}}"), unit="ops"),
        lines("Waiting for another attempt", "Events in memory between two attempts, or whose route pauses.",
              (f"sum by (route) (unlost_events_pausing{SELECTED})", "{{route}}")),
        lines("Event loop", "How late it turns; a blocking handler shows here.",
              (f"unlost_event_loop_lag_seconds{SELECTED}", "{{instance}}"), unit="s"),
        lines("Positions behind the cursor", "What would be read again after a crash; dedup makes that cheap.",
              (f"unlost_unsettled_positions{SELECTED}", "{{instance}}")),
    ])  # fmt: skip


def _runs(selected: str) -> str:
    return f"sum by (route) (rate(unlost_handler_runs_total{selected}[{RATE}]))"


def failures() -> models.Dashboard:
    """Failures, and what waits for a person."""
    return _board("failures", "Failures", "Which events share a fingerprint: dlq groups FILE.", [
        figure("Dead-letter file", "1: it cannot be written, and reading has stopped.",
               f"max(unlost_dead_letter_file_failed{SELECTED})", steps=NONE_IS_GOOD, width=5),
        figure("Damaged lines", "Lines of dead-letter files that are no letters.",
               f"sum(unlost_dead_letters_damaged{SELECTED})", steps=NONE_IS_GOOD, width=5),
        figure("Different failures", "Fingerprints of letters that wait, where most differ; dlq groups has them.",
               f"max(unlost_dead_letters_unresolved_groups{SELECTED})", steps=SOME_ARE_BAD, width=4),
        figure("Cursor writes failed", "Within an hour; the next write makes up for it.",
               f"round(sum(increase(unlost_cursor_save_failures_total{SELECTED}[1h])))", steps=SOME_ARE_BAD, width=5),
        figure("Unaccounted", "Approximate, of the last hour; unlost audit gives the exact number.",
               "round(unlost:unaccounted:increase1h)", steps=((None, "green"), (10, "orange"), (1000, "red")), width=5),
        bars("Unresolved letters by reason", "What waits for a replay.",
             f"sum by (reason) (unlost_dead_letters_unresolved{SELECTED})", "{{reason}}", width=6),
        bars("Largest failures", "Waiting letters by fingerprint; dlq groups shows what failed.",
             f"topk(10, sum by (fingerprint) (unlost_dead_letters_unresolved_by_fingerprint{SELECTED}))",
             "{{fingerprint}}", width=6),
        bars("What became of letters", "Resolved ones are rows. Quarantined ones failed at too many replays.",
             f"sum by (status) (unlost_dead_letters{SELECTED})", "{{status}}", width=6),
        bars("Room on the dead-letter disk", "When it is full, reading stops and nothing is dropped.",
             f"min by (instance) (unlost_dead_letter_disk_free_bytes{SELECTED})", "{{instance}}", unit="bytes",
             width=6),
        lines("Letters written", "A second, by reason.",
              (f"sum by (reason) (rate(unlost_letters_total{SELECTED}[{RATE}]))", "{{reason}}"), unit="ops"),
        lines("Age of the oldest unresolved letter", "Falls to 0 with a replay that resolves all.",
              (f"unlost_dead_letters_oldest_unresolved_seconds{SELECTED}", "{{instance}}"), unit="s"),
        lines("Failed attempts", "A second, by stage and by whether another attempt makes sense.",
              (f"sum by (stage, error_class) (rate(unlost_attempts_failed_total{SELECTED}[{RATE}]))",
               "{{stage}} {{error_class}}"), unit="ops"),
        lines("Source", "Connections that ended, and places in the stream that were gone, within 5 minutes.",
              (f"increase(unlost_source_disconnects_total{SELECTED}[5m])", "ended {{source}} {{instance}}"),
              (f"sum by (source, how) (increase(unlost_source_gaps_total{SELECTED}[5m]))", "{{how}} {{source}}")),
        lines("Lag by source", "The age of the oldest event of each source that is not a row or a letter yet.",
              (f"max by (source) (unlost_source_lag_seconds{SELECTED})", "{{source}}"), unit="s"),
        lines("Degraded", "Share of the time that was spent without Redis.",
              (f"rate(unlost_degraded_seconds_total{SELECTED}[{RATE}])", "{{instance}}"), unit="percentunit"),
        lines("Reading paused", "Share of the time; longer pauses show when they end.",
              (f"rate(unlost_reading_paused_seconds_total{SELECTED}[{RATE}])", "{{instance}}"), unit="percentunit"),
        lines("Replays", "What they made of letters: resolved are rows, quarantined wait for a person.",
              (f"sum by (status) (unlost_dead_letters{REPLAYED})", "{{status}}")),
        states("Breakers", "Open while a server is taken for gone.", f"unlost_breaker_open{SELECTED}", says=BREAKER,
               legend="{{name}} {{instance}}"),
    ])  # fmt: skip


def drill() -> models.Dashboard:
    """The effects of a drill on the system, second by second."""
    marks = [
        _mark("Drill", "blue", "unlost_drill_running == 1", of="drill"),
        _mark("Damage", "red", "unlost_drill_damage == 1", of="drill"),
        _mark("Process started", "purple", "time() - process_start_time_seconds < 10", of="instance"),
    ]
    return _board("drill", "Drill", "Marks show when a drill begins and ends, and for how long it does damage.", [
        figure("Breakers", "Closed: the server is there.", "max by (name) (unlost_breaker_open)", says=BREAKER,
               legend="{{name}}", width=8),
        figure("Claims", "Degraded: through PostgreSQL.", "unlost_degraded", says=MODE, legend="{{instance}}", width=8),
        figure("May start events", "No: a peer is not met.", "unlost_claiming_open",
               says={"0": ("no", "red"), "1": ("yes", "green")}, legend="{{instance}}", width=8),
        lines("Published and stored", "The gap after the damage is the time to first progress.",
              ('sum(rate(unlost_producer_published_total{outcome="accepted"}[15s]))', "accepted"),
              ('sum by (instance) (rate(unlost_events_total{outcome="stored"}[15s]))', "stored by {{instance}}"),
              unit="ops", width=24),
        lines("Yet to be settled", "In memory, and yet to be sent to the slowest reader.",
              ("sum(unlost_in_memory_events)", "in memory"), ("max(unlost_producer_stream_lag_entries)", "lag")),
        lines("Taken over, lost, buried", "Within the last minute.",
              ('sum(increase(unlost_claims_total{answer="taken_over"}[1m]))', "taken over"),
              ("sum(increase(unlost_leases_lost_total[1m]))", "leases lost"),
              ("sum(increase(unlost_letters_total[1m]))", "buried")),
        lines("Slowest events", "99 of 100 are faster.",
              ("histogram_quantile(0.99, sum by (le) (rate(unlost_settle_seconds_bucket[15s])))", "p99"), unit="s"),
        states("Processes", "Those that answer Prometheus.", "up", says=UP, legend="{{instance}}"),
    ], marks=marks, since="now-15m")  # fmt: skip


def runbook(text: str) -> models.Dashboard:
    """The runbook itself, so that people on call need no other page."""
    return _board("runbook", "Runbook", "What to look at and what to type, by alert.", [page("Runbook", text)])


def _mean_by_stage(histogram: str) -> str:
    sums, counts = (f"sum by (stage) (rate({histogram}_{end}{SELECTED}[{RATE}]))" for end in ("sum", "count"))
    return f"{sums} / {counts}"


def _board(
    uid: str, title: str, about: str, panels: Iterable[Panel], *,
    marks: Iterable[dashboard.AnnotationQuery] = (), since: str = "now-1h",
) -> models.Dashboard:  # fmt: skip
    board = (
        dashboard.Dashboard(f"Unlost: {title}").uid(f"unlost-{uid}").description(about).tags(["unlost"])
        .time(since, "now").refresh("5s").timezone("browser").readonly()
        .tooltip(models.DashboardCursorSync.CROSSHAIR).annotations(list(marks))
        .link(dashboard.DashboardLink("Unlost").type(models.DashboardLinkType.DASHBOARDS).tags(["unlost"])
              .keep_time(True).include_vars(True))
        .link(dashboard.DashboardLink("Runbook").type(models.DashboardLinkType.LINK).url(RUNBOOK))
    )  # fmt: skip
    if uid in ("listener", "failures"):
        board.with_variable(
            dashboard.QueryVariable("instance").label("Listener").datasource(SOURCE).multi(True).include_all(True)
            .query("label_values(unlost_claims_held, instance)").refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        )  # fmt: skip
    for panel in panels:
        board.with_panel(panel)
    return board.build()


class _TitledQuery(models.AnnotationQuery):
    """An annotation from Prometheus, with two fields that the common schema lacks: step and the title of a series."""

    words = ""

    def to_json(self) -> dict[str, object]:
        """Encode it as Grafana's JSON."""
        return {**super().to_json(), "step": "5s", "titleFormat": self.words}


class _Mark(dashboard.AnnotationQuery):
    def __init__(self, words: str) -> None:
        super().__init__()
        self._words = words

    def build(self) -> models.AnnotationQuery:
        query = _TitledQuery(**vars(super().build()))
        query.words = self._words
        return query


def _mark(name: str, color: str, expression: str, *, of: str) -> dashboard.AnnotationQuery:
    """Make a mark; samples at most one step apart form a span."""
    mark = _Mark(f"{name}: {{{{{of}}}}}")
    return mark.name(name).datasource(SOURCE).enable(True).icon_color(color).expr(expression)
