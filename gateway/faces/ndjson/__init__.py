"""The seed's API: one JSON object a line."""
