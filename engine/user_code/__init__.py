"""The application: its `langgraph.json`, its environment, and how its code reaches this server."""
