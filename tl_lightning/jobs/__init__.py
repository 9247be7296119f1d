"""What is done with a configuration or a run: one file a verb."""
