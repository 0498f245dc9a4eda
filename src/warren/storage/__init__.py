"""All SQL: one module per entity, migrations, notifications."""
