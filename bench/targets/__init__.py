"""What can be measured: each file is one target, how it is set up, started and recognised as ready."""
