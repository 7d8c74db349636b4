"""Queries of the read models, one module per resource."""
