"""Event streaming: the thread-centric protocol of `langchain-protocol` (contract 2.7), made of the log's frames."""
