"""What providers send, byte for byte: one module a provider, and all of them in :data:`tests.replays.all.REPLAYS`."""
