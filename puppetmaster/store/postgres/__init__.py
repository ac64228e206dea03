"""The store in PostgreSQL, for installations that outgrow one machine. Nothing else imports psycopg."""
