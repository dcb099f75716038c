"""The platform's own facts as products: what its tables need and what maintenance did to them."""
