"""AgentChat's agents and teams, run so that a reply is written once, cancelling ends everything, and usage is counted.

Imports the wire, the contract and the models' clients through the contract only; services use it.
"""
