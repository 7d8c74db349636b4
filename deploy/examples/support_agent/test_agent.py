"""What the support agent does, with a model that follows a script; and once through a server, as customers meet it."""

import re

from agent import make_agent
from langchain_core.messages import HumanMessage

from threadlog.testing import LocalServer, Resume, ScriptedChatModel, call, given

MONEY_BACK = {"messages": [HumanMessage("I want my money back for A-1042.")]}


def test_an_order_is_looked_up() -> None:
    model = ScriptedChatModel([call("lookup_order", order_id="A-1042"), "It was lost, I am sorry."])
    given(make_agent(model)).when({"messages": [HumanMessage("Where is A-1042?")]}).then(
        tool_calls=[call("lookup_order", order_id="A-1042")],
        messages=[..., re.compile("lost in transit"), "It was lost, I am sorry."],
        interrupts=[],
    )
    assert "refund_order" in model.tools


def test_a_refund_waits_for_a_colleague() -> None:
    model = ScriptedChatModel([call("refund_order", order_id="A-1042", amount_eur=89), "Done."])
    asked = given(make_agent(model)).when(MONEY_BACK)
    asked.then(interrupts=[{"action_requests": [{"name": "refund_order", "args": {"amount_eur": 89}}]}])
    approved = asked.when(Resume({"decisions": [{"type": "approve"}]}))
    approved.then(messages=[re.compile("EUR 89.00 for A-1042 will be back"), "Done."], interrupts=[], next=[])


def test_a_refund_that_is_rejected_is_not_paid() -> None:
    model = ScriptedChatModel([call("refund_order", order_id="A-1042", amount_eur=89), "I am sorry."])
    asked = given(make_agent(model)).when(MONEY_BACK)
    rejected = asked.when(Resume({"decisions": [{"type": "reject", "message": "not yet"}]}))
    rejected.then(messages=[re.compile("not yet"), "I am sorry."])


def test_a_customer_who_comes_back_next_week(threadlog_server: LocalServer) -> None:
    client = threadlog_server.sync_client
    thread = client.threads.create()
    client.runs.wait(thread["thread_id"], "support", input=MONEY_BACK)
    threadlog_server.advance(days=7)
    (asked,) = client.threads.get(thread["thread_id"])["interrupts"].values()
    assert asked[0]["value"]["action_requests"][0]["name"] == "refund_order"
    approve = {"resume": {"decisions": [{"type": "approve"}]}}
    answer = client.runs.wait(thread["thread_id"], "support", command=approve)
    assert answer["messages"][-1]["content"].startswith("Done: EUR 89.00")
    assert [event["type"] for event in threadlog_server.events(thread["thread_id"])].count("run.created") == 2
