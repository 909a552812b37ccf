"""What nobody may do to anybody else: unknown senders, clients, models and members, each in a file of its own."""
