"""What can be measured. Each file is one target: how to set it up, start it and see that it is ready."""
