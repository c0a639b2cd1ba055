"""The words of the project: tasks, changes, results, errors. Knows nothing of any other room."""
