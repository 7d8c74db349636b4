"""A customer-support agent: four tools, one of which needs a human's approval.

The model is a scripted one that costs nothing and needs no network. With OPENAI_API_KEY or ANTHROPIC_API_KEY set the
agent talks to the real thing (SUPPORT_AGENT_MODEL chooses which, as in `openai:gpt-5-mini`).
"""

import os
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel
from langgraph.graph.state import CompiledStateGraph
from scripted_model import support_desk
from tools import check_warehouse, lookup_order, refund_order, search_policies

from threadlog.testing import ScriptedChatModel

INSTRUCTIONS = """You are the support desk of a small web shop. Be brief, warm and exact.
Look an order up before you talk about it. Look policies up before you promise anything. Use one tool at a time.
Refund with the tool refund_order only when the customer asks for their money back; a colleague approves it.
Asked for a stock audit, check the warehouses Berlin, Lyon, Porto, Turin, Vienna with check_warehouse, one by one,
and then report."""


def _model() -> str | BaseChatModel:
    if named := os.environ.get("SUPPORT_AGENT_MODEL"):
        return init_chat_model(named)
    if os.environ.get("OPENAI_API_KEY"):
        return init_chat_model("openai:gpt-5-mini")
    if os.environ.get("ANTHROPIC_API_KEY"):
        return init_chat_model("anthropic:claude-haiku-4-5")
    return ScriptedChatModel(support_desk, seconds_per_token=0.03)


def make_agent(model: str | BaseChatModel) -> CompiledStateGraph[Any, Any, Any, Any]:
    """The agent around a model; tests bring their own."""
    return create_agent(
        model,
        tools=[lookup_order, search_policies, refund_order, check_warehouse],
        system_prompt=INSTRUCTIONS,
        middleware=[
            HumanInTheLoopMiddleware(
                interrupt_on={"refund_order": {"allowed_decisions": ["approve", "edit", "reject"]}},
                description_prefix="A refund needs your approval",
            )
        ],
    )


agent = make_agent(_model())
