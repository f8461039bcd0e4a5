"""The migration files."""
