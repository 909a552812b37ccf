"""The worker's metrics: what is counted as runs and calls end, and what is read at each scrape."""
