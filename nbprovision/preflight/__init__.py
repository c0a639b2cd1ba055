"""What can be known, where a lifecycle script is rendered, of a run that will happen on another machine."""
