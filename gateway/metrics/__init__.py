"""The gateway's metrics: what is counted as requests end, and what is read at each scrape."""
