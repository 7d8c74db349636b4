"""The resource /store: items by namespace and key, searches, namespaces."""
