"""The whole on a real Docker Engine: what `docker compose up` gives a user, scaled, broken, stopped and looked into."""
