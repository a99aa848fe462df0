package postgres_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"sallyport.dev/sallyport/policy/approval"
)

// What was approved means the same when it runs: the settings by which values are
// read are part of it, and do not change in a session that may need approvals.
func TestApprovalOfReadings(t *testing.T) {
	a := newAsking(t, "wait: retry")
	const sql = "INSERT INTO public.asked VALUES (extract(month FROM DATE '01/02/2026')::int + 77700, 'approved')"
	american := connect(t, a.proxy, "options='-c datestyle=iso,mdy' default_query_exec_mode=simple_protocol")
	_, err := american.Exec(t.Context(), sql)
	id := refusedFor(t, err)
	if e, err := a.book.Show(id); err != nil || !slices.Contains(e.What.Settings, "datestyle=ISO, MDY") || !slices.ContainsFunc(e.What.Settings, func(s string) bool { return strings.HasPrefix(s, "timezone=") }) {
		t.Errorf("%v: %+v", err, e.What)
	}
	a.decide(id, approval.Approve)
	european := connect(t, a.proxy, "options='-c datestyle=iso,dmy' default_query_exec_mode=simple_protocol")
	if _, err := european.Exec(t.Context(), sql); refusedFor(t, err) == id {
		t.Error("another day is the same request")
	}
	for _, change := range []string{
		"SET datestyle = 'iso, dmy'", "SET LOCAL datestyle = 'dmy'", "SET TIME ZONE 'Asia/Tokyo'", "SET intervalstyle = iso_8601",
		"SET lc_monetary = 'C'", "SET SESSION lc_numeric = 'C'", "SET lc_time = 'C'", "SET xmloption = document", "SET XML OPTION DOCUMENT",
		"SELECT set_config('datestyle', 'iso, dmy', false)", "BEGIN; SET datestyle = 'dmy'; COMMIT",
		"SET extra_float_digits = -15", "SET extra_float_digits = '0'", "SET bytea_output = escape", "SET xmlbinary = hex", "SET quote_all_identifiers = on",
		"SET gin_fuzzy_search_limit = 1", "SET seed = 0.5",
		"SET search_path = clinic", "SET LOCAL search_path = clinic", "SELECT set_config('search_path', 'clinic', false)", "SELECT pg_catalog.set_config('TimeZone', 'UTC', false)",
	} {
		var pe *pgconn.PgError
		if _, err := american.Exec(t.Context(), change); !errors.As(err, &pe) || !strings.Contains(pe.Message, "sallyport: refused") {
			t.Errorf("%s: %v", change, err)
		}
	}
	for _, harmless := range []string{"RESET datestyle", "SET datestyle TO DEFAULT", "SET statement_timeout = 0", "SET extra_float_digits = 3", "RESET ALL"} {
		if _, err := american.Exec(t.Context(), harmless); err != nil {
			t.Errorf("%s: %v", harmless, err)
		}
	}
	if _, err := american.Exec(t.Context(), sql); err != nil {
		t.Error(err)
	}
	if got := count(t, "SELECT string_agg(a::text, ' ') FROM public.asked WHERE a BETWEEN 77700 AND 77799"); got != "77701" {
		t.Errorf("it put %s there", got)
	}
}
