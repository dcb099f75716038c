"""Products about editing activity: how much is edited, by whom, and what of it lasts."""
