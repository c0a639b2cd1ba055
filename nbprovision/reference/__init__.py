"""What the tool tells of its own language, all of it from the tasks' definitions: pages, help, and a JSON Schema."""
