# Migrations by drivers that begin a transaction with the first statement.
import sys

import psycopg
import psycopg2


def migrate(connect, error, name):
    c = connect(sys.argv[1])
    cur = c.cursor()
    cur.execute("CREATE TABLE migrated (id serial PRIMARY KEY, note text)")
    cur.execute("INSERT INTO migrated (note) VALUES (%s) RETURNING id", ("first",))
    assert cur.fetchone() == (1,)
    cur.execute("SELECT note FROM migrated WHERE id = %s", (1,))
    assert cur.fetchone() == ("first",)
    cur.execute("CREATE INDEX ON migrated (note)")
    cur.execute("CREATE TEMPORARY TABLE scratch AS SELECT note FROM migrated")
    cur.execute("SELECT s.note, p.ssn FROM scratch s, clinic.patients p WHERE p.id = %s", (1,))
    assert cur.fetchone() == ("first", "***-**-0001")
    c.rollback()
    try:
        cur.execute("SELECT note FROM migrated")
        raise AssertionError("it is there")
    except error:
        c.rollback()
    cur.execute("CREATE TABLE migrated (id serial PRIMARY KEY, note text)")
    cur.execute("SAVEPOINT s")
    cur.execute("DROP TABLE migrated")
    cur.execute("ROLLBACK TO SAVEPOINT s")
    cur.execute("SELECT count(*) FROM migrated")
    assert cur.fetchone() == (0,)
    c.commit()
    cur.execute("DROP TABLE migrated")
    c.commit()
    c.close()
    print(name, "done")


migrate(psycopg2.connect, psycopg2.errors.UndefinedTable, "psycopg2")
migrate(psycopg.connect, psycopg.errors.UndefinedTable, "psycopg")
