package catalog

import (
	"context"
	"fmt"
	"net"
	"os"
	"testing"

	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

var server *postgrestest.Server

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if server, err = postgrestest.Start("CREATE ROLE sallyport_catalog LOGIN"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer server.Stop()
	return m.Run()
}

func open(t testing.TB, database string) *Catalog {
	t.Helper()
	c, err := Open(t.Context(), Options{
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", server.Addr.String())
		},
		User: "sallyport_catalog", Database: database,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
