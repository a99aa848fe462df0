# Asks through psycopg 3 and 2 what would be decided, and prints the verdicts.
import sys
import psycopg, psycopg2

dsn = sys.argv[1]
c = psycopg.connect(dsn)  # it begins a transaction by itself
for binary in (False, True):
    cur = c.cursor(binary=binary)
    cur.execute("SET sallyport.explain = on")
    for i in range(7):  # it prepares what comes often
        cur.execute("SELECT ssn FROM clinic.patients WHERE id = %s", (1,))
        row = cur.fetchone()
    assert row[6]["verdict"] == row[0] == "mask", row
    cur.execute("DELETE FROM clinic.patients WHERE id = %s", (1,))
    row = cur.fetchone()
    assert row[6]["refused"] == "rule" and row[3] == "42501", row
    c.rollback()
    cur.execute("SELECT 40 + 2")
    assert cur.fetchone() == (42,)
    c.commit()
print("psycopg 3")
c = psycopg2.connect(dsn)
cur = c.cursor()
cur.execute("SET LOCAL sallyport.explain TO 'on'")
cur.execute("INSERT INTO clinic.patients (id) VALUES (%s)", (1,))
assert cur.fetchone()[0] in ("refuse", "mask", "allow")
c.commit()
cur.execute("SELECT 40 + 2")
assert cur.fetchone() == (42,)
print("psycopg 2")
