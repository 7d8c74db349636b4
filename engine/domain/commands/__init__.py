"""What clients, executors and timers ask of an aggregate: imperative, plain data, decided exactly once.

A command travels in an envelope (see `engine.log.records`) that carries its id (the idempotency key), the aggregate's
key and the time `at` (ISO-8601, microseconds, UTC). Bodies hold JSON values only. Ids and times are made by the sender:
the decider has no clock.
"""

from __future__ import annotations

from threadlog.engine.domain.commands.assistant import (
    ASSISTANT_COMMANDS,
    CreateAssistant,
    DeleteAssistant,
    SetLatestAssistant,
    UpdateAssistant,
)
from threadlog.engine.domain.commands.base import CancelAction, Command, Json, JsonObject, MultitaskStrategy
from threadlog.engine.domain.commands.cron import (
    CRON_COMMANDS,
    CreateCron,
    DeleteCron,
    FireCron,
    OnRunCompleted,
    RecordCronRun,
    UpdateCron,
)
from threadlog.engine.domain.commands.graph import GRAPH_COMMANDS, RegisterGraph
from threadlog.engine.domain.commands.history import HISTORY_COMMANDS, CloseImport, ImportHistory
from threadlog.engine.domain.commands.request import REQUEST_COMMANDS, AnswerRequest, BeginRequest
from threadlog.engine.domain.commands.run import (
    RUN_COMMANDS,
    CancelRun,
    CreateRun,
    DeleteRun,
    ExpireLease,
    ReportRun,
    RunDue,
    UpdateState,
)
from threadlog.engine.domain.commands.store import STORE_COMMANDS, ExpireItems, TouchItems, WriteItems
from threadlog.engine.domain.commands.thread import (
    THREAD_COMMANDS,
    CreateThread,
    DeleteThread,
    ExpireThread,
    ImportCheckpoints,
    PruneThread,
    UpdateThread,
)
from threadlog.engine.domain.commands.webhook import WEBHOOK_COMMANDS, ReportWebhook

COMMANDS: dict[str, type[Command]] = {
    message.type: message
    for message in (
        *THREAD_COMMANDS,
        *RUN_COMMANDS,
        *WEBHOOK_COMMANDS,
        *ASSISTANT_COMMANDS,
        *GRAPH_COMMANDS,
        *STORE_COMMANDS,
        *CRON_COMMANDS,
        *REQUEST_COMMANDS,
        *HISTORY_COMMANDS,
    )
}

__all__ = [
    "ASSISTANT_COMMANDS",
    "COMMANDS",
    "CRON_COMMANDS",
    "GRAPH_COMMANDS",
    "HISTORY_COMMANDS",
    "REQUEST_COMMANDS",
    "RUN_COMMANDS",
    "STORE_COMMANDS",
    "THREAD_COMMANDS",
    "WEBHOOK_COMMANDS",
    "AnswerRequest",
    "BeginRequest",
    "CancelAction",
    "CancelRun",
    "CloseImport",
    "Command",
    "CreateAssistant",
    "CreateCron",
    "CreateRun",
    "CreateThread",
    "DeleteAssistant",
    "DeleteCron",
    "DeleteRun",
    "DeleteThread",
    "ExpireItems",
    "ExpireLease",
    "ExpireThread",
    "FireCron",
    "ImportCheckpoints",
    "ImportHistory",
    "Json",
    "JsonObject",
    "MultitaskStrategy",
    "OnRunCompleted",
    "PruneThread",
    "RecordCronRun",
    "RegisterGraph",
    "ReportRun",
    "ReportWebhook",
    "RunDue",
    "SetLatestAssistant",
    "TouchItems",
    "UpdateAssistant",
    "UpdateCron",
    "UpdateState",
    "UpdateThread",
    "WriteItems",
]
