package rewrite_test

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"sallyport.dev/sallyport/protocols/postgres/catalog"
)

func TestCatalogFollowsChanges(t *testing.T) {
	c := openCatalog(t)
	conn := connect(t)
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	refresh := func() *catalog.Snapshot {
		t.Helper()
		if err := c.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		return c.Snapshot()
	}
	first := refresh()
	if refresh() != first {
		t.Error("the same catalog was read twice")
	}
	exec("CREATE TEMP TABLE passing (id int)")
	second := refresh()
	if second == first || len(second.ByName["passing"]) != 1 || second.Version != first.Version {
		t.Errorf("a temporary table: version %d after %d, %v", second.Version, first.Version, second.ByName["passing"])
	}
	exec("CREATE TABLE public.lasting (id int)")
	defer exec("DROP TABLE public.lasting")
	third := refresh()
	if third.Version != first.Version+1 || len(third.ByName["lasting"]) != 1 {
		t.Errorf("a table: version %d after %d", third.Version, first.Version)
	}
	for _, ddl := range []string{
		"ALTER TABLE public.lasting ADD COLUMN v text DEFAULT 'x'", "ALTER TABLE public.lasting ENABLE ROW LEVEL SECURITY",
		"CREATE POLICY p ON public.lasting USING (true)", "CREATE FUNCTION public.fresh() RETURNS int LANGUAGE sql AS 'SELECT 1'",
		"ALTER TABLE public.lasting ADD CHECK (id > 0)", "DROP FUNCTION public.fresh()", "CREATE UNIQUE INDEX ON public.lasting (v)",
	} {
		before := c.Snapshot().Version
		exec(ddl)
		if refresh().Version == before {
			t.Errorf("not seen: %s", ddl)
		}
	}
	// The side connection is lost: the next reading makes another.
	exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sallyport catalog'")
	refresh()
	c.Close()
	refresh()
}

func TestCatalogRefuses(t *testing.T) {
	conn := connect(t)
	if _, err := conn.Exec(t.Context(), "CREATE DATABASE ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"); err != nil {
		t.Fatal(err)
	}
	dial := func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(socket, ".s.PGSQL.5432"))
	}
	_, err := catalog.Open(t.Context(), catalog.Options{Dial: dial, User: "sallyport_catalog", Database: "ascii"})
	if err == nil || !strings.Contains(err.Error(), "UTF8") {
		t.Errorf("another encoding: %v", err)
	}
	if _, err := conn.Exec(t.Context(), "ALTER ROLE sallyport_catalog IN DATABASE postgres SET standard_conforming_strings = off"); err != nil {
		t.Fatal(err)
	}
	_, err = catalog.Open(t.Context(), catalog.Options{Dial: dial, User: "sallyport_catalog", Database: "postgres"})
	if err == nil || !strings.Contains(err.Error(), "standard_conforming_strings") {
		t.Errorf("strings with escapes: %v", err)
	}
	if _, err := conn.Exec(t.Context(), "ALTER ROLE sallyport_catalog IN DATABASE postgres RESET ALL"); err != nil {
		t.Fatal(err)
	}
	for _, o := range []catalog.Options{{}, {Dial: dial, User: "x"}, {Dial: dial, User: "nobody at all", Database: "postgres"}} {
		if c, err := catalog.Open(t.Context(), o); err == nil {
			c.Close()
			t.Errorf("%+v was taken", o)
		}
	}
}
