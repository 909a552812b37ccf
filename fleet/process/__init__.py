"""What every process needs of its operating system and event loop. Imports nothing of the project but its logs."""
