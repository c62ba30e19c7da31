"""The database: tables, column types, engines of both dialects, schema migrations."""
