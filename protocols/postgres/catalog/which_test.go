package catalog

import (
	"context"
	"net"
	"strings"
	"testing"
)

// A database is known by its numbers: another one that gets its name is not it.
func TestWhichDatabase(t *testing.T) {
	of := func(database string) string {
		t.Helper()
		c, err := Open(t.Context(), Options{
			Dial: func(ctx context.Context) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "tcp", server.Addr.String())
			},
			User: "which_catalog", Database: database,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.Snapshot().Of
	}
	create := func() {
		t.Helper()
		if err := server.Exec(t.Context(), "CREATE DATABASE which"); err != nil {
			t.Fatal(err)
		}
	}
	if err := server.Exec(t.Context(), "CREATE ROLE which_catalog LOGIN"); err != nil {
		t.Fatal(err)
	}
	create()
	first := of("which")
	if n, own, _ := strings.Cut(first, "/"); n == "" || own == "" || !Same(first, of("which")) || Same(first, of("postgres")) {
		t.Errorf("it is %q", first)
	}
	if err := server.Exec(t.Context(), "DROP DATABASE which"); err != nil {
		t.Fatal(err)
	}
	create()
	if now := of("which"); Same(first, now) {
		t.Errorf("another one is %q too", now)
	}
	for pair, want := range map[[2]string]bool{{"1/2", "1/2"}: true, {"/2", "1/2"}: true, {"1/2", "/2"}: true, {"1/2", "3/2"}: false, {"1/2", "1/3"}: false, {"", ""}: false, {"1/", "1/"}: false} {
		if Same(pair[0], pair[1]) != want {
			t.Errorf("%q", pair)
		}
	}
}
