"""Products about the readers' traffic: the requests themselves, and what of them counts as reading."""
