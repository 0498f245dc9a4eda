"""Who may do what: roles as data, one rule for checks and for queries."""
