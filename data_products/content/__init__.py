"""Products about what pages say and said: every revision with its text, and the dumps that are published of it."""
