"""Other protocols by which agents are called: MCP and A2A, both JSON-RPC over HTTP."""
