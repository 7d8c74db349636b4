"""Authentication and authorization: the application's `langgraph_sdk.Auth` in front of every handler."""
