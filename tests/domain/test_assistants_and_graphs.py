"""Assistants and their versions; graphs and their digests."""

from __future__ import annotations

from tests.domain.scenario import Scenario, T, given
from threadlog.engine.domain.commands import (
    CreateAssistant,
    CreateThread,
    DeleteAssistant,
    RegisterGraph,
    SetLatestAssistant,
    UpdateAssistant,
)
from threadlog.engine.domain.events import (
    AssistantCreated,
    AssistantDeleted,
    AssistantLatestSet,
    AssistantUpdated,
    CommandRepeated,
    GraphRegistered,
    ThreadCreated,
)

A = "00000000-0000-4000-8000-0000000000bb"
CREATED = AssistantCreated(assistant_id=A, graph_id="g")


def assistant(*events: AssistantCreated | AssistantUpdated | AssistantDeleted) -> Scenario:
    return given(*events, key=A)


def test_an_assistant_is_created_with_all_it_is_given() -> None:
    said = {"name": "Ann", "description": "d", "config": {"tags": []}, "context": {"k": 1}, "metadata": {"m": 1}}
    assistant().when(CreateAssistant(assistant_id=A, graph_id="g", **said)).then(  # type: ignore[arg-type]
        AssistantCreated(assistant_id=A, graph_id="g", **said)  # type: ignore[arg-type]
    )


def test_an_existing_assistant_is_a_conflict_or_left_untouched() -> None:
    assistant(CREATED).when(CreateAssistant(assistant_id=A, graph_id="h")).then_rejected("conflict", A)
    assistant(CREATED).when(CreateAssistant(assistant_id=A, graph_id="h", if_exists="do_nothing")).then()


def test_every_update_makes_the_next_version() -> None:
    story = assistant(CREATED).when(UpdateAssistant(assistant_id=A))
    story.then(AssistantUpdated(assistant_id=A, version=2))
    story.when(SetLatestAssistant(assistant_id=A, version=1)).then(AssistantLatestSet(assistant_id=A, version=1))
    story.when(UpdateAssistant(assistant_id=A, name="n", metadata={"m": 1})).then(
        AssistantUpdated(assistant_id=A, version=3, name="n", metadata={"m": 1})
    )


def test_a_repeated_update_makes_no_version() -> None:
    story = assistant(CREATED).when(UpdateAssistant(assistant_id=A), id="x")
    story.when(UpdateAssistant(assistant_id=A), id="x").then(CommandRepeated())


def test_only_existing_versions_can_be_the_latest() -> None:
    for version in (0, 2, 99):
        assistant(CREATED).when(SetLatestAssistant(assistant_id=A, version=version)).then_rejected(
            "not_found", f"Version {version} not found for assistant {A}"
        )


def test_an_unknown_assistant_is_not_found() -> None:
    for command in (UpdateAssistant(assistant_id=A), SetLatestAssistant(assistant_id=A, version=1),
                    DeleteAssistant(assistant_id=A)):  # fmt: skip
        for story in (assistant(), assistant(CREATED, AssistantDeleted(assistant_id=A))):
            story.when(command).then_rejected("not_found", f"Assistant with ID {A} not found")


def test_a_deleted_assistant_starts_again_at_version_one() -> None:
    story = assistant(CREATED, AssistantUpdated(assistant_id=A, version=2))
    story.when(DeleteAssistant(assistant_id=A)).then(AssistantDeleted(assistant_id=A))
    story.when(CreateAssistant(assistant_id=A, graph_id="g")).then(CREATED)
    story.when(UpdateAssistant(assistant_id=A)).then(AssistantUpdated(assistant_id=A, version=2))


def test_a_thread_and_an_assistant_may_have_the_same_id() -> None:
    story = given(key=T).when(CreateAssistant(assistant_id=T, graph_id="g"))
    story.when(CreateThread(thread_id=T)).then(ThreadCreated(thread_id=T))
    story.when(UpdateAssistant(assistant_id=T)).then(AssistantUpdated(assistant_id=T, version=2))
    story.when(CreateThread(thread_id=T)).then_rejected("conflict", T)


def test_a_graph_is_registered_when_its_digest_is_new() -> None:
    story = given(key="graph:g").when(RegisterGraph(graph_id="g", digest="1", info={"a": 1}))
    story.then(GraphRegistered(graph_id="g", digest="1", info={"a": 1}))
    story.when(RegisterGraph(graph_id="g", digest="1", info={"a": 1})).then()
    story.when(RegisterGraph(graph_id="g", digest="2", info={})).then(
        GraphRegistered(graph_id="g", digest="2", info={})
    )
