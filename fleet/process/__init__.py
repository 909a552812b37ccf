"""What every process needs of its operating system and its event loop. Imports ``fleet.logs`` at most."""
