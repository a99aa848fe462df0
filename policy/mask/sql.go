package mask

import (
	"strconv"
	"strings"

	"sallyport.dev/sallyport/policy"
)

// SQL returns the PostgreSQL expression that stands in place of a column of a
// built-in type, "" for NULL. fixed reports that every row shows the same text.
// Names are qualified, so that nothing of a search path can change what it
// means, and nothing in it depends on a setting that a session may change.
func SQL(m policy.Mask, column, typ string) (sql string, fixed bool, err error) {
	if err := Check(m); err != nil {
		return "", false, err
	}
	m = unkeyed(m)
	q := `"` + strings.ReplaceAll(column, `"`, `""`) + `"`
	switch {
	case m.Kind == Redact && isText(typ):
		k := "'" + strings.ReplaceAll(constant(m), "'", "''") + "'"
		return "CASE WHEN " + q + " IS NULL THEN NULL ELSE " + k + " END::pg_catalog." + typ, true, nil
	case m.Kind == Partial && isText(typ):
		return partialSQL(m, q, typ), false, nil
	case m.Kind == Year:
		return yearSQL(q, typ), false, nil
	}
	return "", false, nil
}

// partialSQL: each part is total, whatever the length, since nothing promises
// in which order they are computed.
func partialSQL(m policy.Mask, q, typ string) string {
	first, last, both := strconv.Itoa(m.First), strconv.Itoa(m.Last), strconv.Itoa(m.First+m.Last)
	text := q + "::pg_catalog.text"
	middle := "pg_catalog.substr(" + text + ", " + strconv.Itoa(m.First+1) + ")"
	if m.Last > 0 {
		middle = "pg_catalog.left(" + middle + ", -" + last + ")"
	}
	secret := "'[^" + separators + "]'"
	return "CASE WHEN " + q + " IS NULL THEN NULL" +
		" WHEN pg_catalog.length(" + text + ") OPERATOR(pg_catalog.>) " + both + " AND " + middle + " OPERATOR(pg_catalog.~) " + secret +
		" THEN pg_catalog.concat(pg_catalog.left(" + text + ", " + first + "), pg_catalog.regexp_replace(" + middle + ", " + secret + ", '*', 'g'), pg_catalog.right(" + text + ", " + last + "))" +
		" ELSE '" + hidden + "' END::pg_catalog." + typ
}

// yearSQL: in UTC where a moment is meant. In the session's time zone, which
// is the client's to choose, a value near the turn of the year could be found
// out by moving the zone.
func yearSQL(q, typ string) string {
	switch typ {
	case "date": // may be too far away for a timestamp
		return "CASE WHEN pg_catalog.isfinite(" + q + ") THEN pg_catalog.make_date(pg_catalog.extract('year', " + q + ")::pg_catalog.int4, 1, 1) ELSE " + q + " END"
	case "timestamp":
		return "pg_catalog.date_trunc('year', " + q + ")"
	case "timestamptz":
		return "pg_catalog.date_trunc('year', " + q + ", 'UTC')"
	}
	return ""
}
