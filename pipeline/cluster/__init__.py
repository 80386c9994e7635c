"""The Ray cluster: its nodes, what every stage gets of them, checks before a job."""
