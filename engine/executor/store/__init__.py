"""The store of graphs: LangGraph's `BaseStore` on the log and the read models."""
