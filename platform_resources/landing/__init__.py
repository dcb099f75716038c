"""What comes in and is no event: files, dumps, tables of databases, pages of an API."""
