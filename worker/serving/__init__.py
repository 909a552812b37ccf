"""Runs requests and reports to the fleet. Imports services, wire and contract."""
