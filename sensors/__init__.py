"""What wakes the platform: streams, automation, alerts."""
