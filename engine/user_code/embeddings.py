"""The application's embeddings: what `store.index.embed` names, a function of its own or a LangChain model."""

from __future__ import annotations

from typing import Any

from threadlog.engine.user_code.importing import extend_sys_path, import_source
from threadlog.engine.user_code.langgraph_json import LanggraphJson
from threadlog.engine.user_code.store_config import IndexConfig


def load_embeddings(app: LanggraphJson, index: IndexConfig) -> Any:
    """A function of texts, synchronous or not, or an `Embeddings`. Raises whatever the application's module raises."""
    if index.source is None:
        try:
            from langchain.embeddings import init_embeddings
        except ImportError:
            raise ImportError(
                f'"{index.embed}" is made by LangChain, which is not installed: pip install langchain and the '
                "provider's package (langchain-openai, …)"
            ) from None
        return init_embeddings(index.embed)
    extend_sys_path(app)
    return getattr(import_source(index.source, is_file=index.is_file), index.attribute)
