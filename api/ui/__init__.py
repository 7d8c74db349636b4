"""Generative UI: the components that agents show in chat pages, bundled from the application's sources."""
