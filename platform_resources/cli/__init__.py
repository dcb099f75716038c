"""The command line `sdp`. Thin: it reads arguments, calls the platform, prints a table or one JSON document."""
