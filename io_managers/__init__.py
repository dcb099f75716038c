"""How a value of an asset is stored and loaded."""
