"""Source-aligned products of MediaWiki: its event streams, as they are."""
