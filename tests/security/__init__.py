"""What anyone may send to the fleet, and what must not come of it for anyone else.

``attacks`` holds what is sent, by who sends it; ``arena`` a fleet to send it to and what is watched meanwhile.
"""
