# Holds conversations, given as JSON, with psycopg 3, which begins a transaction
# by itself, and prints what a program sees of the answers.
import json, sys
import psycopg


def converse(dsn, number, statements):
    seen = []
    alone = any(s.upper().startswith("BEGIN") for s in statements)
    with psycopg.connect(dsn, autocommit=alone) as c:
        c.add_notice_handler(lambda n: seen.append([n.severity, n.sqlstate, n.message_primary, n.message_detail, n.context]))
        for sql in statements:
            try:
                cur = c.cursor(binary=number % 2 == 1 and "; " not in sql)
                if sql.upper().startswith("COPY") and "STDOUT" in sql.upper():
                    with cur.copy(sql) as copy:
                        seen += [bytes(b).decode("latin-1") for b in copy]
                else:
                    cur.execute(sql)
                while cur.description or cur.statusmessage:
                    if cur.description:
                        seen.append([[d.name, d.type_code] for d in cur.description])
                        seen += [[None if v is None else repr(v) for v in row] for row in cur.fetchall()]
                    seen.append(cur.statusmessage)
                    if not cur.nextset():
                        break
            except psycopg.Error as e:
                d = e.diag
                seen.append([type(e).__name__, d.sqlstate, str(e), d.message_detail, d.message_hint, d.context, d.statement_position])
                if c.closed:
                    break
                seen.append(c.info.transaction_status.name)
                if not alone:  # the error failed the transaction, and a program ends it
                    c.rollback()
                    seen.append(c.info.transaction_status.name)
        if not c.closed:
            c.rollback()
    return seen


job = json.load(sys.stdin)
json.dump([converse(job["DSN"], i, s) for i, s in enumerate(job["Statements"])], sys.stdout)
