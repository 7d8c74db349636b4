"""What commands and events are, for people and programs: meanings of fields, JSON Schemas, the AsyncAPI document."""
