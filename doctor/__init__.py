"""``python -m fleet doctor``: what is wrong with a fleet, in one go: before it runs, while it runs, when it is broken.

It looks at this machine from outside: at files, ports, processes and what the gateways tell. It changes nothing.
"""
