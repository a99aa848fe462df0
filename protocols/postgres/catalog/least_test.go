package catalog

import (
	"context"
	"errors"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// The role that the manual has people make reads all that its owner would of a
// database that is closed to everybody else, and no row of any table.
func TestDocumentedRoleReadsNoTable(t *testing.T) {
	manual, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	grants := regexp.MustCompile("(?s)```sql\n(CREATE ROLE sallyport_catalog .*?)```").FindSubmatch(manual)
	if grants == nil {
		t.Fatal("the manual has no grants for the catalog's role")
	}
	role := strings.NewReplacer("sallyport_catalog", "least_catalog", "DATABASE clinic", "DATABASE least").Replace(string(grants[1]))
	for _, sql := range []string{"CREATE DATABASE least", "REVOKE ALL ON DATABASE least FROM PUBLIC", role} {
		for s := range strings.SplitSeq(strings.TrimSuffix(strings.TrimSpace(sql), ";"), ";") {
			if err := server.Exec(t.Context(), s); err != nil {
				t.Fatal(s, err)
			}
		}
	}
	owner, err := pgconn.Connect(t.Context(), strings.Replace(server.DSN("postgres"), "dbname=postgres", "dbname=least", 1))
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close(context.Background())
	const things = `REVOKE ALL ON SCHEMA public FROM PUBLIC; CREATE SCHEMA shut;
		CREATE TYPE shut.mood AS ENUM ('low', 'high'); CREATE DOMAIN shut.code AS text CHECK (VALUE <> 'x');
		CREATE TABLE shut.patients (id int PRIMARY KEY, ssn text NOT NULL DEFAULT 'CANARY', mood shut.mood, code shut.code, CHECK (length(ssn) > 3));
		CREATE TABLE shut.visits (id int PRIMARY KEY, patient int REFERENCES shut.patients ON DELETE CASCADE);
		CREATE VIEW shut.names AS SELECT ssn FROM shut.patients WHERE id > 7; CREATE MATERIALIZED VIEW shut.kept AS SELECT ssn FROM shut.patients;
		CREATE FUNCTION shut.f(int) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM shut.patients WHERE id = $1'; REVOKE ALL ON FUNCTION shut.f FROM PUBLIC;
		ALTER TABLE shut.patients ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON shut.patients USING (id > 1);
		INSERT INTO shut.patients VALUES (8, 'CANARY', 'low', 'y'); REFRESH MATERIALIZED VIEW shut.kept; ANALYZE`
	if _, err := owner.Exec(t.Context(), things).ReadAll(); err != nil {
		t.Fatal(err)
	}
	as := func(user string) *Catalog {
		c, err := Open(t.Context(), Options{
			Dial: func(ctx context.Context) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "tcp", server.Addr.String())
			},
			User: user, Database: "least",
		})
		if err != nil {
			t.Fatal(user, err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	if least, all := told(as("least_catalog").Snapshot()), told(as("postgres").Snapshot()); !slices.Equal(least, all) || !slices.ContainsFunc(least, func(l string) bool { return strings.Contains(l, "patients") }) {
		t.Errorf("the role reads\n%s\nand its owner\n%s", strings.Join(least, "\n"), strings.Join(all, "\n"))
	}
	c, err := Connect(t.Context(), Options{
		Dial: func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", server.Addr.String())
		},
		User: "least_catalog", Database: "least",
	}, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	for _, sql := range []string{
		"TABLE shut.patients", "TABLE shut.names", "TABLE shut.kept", "SELECT shut.f(8)", "TABLE pg_statistic", "TABLE pg_authid",
		"COPY shut.patients TO STDOUT", "SET ROLE postgres", "SELECT pg_read_file('postgresql.conf')", "CREATE TABLE public.x ()", "CREATE TEMP TABLE x ()",
	} {
		var e *pgconn.PgError
		if _, err := c.PgConn().Exec(t.Context(), sql).ReadAll(); !errors.As(err, &e) || e.Code != "42501" {
			t.Errorf("%s: %v", sql, err)
		}
	}
	var n int
	if err := c.QueryRow(t.Context(), "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm') AND relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema') AND (has_table_privilege(oid, 'SELECT') OR has_any_column_privilege(oid, 'SELECT'))").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d tables can be read: %v", n, err)
	}
}
