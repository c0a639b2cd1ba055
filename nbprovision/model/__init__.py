"""The words of the project: tasks, changes, results, errors. Imports no other folder."""
