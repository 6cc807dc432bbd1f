"""Reports on agents, and the tables of the documentation."""
