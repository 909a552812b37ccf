"""The runs of this worker: taking requests, running them, telling the fleet. Imports services."""
