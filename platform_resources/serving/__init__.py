"""What leaves the platform for others: files published in public places. APIs and serving stores come here too."""
