"""Jobs on a Ray cluster: what travels, and the Jobs API."""
