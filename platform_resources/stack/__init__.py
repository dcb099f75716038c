"""Real components on one machine, one module each: how it is installed, started, checked and stopped."""
