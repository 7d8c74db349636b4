"""What happened: past tense, immutable, JSON values only. One command is decided into one list of these.

On the wire an event is a flat object `{"type": …, …fields}`; fields that equal their default are left out. The
catalogue with every field's meaning is docs/reference/events.md; after a change another `schema_version`, then
`python -m tests.domain.write_catalogue`.
"""

from __future__ import annotations

from threadlog.engine.domain.events.assistant import (
    ASSISTANT_EVENTS,
    AssistantCreated,
    AssistantDeleted,
    AssistantLatestSet,
    AssistantUpdated,
)
from threadlog.engine.domain.events.base import (
    ANSWERS,
    CommandRejected,
    CommandRepeated,
    Event,
    Json,
    JsonObject,
    ReportFenced,
    ThreadStatus,
)
from threadlog.engine.domain.events.checkpoint import (
    CHECKPOINT_EVENTS,
    CheckpointSaved,
    CheckpointsDeleted,
    StateMigrated,
    StateUpdated,
    StateUpdateFailed,
    StateUpdateRequested,
    TasksPlanned,
    WritesSaved,
)
from threadlog.engine.domain.events.cron import (
    CRON_EVENTS,
    CronCreated,
    CronDeleted,
    CronEnded,
    CronFired,
    CronRunCreated,
    CronRunRefused,
    CronUpdated,
)
from threadlog.engine.domain.events.graph import GRAPH_EVENTS, GraphRegistered
from threadlog.engine.domain.events.history import HISTORY_EVENTS, HistoryClosed, HistoryImported
from threadlog.engine.domain.events.request import REQUEST_EVENTS, RequestAnswered, RequestBegun
from threadlog.engine.domain.events.run import (
    RUN_EVENTS,
    RunCreated,
    RunDeleted,
    RunFailed,
    RunInterrupted,
    RunLeaseExpired,
    RunReady,
    RunRefused,
    RunReleased,
    RunRolledBack,
    RunScheduled,
    RunStarted,
    RunStopped,
    RunSucceeded,
    RunTimedOut,
)
from threadlog.engine.domain.events.store import (
    STORE_EVENTS,
    ItemDeleted,
    ItemPut,
    ItemsExpired,
    ItemsPut,
    ItemsTouched,
)
from threadlog.engine.domain.events.thread import (
    THREAD_EVENTS,
    ThreadCreated,
    ThreadDeleted,
    ThreadExpired,
    ThreadPruned,
    ThreadStatusChanged,
    ThreadUpdated,
)
from threadlog.engine.domain.events.webhook import (
    WEBHOOK_EVENTS,
    WebhookDead,
    WebhookDelivered,
    WebhookFailed,
    WebhookRequested,
)

EVENTS: dict[str, type[Event]] = {
    message.type: message
    for message in (
        *ANSWERS,
        *THREAD_EVENTS,
        *RUN_EVENTS,
        *CHECKPOINT_EVENTS,
        *WEBHOOK_EVENTS,
        *ASSISTANT_EVENTS,
        *GRAPH_EVENTS,
        *STORE_EVENTS,
        *CRON_EVENTS,
        *REQUEST_EVENTS,
        *HISTORY_EVENTS,
    )
}

__all__ = [
    "ANSWERS",
    "ASSISTANT_EVENTS",
    "CHECKPOINT_EVENTS",
    "CRON_EVENTS",
    "EVENTS",
    "GRAPH_EVENTS",
    "HISTORY_EVENTS",
    "REQUEST_EVENTS",
    "RUN_EVENTS",
    "STORE_EVENTS",
    "THREAD_EVENTS",
    "WEBHOOK_EVENTS",
    "AssistantCreated",
    "AssistantDeleted",
    "AssistantLatestSet",
    "AssistantUpdated",
    "CheckpointSaved",
    "CheckpointsDeleted",
    "CommandRejected",
    "CommandRepeated",
    "CronCreated",
    "CronDeleted",
    "CronEnded",
    "CronFired",
    "CronRunCreated",
    "CronRunRefused",
    "CronUpdated",
    "Event",
    "GraphRegistered",
    "HistoryClosed",
    "HistoryImported",
    "ItemDeleted",
    "ItemPut",
    "ItemsExpired",
    "ItemsPut",
    "ItemsTouched",
    "Json",
    "JsonObject",
    "ReportFenced",
    "RequestAnswered",
    "RequestBegun",
    "RunCreated",
    "RunDeleted",
    "RunFailed",
    "RunInterrupted",
    "RunLeaseExpired",
    "RunReady",
    "RunRefused",
    "RunReleased",
    "RunRolledBack",
    "RunScheduled",
    "RunStarted",
    "RunStopped",
    "RunSucceeded",
    "RunTimedOut",
    "StateMigrated",
    "StateUpdateFailed",
    "StateUpdateRequested",
    "StateUpdated",
    "TasksPlanned",
    "ThreadCreated",
    "ThreadDeleted",
    "ThreadExpired",
    "ThreadPruned",
    "ThreadStatus",
    "ThreadStatusChanged",
    "ThreadUpdated",
    "WebhookDead",
    "WebhookDelivered",
    "WebhookFailed",
    "WebhookRequested",
    "WritesSaved",
]
