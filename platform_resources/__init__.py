"""What the platform gives to domain teams: `data_product` declares a Python transform, `source` loads a product."""
