"""The tasks backend: one list of tasks behind two doors, REST at /tasks and MCP at /mcp."""
