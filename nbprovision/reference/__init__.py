"""The descriptions of the tool's language, made from the tasks' definitions: pages, help, and a JSON Schema."""
