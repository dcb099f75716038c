"""Alert routes: how a message reaches the owner of a product. What is worth an alert is decided in sensors."""
