"""Products for those who keep wikis safe: reverts, edit wars, abuse."""
