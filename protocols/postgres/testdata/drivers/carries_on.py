# Has psycopg 3 and 2, SQLAlchemy and ODBC be refused, and prints what each makes of
# it and whether it carries on. Arguments are a connection string and the verb of what
# is refused, and again.
import sys

import psycopg
import psycopg2
import pyodbc
import sqlalchemy as sa

READ = "SELECT ssn FROM clinic.patients WHERE id = 1"
NO = "DELETE FROM clinic.patients WHERE id = 1"  # the verb is an argument


def attempt(f, *args, **kw):
    try:
        return f(*args, **kw)
    except (psycopg.Error, psycopg2.Error) as e:
        return e.sqlstate if isinstance(e, psycopg.Error) else e.pgcode
    except pyodbc.Error as e:
        return e.args[0]
    except sa.exc.DBAPIError as e:
        return e.orig.pgcode


def say(*words):
    print(*words)


def transactions(name, cur, commit, rollback):
    """What any driver does with a transaction that it has begun."""

    def one(sql, *args):
        cur.execute(sql, *args)
        return cur.fetchone()[0]

    rollback()
    say(name, "before", one(READ), "refused", attempt(cur.execute, NO), "then", attempt(one, READ), "then", attempt(cur.execute, NO))
    rollback()
    say(name, "rolled back", one(READ))
    attempt(cur.execute, NO)
    say(name, "commit of a failed one", attempt(commit))
    rollback()
    one(READ)
    cur.execute("SAVEPOINT s")
    say(name, "savepoint", attempt(cur.execute, NO))
    cur.execute("ROLLBACK TO SAVEPOINT s")
    say(name, "behind it", one(READ))
    commit()
    say(name, "committed", one(READ))
    rollback()


def alone(name, cur):
    """Each statement by itself."""
    for _ in range(2):
        refused = attempt(cur.execute, NO)
        cur.execute(READ)
        say(name, "alone", refused, "then", cur.fetchone()[0])
    refused = attempt(cur.execute, "SELECT 1; " + NO + "; SELECT 2")
    cur.execute(READ)
    say(name, "several", refused, "then", cur.fetchone()[0])


def psycopg_3(dsn):
    with psycopg.connect(dsn) as c:
        status = lambda: c.info.transaction_status.name
        for binary in (False, True):
            transactions("psycopg 3", c.cursor(binary=binary), c.commit, c.rollback)
        cur = c.cursor()
        for i in range(7):  # it prepares what comes often
            say("psycopg 3 prepared", attempt(cur.execute, NO.replace("1", "%s"), (i,), prepare=True), status())
            c.rollback()
            say(cur.execute("SELECT ssn FROM clinic.patients WHERE id = %s", (1,), prepare=True).fetchone()[0], status())

        def batch(*statements):
            cursors = [c.cursor() for _ in statements]
            with c.pipeline():
                for k, sql in zip(cursors, statements):
                    k.execute(sql)
            return [k.fetchone()[0] for k in cursors]

        c.rollback()
        say("psycopg 3 pipeline", attempt(batch, READ, NO, READ), status())
        c.rollback()
        say("psycopg 3 behind it", batch(READ, READ), status())
        c.rollback()

        def synced():
            out = []
            with c.pipeline() as p:
                k = c.cursor().execute(READ)
                p.sync()
                out.append(k.fetchone()[0])
                out.append(attempt(lambda: (c.execute(NO), p.sync())))
                c.rollback()
                out.append(c.execute(READ).fetchone()[0])
            return out

        say("psycopg 3 pipeline in pieces", synced())
        c.rollback()

        def nested():
            with c.transaction():
                attempt(inner)
                return c.execute(READ).fetchone()[0]

        def inner():
            with c.transaction():
                c.execute(NO)

        say("psycopg 3 nested", nested(), status())

        def copied():
            with c.cursor().copy("COPY (SELECT ssn FROM clinic.patients WHERE id = 1) TO STDOUT") as k:
                return list(k.rows())[0][0]

        def stolen():
            with c.cursor().copy("COPY (%s RETURNING id) TO STDOUT" % NO) as k:
                return list(k.rows())

        say("psycopg 3 copy", copied(), "refused", attempt(stolen), status())
        c.rollback()
        say("psycopg 3 behind it", copied())
    with psycopg.connect(dsn, autocommit=True) as c:
        alone("psycopg 3", c.cursor())
        with psycopg.ClientCursor(c) as cur:  # simple protocol
            alone("psycopg 3 simple", cur)
        say("psycopg 3 by itself", attempt(batch, READ, NO), c.info.transaction_status.name)


def psycopg_2(dsn):
    c = psycopg2.connect(dsn)
    transactions("psycopg 2", c.cursor(), c.commit, c.rollback)
    named = c.cursor("named")
    named.itersize = 1
    named.execute("SELECT id FROM clinic.patients ORDER BY id")
    named.fetchone()
    say("psycopg 2 cursor", attempt(c.cursor().execute, NO), "then", attempt(named.fetchone), c.get_transaction_status())
    c.rollback()
    c.autocommit = True
    alone("psycopg 2", c.cursor())
    c.close()


def odbc(dsn):
    v = dict(p.split("=") for p in dsn.split())
    for level in (0, 1, 2):  # of what it undoes by itself: nothing, the transaction, the statement
        c = pyodbc.connect(
            "Driver={PostgreSQL Unicode};Server=%s;Port=%s;Database=%s;Uid=%s;Protocol=7.4-%d" % (v["host"], v["port"], v["dbname"], v["user"], level)
        )
        cur = c.cursor()
        one = lambda sql, *a: cur.execute(sql, *a).fetchone()[0]
        name = "ODBC %d" % level
        if level == 0:
            transactions(name, cur, c.commit, c.rollback)
        else:
            say(name, one(READ), "refused", attempt(cur.execute, NO), "then", attempt(one, READ))
            c.rollback()
        for i in range(3):
            say(name, "prepared", attempt(cur.execute, NO.replace("1", "?"), i))
            c.rollback()
            say(one("SELECT ssn FROM clinic.patients WHERE id = ?", 1))
        c.rollback()
        c.autocommit = True
        alone(name, cur)
        c.close()


def sqlalchemy(dsn):
    for driver in ("psycopg2", "psycopg"):
        v = dict(p.split("=") for p in dsn.split())
        try:
            e = sa.create_engine("postgresql+%s://%s@%s:%s/%s" % (driver, v["user"], v["host"], v["port"], v["dbname"]))
        except sa.exc.NoSuchModuleError:  # before SQLAlchemy 2 it knows one of them
            continue
        with e.connect() as c:
            one = lambda: c.execute(sa.text(READ)).scalar()
            with c.begin():
                say("SQLAlchemy", one())
                try:
                    with c.begin_nested():
                        c.execute(sa.text(NO))
                except sa.exc.DBAPIError as x:
                    say("SQLAlchemy nested", x.orig.pgcode, one())
            say("SQLAlchemy", attempt(lambda: c.execute(sa.text(NO))))
            c.rollback() if hasattr(c, "rollback") else None
        with e.begin() as c:  # the pool's connection again
            say("SQLAlchemy pool", c.execute(sa.text(READ)).scalar())
        columns = sa.inspect(e).get_columns("patients", "clinic")
        say("SQLAlchemy introspection", len(columns), sa.inspect(e).get_pk_constraint("patients", "clinic")["constrained_columns"])


for dsn, verb in zip(sys.argv[1::2], sys.argv[2::2]):
    print("====")
    NO = verb + " FROM clinic.patients WHERE id = 1"
    for driver in (psycopg_3, psycopg_2, odbc, sqlalchemy):
        driver(dsn)
