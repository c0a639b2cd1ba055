"""From a YAML file to typed tasks that know their line; knows no task by name, it is handed them."""
