"""Describe the schema of a database as text: tables, columns, constraints, indexes and types, in a fixed order."""

from __future__ import annotations

from psycopg import AsyncConnection

_TYPES = """
    SELECT format(E'CREATE TYPE %s AS ENUM (%s);', t.typname,
        string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder))
    FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid
    WHERE t.typnamespace = 'public'::regnamespace GROUP BY t.typname ORDER BY t.typname
"""
_COLUMNS = """
    SELECT c.relname, format('    %s %s%s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END,
        CASE WHEN a.attgenerated = 's' THEN ' GENERATED ALWAYS AS (' || pg_get_expr(d.adbin, d.adrelid) || ') STORED'
            WHEN d.adbin IS NOT NULL THEN ' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid) ELSE '' END,
        CASE WHEN a.attidentity = 'a' THEN ' GENERATED ALWAYS AS IDENTITY' ELSE '' END)
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY c.relname, a.attnum
"""
# NOT NULL stands at its column; from PostgreSQL 18 on it is a constraint as well.
_CONSTRAINTS = """
    SELECT c.relname, format('    CONSTRAINT %s %s', k.conname, pg_get_constraintdef(k.oid))
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
    WHERE k.connamespace = 'public'::regnamespace AND k.contype <> 'n' ORDER BY c.relname, k.contype, k.conname
"""
_INDEXES = """
    SELECT i.indexdef || ';' FROM pg_indexes i
    WHERE i.schemaname = 'public' AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conname = i.indexname)
    ORDER BY i.tablename, i.indexname
"""
_HEAD = "-- What the migrations make; written by scripts/dump_schema.py.\n"


async def describe(db: AsyncConnection) -> str:
    """Write the schema as text."""
    types = [str(row[0]) for row in await (await db.execute(_TYPES)).fetchall()]
    tables: dict[str, list[str]] = {}
    for query in (_COLUMNS, _CONSTRAINTS):
        for name, line in await (await db.execute(query)).fetchall():
            tables.setdefault(str(name), []).append(str(line))
    indexes = [str(row[0]) for row in await (await db.execute(_INDEXES)).fetchall()]
    made = [f"CREATE TABLE {name} (\n" + ",\n".join(lines) + "\n);" for name, lines in sorted(tables.items())]
    return "\n\n".join([_HEAD, "\n".join(types), *made, "\n".join(indexes)]) + "\n"
