"""Products about the movement: what it was granted, where, and what came of it on the wikis."""
