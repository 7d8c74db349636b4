"""What the key of a request decides, and how long aggregates remember the commands of such requests."""

from __future__ import annotations

from tests.domain.scenario import T, at, given, idle
from threadlog.engine.domain import decider
from threadlog.engine.domain.commands import AnswerRequest, BeginRequest, UpdateThread
from threadlog.engine.domain.events import CommandRepeated, RequestAnswered, RequestBegun
from threadlog.engine.domain.keyed_request import keyed_command_id, keyed_expiry

R = "0123456789abcdef"
KEY = f"request:{R}"


def begin(fingerprint: str = "f", expires_at: str = at(30)) -> BeginRequest:
    return BeginRequest(request_id=R, fingerprint=fingerprint, begun_at=at(0), expires_at=expires_at)


def begun(fingerprint: str = "f", expires_at: str = at(30)) -> RequestBegun:
    return RequestBegun(request_id=R, fingerprint=fingerprint, begun_at=at(0), expires_at=expires_at)


def test_a_key_belongs_to_the_first_request() -> None:
    request = given(key=KEY).when(begin()).then(begun())
    request.when(begin()).then()
    request.when(begin("other")).then_rejected("invalid", "another request")


def test_the_first_answer_counts() -> None:
    answer = AnswerRequest(
        request_id=R, fingerprint="f", begun_at=at(0), status=200, headers={"Location": "/x"}, body="{}"
    )
    request = (
        given(begun(), key=KEY)
        .when(AnswerRequest(request_id=R, fingerprint="other", begun_at=at(0), status=200))
        .then()
    )
    request.when(answer).then(RequestAnswered(request_id=R, status=200, headers={"Location": "/x"}, body="{}"))
    request.when(AnswerRequest(request_id=R, fingerprint="f", begun_at=at(0), status=404)).then()


def test_what_is_sent_again_after_the_key_has_expired_is_not_of_its_next_use() -> None:
    used = given(begun(expires_at=at(5)), key=KEY)
    used.when(begin(expires_at=at(5)), at_=at(6)).then()
    anew = given(
        begun(expires_at=at(5)), RequestBegun(request_id=R, fingerprint="f", begun_at=at(7), expires_at=at(30)), key=KEY
    )
    anew.when(AnswerRequest(request_id=R, fingerprint="f", begun_at=at(0), status=200), at_=at(8)).then()
    answer = AnswerRequest(request_id=R, fingerprint="f", begun_at=at(7), status=200)
    anew.when(answer, at_=at(8)).then(RequestAnswered(request_id=R, status=200))


def test_an_answer_to_a_request_that_never_began_is_none() -> None:
    given(key=KEY).when(AnswerRequest(request_id=R, fingerprint="f", begun_at=at(0), status=200)).then()


def test_an_expired_key_is_free_again_and_remembers_nothing() -> None:
    used = given(begun(), RequestAnswered(request_id=R, status=200), key=KEY)
    used.when(begin("other", at(55)), at_=at(31)).then(begun("other", at(55)))
    anew = given(key=KEY).when(begin("other", at(55)), id="c1", at_=at(31))
    assert used.states == anew.states, "whether the old state was still there makes no difference"


def test_a_sender_that_repeats_itself_changes_nothing() -> None:
    given(key=KEY).when(begin(), id="a").when(begin(), id="a").then(CommandRepeated())


def test_the_commands_of_keyed_requests_are_remembered_longer_than_others() -> None:
    ids = [keyed_command_id(f"r{n}", 9, "thread.update") for n in range(decider.RECENT_KEYED)]
    thread = given(*idle())
    for id in ids:
        thread.when(UpdateThread(thread_id=T), id=id).when(UpdateThread(thread_id=T))
    for n in range(2 * decider.RECENT_COMMANDS):
        thread.when(UpdateThread(thread_id=T), id=f"other{n}")
    for id in (ids[0], ids[-1], "other9"):
        thread.when(UpdateThread(thread_id=T), id=id).then(CommandRepeated())
    assert "other7" not in thread.thread.recent, "of the others as many as before"
    thread.when(UpdateThread(thread_id=T), id=keyed_command_id("one more", 9, "thread.update"))
    assert ids[0] not in thread.thread.recent and ids[1] in thread.thread.recent


def test_the_id_of_a_command_says_how_long_it_counts() -> None:
    assert keyed_expiry(keyed_command_id(R, 1_790_000_000, "x")) == 1_790_000_000
    assert [keyed_expiry(id) for id in ("c1", "key:", "key:x:y", "key:-1:", "key:99999999999999:r")] == [None] * 5
